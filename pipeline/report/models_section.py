"""What the report says of the trained models: the newest run of each model and protocol, beside what is trivial."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache.store import CorruptError
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe_training import model_class
from pipeline.errors import InputError
from pipeline.plan.session import Session
from pipeline.report.probes_section import Line, Probe, bounds, headline, told
from pipeline.report.table import Cell, Sheet, amount, cell
from pipeline.stage import Target
from pipeline.train import metrics
from pipeline.views.build_view import names

log = logging.getLogger(__name__)

FOLDS, FEATURES = "folds or labels", "features"
"""What a run may have had otherwise than the recipe now gives."""

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """A run as `training` left it: its answer, its folder, when it ended, the feature set it ate, the accuracy known
    to be possible on its test rows, and in what the recipe now gives something else than it had."""

    answer: Answer
    folder: Path
    when: float
    features: str
    bound: float | None
    stale: Sequence[str]

    @property
    def name(self) -> str:
        """Model and protocol."""
        return f"{self.answer['model']}, {self.answer['protocol']}"

    @property
    def folds(self) -> Sequence[Answer]:
        """What each fold gave, a FoldResult as JSON."""
        found: Sequence[Answer] = self.answer["folds"]
        return found

    @property
    def pooled(self) -> Answer:
        """The scores of the test rows of all folds as one set."""
        found: Answer = self.answer["metrics"]["pooled"]
        return found

    @property
    def target(self) -> Target:
        """What every fold of it predicts."""
        found = self.folds[0]["target"]
        return Target(found["task"], tuple(found["classes"]))

    @property
    def line(self) -> Line:
        """The model among the scores: as of a probe, means over folds."""
        scores = self.answer["metrics"]["mean"]
        return Line(self.name, scores, scores, self.bound)

    @property
    def missed(self) -> float | None:
        """The distance of the accuracy on all test rows from the bound; negative above it."""
        return Line(self.name, metrics.scalars(self.pooled), {}, self.bound).missed

    def seen(self, count: str) -> int:
        """A count of rows, summed over folds."""
        return sum(fold["counts"].get(count, 0) for fold in self.folds)


def trained(session: Session) -> list[Trained]:
    """The newest run of each model and protocol on this dataset; damaged files are left out with a line in the log."""
    place = session.home.runs / session.corpus.recipe.home_name
    found = [_trained(session, path) for path in sorted(place.glob("*.json"))]
    return [run for run in found if run is not None]


def _trained(session: Session, path: Path) -> Trained | None:
    try:
        answer = json.loads(path.read_text())
        folder = path.parent / Path(answer["run"]).name
        features, then = _features(answer["model"]), _under(session, answer["protocol"])
        bound = None
        stale = [FOLDS]
        if then is not None and _same_folds(answer, then.corpus):
            bound = bounds(then.corpus, [i for fold in then.corpus.folds for i in fold.test]).get("all")
            stale = [] if _same_features(answer, then, features) else [FEATURES]
        return Trained(answer, folder, path.stat().st_mtime, features, bound, stale)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        log.warning("%s is no run of a model, so it is not in the report: %r", path, error)
        return None


def _features(model: str) -> str:
    try:
        return str(model_class(model).features)
    except InputError:
        return ""  # the model's file is gone, its scores are not


def _under(session: Session, protocol: str) -> Session | None:
    """The session under a run's own protocol, which need not be that of the report; None where it has none any more."""
    try:
        then = session.under(protocol)
        return then if then.corpus.folds else None
    except InputError:
        return None


def _same_folds(answer: Answer, corpus: Corpus) -> bool:
    """True where the run predicted what the recipe now asks for, and had the rows of each part that it now gives."""
    target = {"task": corpus.target.task, "classes": list(corpus.target.classes)}
    parts = {fold["fold"]: fold["digests"] for fold in answer["folds"]}
    same = all(fold["target"] == target for fold in answer["folds"])
    return same and parts == {fold.name: fold.digests for fold in corpus.folds}


def _same_features(answer: Answer, session: Session, features: str) -> bool:
    """False where the recipe now gives other features; what is not extracted, or of an unknown model, is not judged."""
    corpus = session.corpus
    if features not in corpus.recipe.features:
        return not features
    try:
        return bool(answer["columns"] == [names(corpus, session.catalogue, features, fold) for fold in corpus.folds])
    except (InputError, CorruptError):
        return True


# --- scores ----------------------------------------------------------------------------------------------------


def best_probe(run: Trained, probes: Sequence[Probe]) -> Probe | None:
    """The probe of the run's own feature set that is best on test; of any set where its own is not known."""
    name, _ = headline(run.target, [run.line])
    able = [each for each in probes if each.line.scores.get(name) is not None]
    mine = [each for each in able if each.features == run.features] or able
    return max(mine, key=lambda each: each.line.scores[name] or 0.0, default=None)


