"""The section of the report on linear probes: one for each modality of each feature set, on every fold.

A probe measures what the features of one modality are worth. If it is much better on train rows than on test rows, the
features were fitted to the train rows (X9). Scores are kept on disk, so that a second report is quick.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import keys
from pipeline.cache.atomic import publish
from pipeline.cache.store import CorruptError
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Selection
from pipeline.errors import InputError
from pipeline.pages.table import Cell, Sheet
from pipeline.plan.session import Session
from pipeline.reader import Fold
from pipeline.score import metrics
from pipeline.score.linear_probe import SCORE, probe
from pipeline.stage import Modality, Target
from pipeline.views.build_view import build_column
from pipeline.views.view import View, open_view

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "test")

VERSION = 1
"""Raised when the probe of the same features gives other scores, so that kept scores are not used."""

GAP = 0.15
"""The largest gap, train minus test score, for which the report does not warn of a fitted stage."""

HEADLINE = {
    "multiclass": ("accuracy", "f1_weighted"),
    "multilabel": ("accuracy", "f1"),
    "regression": ("acc2_non0", "f1_non0"),
}
"""The two scores that summarise all others, by task. Of the first, higher is better."""

SIGNLESS = ("ccc", "mae")
"""The two scores of a regression whose signs say nothing: of several targets, or of one that never changes sign."""

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Line:
    """One line of the table of scores: a probe or a model, beside the majority and the known bound."""

    name: str
    scores: Scores
    majority: Scores
    bound: float | None

    @property
    def missed(self) -> float | None:
        """The known bound minus the accuracy; negative if the accuracy is above the bound."""
        accuracy = self.scores.get("accuracy")
        return None if self.bound is None or accuracy is None else self.bound - accuracy


@dataclass(frozen=True)
class Probe:
    """The probe of a modality.

    fitted: the fitted stages among its features. folds: the scores of `pipeline.score.linear_probe` by fold. why: the
    reason why there are none.
    """

    features: str
    modality: str
    fitted: tuple[str, ...]
    folds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    bound: float | None = None
    why: str = ""

    @property
    def name(self) -> str:
        """Modality and feature set."""
        return f"{self.modality} of {self.features}"

    def part(self, part: str) -> Scores:
        """The scores on train, valid or test: means over the folds in which they are defined."""
        return metrics.mean([metrics.scalars(fold[part]) for fold in self.folds.values() if fold[part]])

    @property
    def gap(self) -> float | None:
        """The train score minus the test score, mean over folds."""
        return metrics.mean([{"gap": fold["gap"]} for fold in self.folds.values()]).get("gap")

    @property
    def line(self) -> Line:
        """The probe's line in the table of scores, on test."""
        majority = metrics.mean([metrics.scalars(fold["majority"]) for fold in self.folds.values()])
        return Line(self.name, self.part("test"), majority, self.bound)

    def answer(self) -> dict[str, Any]:
        """The probe as JSON."""
        parts = {part: dict(self.part(part)) for part in PARTS}
        line = self.line
        return {**parts, "majority": dict(line.majority), "gap": self.gap, "bound": self.bound, "missed": line.missed}


def headline(target: Target, lines: Sequence[Line]) -> tuple[str, str]:
    """The two scores that summarise all of these lines.

    Of a regression these are scores of signs, unless the majority has every sign right, as with ratings from 1 to 5.
    """
    one_sided = any(line.majority.get("majority_acc2_non0") == 1.0 for line in lines)
    return SIGNLESS if target.several or one_sided else HEADLINE[target.task]


def score_name(name: str) -> str:
    """The name of a score as the report writes it."""
    return _NAMES.get(name, name.replace("_", " ").capitalize())


_NAMES = {"f1_weighted": "Weighted F1", "f1_macro": "Macro F1", "uar": "UAR", "mae": "MAE", "ccc": "CCC"}


def probes(session: Session) -> Iterator[Probe]:
    """The probe of each modality of each feature set, computed now or kept by an earlier report."""
    for features, selections in session.corpus.recipe.features.items():
        for modality, selection in selections.items():
            yield _probe(session, features, modality, selection)


def _probe(session: Session, features: str, modality: Modality, selection: Selection) -> Probe:
    fitted = dict.fromkeys(node.name for part in selection.parts for node in part.walk() if node.stage.fitted)
    empty = Probe(features, modality, tuple(fitted))
    folds = session.corpus.folds
    if not folds:
        return replace(empty, why="there are no labels")
    try:
        results = [_fold(session, features, modality, fold) for fold in folds]
    except (InputError, CorruptError) as error:
        return replace(empty, why=str(error))
    known = [bound for _, bound in results if bound is not None]
    bound = float(np.mean(known)) if known else None
    return replace(empty, folds={f.name: scores for f, (scores, _) in zip(folds, results, strict=True)}, bound=bound)


