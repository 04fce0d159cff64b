"""A linear probe of every modality of every feature set, on every fold; kept on disk, so that a second report is quick.

A probe says what features alone are worth, and, by how much better it is on train rows, whether they know those (X9).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from pipeline.cache import keys
from pipeline.cache.atomic import publish
from pipeline.cache.store import CorruptError
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.recipe import Selection
from pipeline.errors import InputError
from pipeline.plan.session import Session
from pipeline.reader import Fold
from pipeline.report.corpus_section import walk
from pipeline.report.table import Cell, Sheet
from pipeline.stage import Modality, Target
from pipeline.train import metrics
from pipeline.train.linear_probe import SCORE, probe
from pipeline.views import build_view
from pipeline.views.view import View, open_view

VERSION = 1
"""Bumped when the probe of the same features gives other scores."""

GAP = 0.15
"""By how much train may exceed test before the report warns of a fitted stage."""

HEADLINE = {
    "multiclass": ("accuracy", "f1_weighted"),
    "multilabel": ("accuracy", "f1"),
    "regression": ("acc2_non0", "f1_non0"),
}
"""The two scores that stand for all, by task; of the first, more is better."""

SIGNLESS = ("ccc", "mae")
"""Those of a regression that has no sign to score: of several numbers, or of one that is on one side of 0."""

Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Line:
    """One line of the table of scores: a probe or a model, the trivial answer beside it, the known bound."""

    name: str
    scores: Scores
    majority: Scores
    bound: float | None

    @property
    def missed(self) -> float | None:
        """The distance of the accuracy from the known bound; negative above it."""
        accuracy = self.scores.get("accuracy")
        return None if self.bound is None or accuracy is None else self.bound - accuracy


@dataclass(frozen=True)
class Probe:
    """A modality's probe: for each fold the scores of `pipeline.train.linear_probe`, or `why` there are none."""

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
        """The scores on a part, means over the folds where they are defined."""
        return _mean([metrics.scalars(fold[part]) for fold in self.folds.values() if fold[part]])

    @property
    def gap(self) -> float | None:
        """Train minus test, the mean over folds."""
        return _mean([{"gap": fold["gap"]} for fold in self.folds.values()]).get("gap")

    @property
    def line(self) -> Line:
        """The probe on test, among the scores."""
        majority = _mean([metrics.scalars(fold["majority"]) for fold in self.folds.values()])
        return Line(self.name, self.part("test"), majority, self.bound)

    def answer(self) -> dict[str, Any]:
        """The probe as JSON."""
        parts = {part: dict(self.part(part)) for part in ("train", "valid", "test")}
        line = self.line
        return {**parts, "majority": dict(line.majority), "gap": self.gap, "bound": self.bound, "missed": line.missed}


def headline(target: Target, lines: Sequence[Line]) -> tuple[str, str]:
    """The two scores that stand for all of these lines.

    Signs do not where the majority has every one of them right, as with ratings from 1 to 5.
    """
    one_sided = any(line.majority.get("majority_acc2_non0") == 1.0 for line in lines)
    return SIGNLESS if target.several or one_sided else HEADLINE[target.task]


def told(name: str) -> str:
    """A score as it is written."""
    return _NAMES.get(name, name.replace("_", " ").capitalize())


_NAMES = {"f1_weighted": "Weighted F1", "f1_macro": "Macro F1", "uar": "UAR", "mae": "MAE", "ccc": "CCC"}


def _mean(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    known = {name: [v for row in rows if (v := row.get(name)) is not None] for row in rows for name in row}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}


def probes(session: Session) -> Iterator[Probe]:
    """Each modality of each feature set, probed or read from an earlier report; not before features are extracted."""
    for features, selections in session.corpus.recipe.features.items():
        for modality, selection in selections.items():
            yield _probe(session, features, modality, selection)


def _probe(session: Session, features: str, modality: Modality, selection: Selection) -> Probe:
    names = dict.fromkeys(n.name for part in selection.parts for n in walk(part) if n.stage.fitted)
    bare = Probe(features, modality, tuple(names))
    if not session.corpus.folds:
        return replace(bare, why="there are no labels")
    try:
        found = [_fold(session, features, modality, fold) for fold in session.corpus.folds]
    except (InputError, CorruptError) as error:
        return replace(bare, why=str(error))
    folds = {fold.name: scores for fold, (scores, _) in zip(session.corpus.folds, found, strict=True)}
    known = [bound for _, bound in found if bound is not None]
    return replace(bare, folds=folds, bound=float(np.mean(known)) if known else None)


