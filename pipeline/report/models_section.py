"""The section of the report on trained models: the newest run of each name and protocol, beside baselines."""

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
from pipeline.corpus.recipe_training import all_settings, model_class
from pipeline.errors import InputError
from pipeline.pages.table import Cell, Sheet, amount, cell
from pipeline.plan.session import Session
from pipeline.report.probes_section import Line, Probe, bounds, headline, score_name
from pipeline.score import metrics
from pipeline.score.predictions import FILE
from pipeline.stage import Target
from pipeline.train.best_test import ABOUT
from pipeline.views.build_view import column_keys

log = logging.getLogger(__name__)

FOLDS, FEATURES, SETTINGS = "folds or labels", "features", "settings"
"""What may have changed in the recipe since a run was trained."""

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    ended_s: the Unix time of its end. features: the feature set of its model. bound: the accuracy that is known to be
    possible on its test rows. stale: what the recipe now gives otherwise than it did then. stem: `RunName.stem`.
    """

    answer: Answer
    folder: Path
    ended_s: float
    features: str
    bound: float | None
    stale: Sequence[str]
    stem: str = ""

    @property
    def name(self) -> str:
        """What the run is called, and its protocol."""
        return f"{self.answer.get('name', self.answer['model'])}, {self.answer['protocol']}"

    @property
    def folds(self) -> Sequence[Answer]:
        """The result of each fold, a FoldResult as JSON."""
        folds: Sequence[Answer] = self.answer["folds"]
        return folds

    @property
    def predictions(self) -> Sequence[Path]:
        """The file of predictions of each fold; it may be gone."""
        return [self.folder / fold["fold"] / FILE for fold in self.folds]

    @property
    def pooled(self) -> Answer:
        """The scores of the test rows of all folds as one set."""
        scores: Answer = self.answer["metrics"]["pooled"]
        return scores

    @property
    def target(self) -> Target:
        """The target that every fold predicts."""
        target = self.folds[0]["target"]
        return Target(target["task"], tuple(target["classes"]))

    @property
    def line(self) -> Line:
        """The model's line in the table of scores: means over folds, as for a probe."""
        scores = self.answer["metrics"]["mean"]
        return Line(self.name, scores, scores, self.bound)

    @property
    def missed(self) -> float | None:
        """The bound minus the accuracy on all test rows; negative if the model is above the bound."""
        return Line(self.name, metrics.scalars(self.pooled), {}, self.bound).missed

    def seen(self, count: str) -> int:
        """A count of rows, summed over folds."""
        return sum(fold["counts"].get(count, 0) for fold in self.folds)


def trained(session: Session) -> list[Trained]:
    """The newest run of each name and protocol on this dataset. Damaged files are left out, with a line in the log."""
    folder = session.home.runs / session.corpus.recipe.home_name
    runs = [_trained(session, path) for path in sorted(folder.glob("*.json"))]
    return [run for run in runs if run is not None]


def _trained(session: Session, path: Path) -> Trained | None:
    try:
        answer = json.loads(path.read_text())
        folder = path.parent / Path(answer["run"]).name
        for fold in answer["folds"]:
            fold["predictions"] = str(folder / fold["fold"] / FILE)  # a home may have been copied
        features, then = _features(answer["model"]), _under(session, answer["protocol"])
        bound = None
        stale = [FOLDS]
        if then is not None and _same_folds(answer, then.corpus):
            bound = bounds(then.corpus, [i for fold in then.corpus.folds for i in fold.test]).get("all")
            same = {FEATURES: _same_features(answer, then, features), SETTINGS: _same_settings(answer, then)}
            stale = [name for name, holds in same.items() if not holds]
        return Trained(answer, folder, path.stat().st_mtime, features, bound, stale, path.stem)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        log.warning("%s does not hold a run of a model, so the report leaves it out: %r", path, error)
        return None


def _features(model: str) -> str:
    try:
        return str(model_class(model).features)
    except InputError:
        return ""  # the model's file is gone, but its scores are not


def _under(session: Session, protocol: str) -> Session | None:
    """The session under a run's own protocol, which may differ from the report's; None if there are no such folds."""
    try:
        then = session.under(protocol)
        return then if then.corpus.folds else None
    except InputError:
        return None


def _same_folds(answer: Answer, corpus: Corpus) -> bool:
    """True if the run has the target and the folds, row by row, that the recipe gives now."""
    target = {"task": corpus.target.task, "classes": list(corpus.target.classes)}
    parts = {fold["fold"]: fold["digests"] for fold in answer["folds"]}
    same = all(fold["target"] == target for fold in answer["folds"])
    return same and parts == {fold.name: fold.digests for fold in corpus.folds}


def _same_features(answer: Answer, session: Session, features: str) -> bool:
    """False if the recipe gives other features now. True if they are not extracted, or the model is not known."""
    corpus = session.corpus
    if features not in corpus.recipe.features:
        return not features
    try:
        columns = [column_keys(corpus, session.catalogue, features, fold) for fold in corpus.folds]
        read = answer.get("settings", {}).get("modalities") or corpus.recipe.features[features]
        return bool(answer["columns"] == [{m: fold[m] for m in fold if m in read} for fold in columns])
    except (InputError, CorruptError):
        return True