def _fold(session: Session, features: str, modality: Modality, fold: Fold) -> tuple[dict[str, Any], float | None]:
    """The scores of a probe on one fold, and the known bound of the test rows that have the modality."""
    corpus, home = session.corpus, session.home
    path = build_column(corpus, session.catalogue, corpus.recipe.features[features][modality], fold, home.root)
    view = open_view([row.id for row in corpus.manifest.rows], {modality: path})
    labels = {i: corpus.labels[i] for part in (fold.train, fold.valid, fold.test) for i in part}
    key = keys.digest("probe", VERSION, path.name, labels, asdict(corpus.target), asdict(fold))
    kept = home.runs / corpus.recipe.home_name / "probes" / f"{key}.json"
    scores = _read(kept)
    if scores is None:
        scores = _scores(view, modality, corpus, fold)
        publish(kept, json.dumps(scores))
    return scores, bounds(corpus, _present(view, modality, fold.test)).get(modality)


def _read(kept: Path) -> dict[str, Any] | None:
    """The scores that an earlier report kept; None if there are none, or if the file is damaged."""
    if not kept.exists():
        return None
    try:
        scores = json.loads(kept.read_bytes())
    except (OSError, ValueError):
        scores = None
    if _are_scores(scores):
        return dict(scores)
    log.warning("%s is damaged: the probe is computed again", kept)
    return None


def _are_scores(scores: Any) -> bool:
    """True for what `_scores` gives."""
    if not isinstance(scores, dict) or not {*PARTS, "majority", "gap"} <= scores.keys():
        return False
    metrics_of = [scores[part] for part in PARTS if scores[part] is not None]
    gap = scores["gap"]
    return all(isinstance(m, dict) for m in (*metrics_of, scores["majority"])) and isinstance(gap, float | int | None)


def _scores(view: View, modality: str, corpus: Corpus, fold: Fold) -> dict[str, Any]:
    scores = probe(view, modality, corpus.labels, corpus.target, fold)
    train, test = ([corpus.labels[i] for i in _present(view, modality, part)] for part in (fold.train, fold.test))
    return scores | {"majority": metrics.majority(train, test, corpus.target) if test else {}}


def _present(view: View, modality: str, ids: Sequence[str]) -> list[str]:
    rows = view.rows(ids)
    return [view.ids[row] for row in rows[view.columns[modality].present[rows]]]


def bounds(corpus: Corpus, ids: Sequence[str]) -> Mapping[str, float]:
    """The best accuracies that are possible on these utterances, as far as the reader knows them.

    By modality, and for all modalities together as `all`. Empty if the task is not multiclass.
    """
    if corpus.target.task != "multiclass":
        return {}
    wanted = set(ids)
    return corpus.recipe.reader.bounds([row for row in corpus.manifest.rows if row.id in wanted])


# --- the tables ------------------------------------------------------------------------------------------------


def sheet(probes: Sequence[Probe], target: Target) -> Sheet:
    """The scores of each probe on train, valid and test, beside the known bound."""
    name, compared = headline(target, [probe.line for probe in probes])[0], SCORE[target.task]
    rows = [_row(probe, name) for probe in probes]
    header = ("", "fitted stages", "train", "valid", "test", "majority", "known bound", "missed by", "gap")
    note = f"{score_name(name)} of a linear model on pooled features, means over folds. Gap: train minus test"
    note += "." if compared == name else f", of {score_name(compared)}."
    return Sheet.of("Linear probes", header, rows, note)


def _row(probe: Probe, name: str) -> Sequence[Any]:
    fitted = ", ".join(probe.fitted) or "none"
    if not probe.folds:
        return (probe.name, fitted, Cell(probe.why.split("\n")[0]), *[None] * 6)
    train, valid, test = (probe.part(part).get(name) for part in PARTS)
    line = probe.line
    gap = Cell("–" if probe.gap is None else f"{probe.gap:.4f}", loud=suspicious(probe), number=True)
    return probe.name, fitted, train, valid, test, line.majority.get(f"majority_{name}"), probe.bound, line.missed, gap


def suspicious(probe: Probe) -> bool:
    """True if features that were fitted on train rows are much better on train than on test (X9)."""
    return bool(probe.fitted) and probe.gap is not None and probe.gap > GAP


def warnings(probes: Sequence[Probe], crossfit: int) -> list[str]:
    """A sentence for each probe with a suspicious gap."""
    why = (
        "the features of train rows come from fits that did not see them, so the probe itself overfits, or the fits of "
        "the parts differ"
        if crossfit
        else "the fit saw the train rows, so a model will trust these features too much, which crossfit avoids"
    )
    return [
        f"{probe.name}: the probe is {probe.gap:.2f} better on train than on test ({', '.join(probe.fitted)}): {why}."
        for probe in probes
        if suspicious(probe)
    ]