def _fold(session: Session, features: str, modality: Modality, fold: Fold) -> tuple[dict[str, Any], float | None]:
    corpus = session.corpus
    path = build_view.columns(_alone(corpus, features, modality), session.catalogue, features, fold, session.home.root)[
        modality
    ]
    opened = open_view([row.id for row in corpus.manifest.rows], {modality: path})
    labels = {i: corpus.labels[i] for part in (fold.train, fold.valid, fold.test) for i in part}
    key = keys.digest("probe", VERSION, path.name, labels, asdict(corpus.target), asdict(fold))
    kept = session.home.runs / corpus.recipe.home_name / "probes" / f"{key}.json"
    if not kept.exists():
        publish(kept, json.dumps(_scores(opened, modality, corpus, fold)))
    present = _present(opened, modality, fold.test)
    return json.loads(kept.read_text()), bounds(corpus, present).get(modality)


def _alone(corpus: Corpus, features: str, modality: Modality) -> Corpus:
    """The corpus as if its recipe had but this modality, so that one that is not extracted hides no other."""
    chosen = {features: {modality: corpus.recipe.features[features][modality]}}
    return replace(corpus, recipe=replace(corpus.recipe, features=chosen))


def _scores(opened: View, modality: str, corpus: Corpus, fold: Fold) -> dict[str, Any]:
    scores = probe(opened, modality, corpus.labels, corpus.target, fold)
    train, test = ([corpus.labels[i] for i in _present(opened, modality, part)] for part in (fold.train, fold.test))
    return scores | {"majority": metrics.majority(train, test, corpus.target) if test else {}}


def _present(opened: View, modality: str, ids: Sequence[str]) -> list[str]:
    rows = opened.rows(ids)
    return [opened.ids[row] for row in rows[opened.columns[modality].present[rows]]]


def bounds(corpus: Corpus, ids: Sequence[str]) -> Mapping[str, float]:
    """The accuracies that the reader knows in advance for these utterances, where the task has one accuracy."""
    if corpus.target.task != "multiclass":
        return {}
    wanted = set(ids)
    return corpus.recipe.reader.bounds([row for row in corpus.manifest.rows if row.id in wanted])


# --- for the reader --------------------------------------------------------------------------------------------


def sheet(found: Sequence[Probe], target: Target) -> Sheet:
    """Each probe on train, valid and test, and what is known to be possible."""
    name, compared = headline(target, [each.line for each in found])[0], SCORE[target.task]
    rows = [_row(each, name, compared) for each in found]
    header = ("", "fitted stages", "train", "valid", "test", "majority", "known bound", "missed by", "gap")
    note = f"{told(name)} of a linear model on pooled features; means over folds. Gap: train minus test"
    note += "." if compared == name else f", of {told(compared)}."
    return Sheet.of("Linear probes", header, rows, note)


def _row(each: Probe, name: str, compared: str) -> Sequence[Any]:
    fitted = ", ".join(each.fitted) or "none"
    if not each.folds:
        return (each.name, fitted, Cell(each.why.split("\n")[0]), *[None] * 6)
    train, valid, test = (each.part(part).get(name) for part in ("train", "valid", "test"))
    line = each.line
    gap = Cell("–" if each.gap is None else f"{each.gap:.4f}", loud=suspicious(each), number=True)
    return each.name, fitted, train, valid, test, line.majority.get(f"majority_{name}"), each.bound, line.missed, gap


def suspicious(each: Probe) -> bool:
    """True where features that were learned from train rows tell much more of train than of test (X9)."""
    return bool(each.fitted) and each.gap is not None and each.gap > GAP


def warnings(found: Sequence[Probe], crossfit: int) -> list[str]:
    """A sentence for each probe with a large gap."""
    why = (
        "train rows have features of fits that did not see them, so the probe itself overfits or the parts differ"
        if crossfit
        else "the fit saw the train rows, so a model will trust these features too much, which crossfit avoids"
    )
    return [
        f"{each.name}: the probe is better on train than on test by {each.gap:.2f} ({', '.join(each.fitted)}): {why}."
        for each in found
        if suspicious(each)
    ]