def _same_settings(answer: Answer, session: Session) -> bool:
    """False if the recipe, with what `--set` changed for this run, gives other settings now."""
    settings, name = answer.get("settings"), answer["model"]
    if settings is None:
        return True
    changed = {change.partition("=")[0].strip() for change in answer["changes"]}
    try:
        now = all_settings(model_class(name), session.corpus.recipe.train.get(name, {}))
    except InputError:
        return False
    return all(settings.get(key) == value for key, value in now.items() if key not in changed)


# --- scores ----------------------------------------------------------------------------------------------------


def best_probe(run: Trained, probes: Sequence[Probe]) -> Probe | None:
    """The probe of the run's feature set that is best on validation, or of all sets if there is none of its own."""
    name, _ = headline(run.target, [run.line])
    scored = [probe for probe in probes if probe.line.scores.get(name) is not None]
    own = [probe for probe in scored if probe.features == run.features] or scored
    return max(own, key=lambda probe: probe.part("valid").get(name) or 0.0, default=None)


def scores(run: Trained, probes: Sequence[Probe]) -> Sheet:
    """Every metric of a run, beside the majority, the best probe, the complete rows, and the spread over folds."""
    best = best_probe(run, probes)
    beside = best.line.scores if best else {}
    complete = mean([fold["complete"] for fold in run.folds if fold["complete"]])
    valid = mean([fold["valid"] for fold in run.folds])
    chosen = mean([fold.get("best_test", {}) for fold in run.folds])
    shown = [name for name in metrics.scalars(run.pooled) if not name.startswith("majority_")]
    rows = [
        (
            score_name(n),
            run.pooled[n],
            run.pooled.get(f"majority_{n}"),
            beside.get(n),
            complete.get(n),
            valid.get(n),
            *_over(run, n),
            *([chosen.get(n)] if chosen else []),
        )
        for n in shown
    ]
    header = ["", "test", "majority", f"best probe ({best.name})" if best else "best probe", "complete rows", "valid"]
    many = ["mean ± deviation over folds"] if len(run.folds) > 1 else []
    best_epoch = ["best test epoch (chosen on test)"] if chosen else []
    note = _about_rows(run, best) + (ABOUT if chosen else "")
    return Sheet.of("Scores", header + many + best_epoch, rows, note)


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
    probe = " Best probe: on the test rows that have its modality" if best else ""
    probe += f"{', means over folds' if folds > 1 else ''}." if best else ""
    return f"{pooled}Complete rows: the {run.seen('test_complete'):,} test rows that have every modality.{empty}{probe}"


def mean(rows: Sequence[Answer]) -> dict[str, float]:
    """The mean of each number over the rows that have it."""
    known = {name: [row[name] for row in rows if isinstance(row.get(name), float)] for row in rows for name in row}
    return {name: float(np.mean(values)) for name, values in known.items() if values}


# --- effort ----------------------------------------------------------------------------------------------------


def facts(run: Trained) -> dict[str, str]:
    """The facts about a run's training, by name."""
    epochs = ", ".join(f"{fold['best_epoch'] + 1} of {fold['epochs']}" for fold in run.folds)
    first = run.folds[0]
    return {
        "Trained": time.strftime("%Y-%m-%d %H:%M", time.localtime(run.ended_s)),
        "Folds": f"{len(run.folds)}, seed {run.answer['seed']}",
        "Test rows": ", ".join(f"{fold['fold']} {fold['digests']['test'][:12]}" for fold in run.folds),
        "Parameters": f"{first['parameters']:,}",
        "Training": f"{amount(sum(fold['seconds'] for fold in run.folds), 's').text} on {_devices(run)}",
        "Kept epoch": epochs,
        "Standardised by": "each speaker's own rows, also of test" if first["transductive"] else _normalize(first),
        "Left out of training": f"{run.seen('train_left_out'):,} rows that have no modality",
        "Run": str(run.folder),
    }


def _devices(run: Trained) -> str:
    return ", ".join(sorted({str(fold["device"]) for fold in run.folds}))


def _normalize(fold: Answer) -> str:
    return {"train": "the train rows", "none": "nothing"}.get(fold["normalize"], str(fold["normalize"]))


# --- warnings --------------------------------------------------------------------------------------------------


def notices(run: Trained, probes: Sequence[Probe]) -> list[str]:
    """A sentence for everything about a run that is wrong or suspicious."""
    line, best = run.line, best_probe(run, probes)
    name, _ = headline(run.target, [line])
    score, trivial = line.scores.get(name), line.majority.get(f"majority_{name}")
    single = best.line.scores.get(name) if best else None
    checks = {
        f"was trained on other {' and '.join(run.stale)} than the recipe now gives: train it again": bool(run.stale),
        "was standardised with statistics of test rows (transductive)": any(f["transductive"] for f in run.folds),
        "does not beat the majority": _at_most(score, trivial),
        f"does not beat the best probe of a single modality, {best.name if best else ''} (means over folds; the probe "
        "is scored on the rows that have its modality)": _at_most(score, single),
        "exceeds the known bound by more than chance allows: look for a leak": _beyond(run),
    }
    return [f"{run.name} {sentence}." for sentence, holds in checks.items() if holds]


def _at_most(score: float | None, other: float | None) -> bool:
    return score is not None and other is not None and score <= other


def _beyond(run: Trained) -> bool:
    """True if the accuracy is above the bound by more than two standard errors."""
    if run.missed is None or run.bound is None:
        return False
    return -run.missed > 2 * math.sqrt(run.bound * (1 - run.bound) / run.seen("test"))