def scores(run: Trained, probes: Sequence[Probe]) -> Sheet:
    """Every metric of a run, beside the majority, the best probe, the rows with all modalities, and over folds."""
    best = best_probe(run, probes)
    beside = best.line.scores if best else {}
    complete = mean([fold["complete"] for fold in run.folds if fold["complete"]])
    valid = mean([fold["valid"] for fold in run.folds])
    shown = [name for name in metrics.scalars(run.pooled) if not name.startswith("majority_")]
    rows = [
        (
            told(n),
            run.pooled[n],
            run.pooled.get(f"majority_{n}"),
            beside.get(n),
            complete.get(n),
            valid.get(n),
            *_over(run, n),
        )
        for n in shown
    ]
    header = ["", "test", "majority", f"best probe ({best.name})" if best else "best probe", "complete rows", "valid"]
    many = ["mean ± deviation over folds"] if len(run.folds) > 1 else []
    return Sheet.of("Scores", header + many, rows, _about_rows(run, best))


def _over(run: Trained, name: str) -> list[Cell]:
    if len(run.folds) < 2:
        return []
    mean, std = (run.answer["metrics"][kind].get(name) for kind in ("mean", "std"))
    return [cell(None) if mean is None or std is None else Cell(f"{mean:.4f} ± {std:.4f}", number=True)]


def _about_rows(run: Trained, best: Probe | None) -> str:
    folds = len(run.folds)
    pooled = (
        f"Test: the predictions of all {folds} folds scored as one set of {run.seen('test'):,} rows. "
        if folds > 1
        else ""
    )
    unseen = run.seen("test_left_out")
    empty = f" {unseen:,} test rows have no modality at all and are scored as the train majority." if unseen else ""
    probe = " The best probe: on the test rows that have its modality" if best else ""
    probe += f"{', means over folds' if folds > 1 else ''}." if best else ""
    return f"{pooled}Complete rows: the {run.seen('test_complete'):,} test rows that have every modality.{empty}{probe}"


def mean(rows: Sequence[Answer]) -> dict[str, float]:
    """The mean of each number over the rows that have it."""
    known = {name: [row[name] for row in rows if isinstance(row.get(name), float)] for row in rows for name in row}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


# --- effort ----------------------------------------------------------------------------------------------------


def facts(run: Trained) -> dict[str, str]:
    """How a run was made."""
    epochs = ", ".join(f"{fold['best_epoch'] + 1} of {fold['epochs']}" for fold in run.folds)
    first = run.folds[0]
    return {
        "Trained": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.when)),
        "Folds": f"{len(run.folds)}, seed {run.answer['seed']}",
        "Test rows": ", ".join(f"{fold['fold']} {fold['digests']['test'][:12]}" for fold in run.folds),
        "Parameters": f"{first['parameters']:,}",
        "Training": f"{amount(sum(fold['seconds'] for fold in run.folds), 's').text} on {_devices(run)}",
        "Kept epoch": epochs,
        "Standardised by": "each speaker's own rows, test too" if first["transductive"] else _normalize(first),
        "Left out of training": f"{run.seen('train_left_out'):,} rows without any modality",
        "Run": str(run.folder),
    }


def _devices(run: Trained) -> str:
    return ", ".join(sorted({str(fold["device"]) for fold in run.folds}))


def _normalize(fold: Answer) -> str:
    return {"train": "the train rows", "none": "nothing"}.get(fold["normalize"], str(fold["normalize"]))


# --- what to look at -------------------------------------------------------------------------------------------


def notices(run: Trained, probes: Sequence[Probe]) -> list[str]:
    """Sentences on what can't be right or wants a look."""
    line, best = run.line, best_probe(run, probes)
    name, _ = headline(run.target, [line])
    score, trivial = line.scores.get(name), line.majority.get(f"majority_{name}")
    single = best.line.scores.get(name) if best else None
    found = {
        f"was trained on other {' and '.join(run.stale)} than the recipe now gives: train it again": bool(run.stale),
        "was standardised with test rows (transductive)": any(fold["transductive"] for fold in run.folds),
        "does not beat the majority": _at_most(score, trivial),
        f"does not beat the best probe of a single modality, {best.name if best else ''}, by the means over folds, "
        "the probe's on the rows that have its modality": _at_most(score, single),
        "exceeds the known bound by more than chance allows: look for a leak": _beyond(run),
    }
    return [f"{run.name} {sentence}." for sentence, true in found.items() if true]


def _at_most(score: float | None, other: float | None) -> bool:
    return score is not None and other is not None and score <= other


def _beyond(run: Trained) -> bool:
    """True above the bound by more than two standard errors."""
    if run.missed is None or run.bound is None:
        return False
    return -run.missed > 2 * math.sqrt(run.bound * (1 - run.bound) / run.seen("test"))
