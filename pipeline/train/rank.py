"""Ranks the feature sets of one modality by what a linear probe makes of them, under one protocol."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.corpus.locked_store import LockedStore
from pipeline.corpus.recipe import Node, Recipe, Selection
from pipeline.errors import InputError, closest
from pipeline.plan import estimate
from pipeline.plan.generations import Compare, resolved
from pipeline.plan.session import Session
from pipeline.score import metrics
from pipeline.score.intervals import Interval, by_row, over_dialogues
from pipeline.score.linear_probe import Probed, fit_probe
from pipeline.stage import Modality
from pipeline.views.build_view import build_column
from pipeline.views.view import open_view


@dataclass(frozen=True)
class Ranked:
    """A feature set of a modality, and what a probe makes of it.

    seconds, bytes: of one utterance, on one core of this machine and in the shards; None if nothing was measured. rows:
    those of all test parts that have the modality. valid, test: metrics, means over folds, test with `majority_*`.
    interval: of the score that rows have (`score_by_row`), on test, over dialogues (X18).
    """

    name: str
    dim: int
    seconds: float | None
    bytes: float | None
    rows: int
    valid: Mapping[str, float | None]
    test: Mapping[str, float | None]
    interval: Interval


def candidates(session: Session, modality: Modality, compare: Compare | None) -> Session:
    """A session that asks for each feature set of a modality alone, under a name that says what distinguishes it.

    They are those of `[features]`, each once, then those of `[rank]`. compare: see `Session.open`. Raises InputError if
    there is none.
    """
    recipe = session.corpus.recipe
    found = list(_selections(recipe, modality))
    if not found:
        known = {m for sets in recipe.features.values() for m in sets} | set(recipe.rank)
        raise InputError(f"no feature set of {modality!r} in this recipe: {closest(modality, known)}")
    named: dict[str, Mapping[Modality, Selection]]
    named = {name: {modality: selection} for name, selection in zip(_names(found), found, strict=True)}
    store = session.catalogue.store
    recipe, _ = resolved(replace(recipe, features=named), store, compare, isinstance(store, LockedStore))
    return session.over(replace(session.corpus, recipe=recipe), *named)


def rank(session: Session) -> Iterator[Ranked]:
    """Probes every feature set that a session of `candidates` asks for, on each fold; they must be extracted."""
    for name, selections in session.corpus.recipe.features.items():
        [(modality, selection)] = selections.items()
        yield _ranked(session, name, modality, selection)


def best_first(ranked: Sequence[Ranked], score: str) -> list[Ranked]:
    """In the order of a score on validation."""
    sign = 1 if score in metrics.LOWER_IS_BETTER else -1
    return sorted(ranked, key=lambda each: sign * (each.valid[score] or 0.0))


def _selections(recipe: Recipe, modality: Modality) -> Iterator[Selection]:
    seen: set[tuple[Node, ...]] = set()
    of_sets = [s for sets in recipe.features.values() for m, s in sets.items() if m == modality]
    of_rank = [s for m, listed in recipe.rank.items() for s in listed if m == modality]
    for selection in [*of_sets, *of_rank]:
        if selection.parts not in seen:
            seen.add(selection.parts)
            yield selection


def _names(selections: Sequence[Selection]) -> list[str]:
    """The stages of each selection, with the parameters in which stages of one name differ from each other."""
    nodes = dict.fromkeys(node for selection in selections for part in selection.parts for node in part.walk())
    values: dict[tuple[str, str], set[str]] = {}
    for node in nodes:
        for name, value in node.params.items():
            values.setdefault((node.name, name), set()).add(repr(value))
    differing = {key for key, seen in values.items() if len(seen) > 1}
    return [" + ".join(_stage(part, differing) for part in selection.parts) for selection in selections]


def _stage(node: Node, differing: Collection[tuple[str, str]]) -> str:
    own = [f"{name}={value}" for name, value in node.params.items() if (node.name, name) in differing]
    upstream = [text for source in node.upstream if "(" in (text := _stage(source, differing))]
    return f"{node.name}({', '.join([*own, *upstream])})" if own or upstream else node.name


def _ranked(session: Session, name: str, modality: Modality, selection: Selection) -> Ranked:
    corpus, target = session.corpus, session.corpus.target
    folds, columns = [], []
    for fold in corpus.folds:
        path = build_column(corpus, session.catalogue, selection, fold, session.home.root)
        view = open_view([row.id for row in corpus.manifest.rows], {modality: path})
        columns.append(view.columns[modality])
        folds.append(fit_probe(view, modality, corpus.labels, target, fold))
    seconds, size = _cost(session, selection)
    valid, test = (metrics.mean([_scores(session, probed, part) for probed in folds]) for part in ("valid", "test"))
    rows = sum(len(probed.ids.get("test", ())) for probed in folds)
    return Ranked(name, columns[0].dim, seconds, size, rows, valid, test, _interval(session, folds))


def _scores(session: Session, probed: Probed, part: str) -> Mapping[str, float | None]:
    if part not in probed.logits:
        return {}
    target, given = session.corpus.target, metrics.answers(probed.labels["train"], session.corpus.target)
    return metrics.scalars(metrics.scored(probed.logits[part], probed.labels[part], given, target))


def _interval(session: Session, folds: Sequence[Probed]) -> Interval:
    target, dialogues = session.corpus.target, {row.id: row.dialogue for row in session.corpus.manifest.rows}
    tested = [probed for probed in folds if "test" in probed.logits]
    if not tested:
        return Interval(np.nan, np.nan, np.nan)
    scores = np.concatenate([by_row(probed.logits["test"], probed.labels["test"], target) for probed in tested])
    return over_dialogues(scores, [dialogues[name] for probed in tested for name in probed.ids["test"]])


def _cost(session: Session, selection: Selection) -> tuple[float | None, float | None]:
    """Seconds and bytes of one utterance: those of all its stages, upstream ones too; None if one was not measured."""
    nodes = dict.fromkeys(node for part in selection.parts for node in part.walk())
    costs = estimate.cost(session.catalogue.store, dict.fromkeys(nodes, 1_000)).values()
    seconds = [cost["core_seconds"] for cost in costs]
    sizes = [cost["megabytes"] for cost in costs]
    return _total(seconds, 1e-3), _total(sizes, 1e3)


def _total(parts: Sequence[float | None], scale: float) -> float | None:
    return None if None in parts else sum(part or 0.0 for part in parts) * scale
