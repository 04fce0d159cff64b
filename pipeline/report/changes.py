"""Why a plan has something to compute: what differs from the last extraction, by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.corpus.recipe import distinct_names
from pipeline.plan import last_extraction
from pipeline.plan.jobs import Plan
from pipeline.plan.last_extraction import Entry, Seen
from pipeline.report.key_parts import (
    NONE,
    Parts,
    differences,
    differing,
    fit_parts,
    fit_words,
    raw_kinds,
    raw_parts,
    stage_parts,
    walk,
)
from pipeline.report.status import Standing, standings
from pipeline.utterance import Utterance

if TYPE_CHECKING:
    from pipeline.plan.session import Session

NEW, TEXT, MEDIA, CUT, GONE = "new utterance", "transcript changed", "media changed", "re-cut", "not in the cache"
_PLURAL = {NEW: "new utterances", TEXT: "transcripts changed"}


def because(session: Session, plan: Plan) -> dict[str, list[str]]:
    """For each stage that has something to compute, by its label: `new`, or what differs from the last extraction, as
    `params.n_mfcc: 13 -> 20` or `3 transcripts changed`; else how many of its rows are not in the cache any more."""
    if not (plan.jobs or plan.waiting):
        return {}
    waiting = [found for found in standings(session.catalogue, plan) if found.unfinished]
    now, then = last_extraction.present(session), last_extraction.read(session.home.root, session.corpus.recipe.name)
    called = distinct_names(node for node, _ in session.catalogue.wanted)
    reasons: dict[str, _Reasons] = {}
    for found in waiting:
        mine = reasons.setdefault(called[found.node], _Reasons())
        entry = now.stages[found.node.digest]
        last = then.like(entry, now) if then else None
        if then is None or last is None:
            mine.stage["new"] = None
        else:
            mine.add(found, _Pair(now, entry, then, last))
    return {name: each.lines() for name, each in reasons.items()}


@dataclass(frozen=True)
class _Pair:
    """A stage as it is now and as it was then."""

    now: Seen
    entry: Entry
    then: Seen
    last: Entry

    def stage(self) -> list[str]:
        """What differs for all rows."""
        mine, theirs = _recipe(self.now, self.entry), _recipe(self.then, self.last)
        return differences(mine, theirs)

    def fits(self, scope: str | None) -> list[str]:
        """What differs in the fits of one scope."""
        mine, theirs = _fits(self.now, self.entry, scope), _fits(self.then, self.last, scope)
        names = dict.fromkeys([*differing(mine, theirs), *(n for n, v in mine.items() if v is None)])
        return [fit_words(name, theirs.get(name, NONE), mine.get(name, NONE)) for name in names]

    def row(self, utterance: str) -> str:
        """What differs in a row's own text, sound or pictures; "" where nothing does."""
        now, then = self.now.rows(self.entry)[utterance], self.then.rows(self.last).get(utterance)
        if then is None:
            return NEW
        return next(filter(None, (_moved(kind, now, then) for kind in raw_kinds(self.now, self.entry))), "")


@dataclass
class _Reasons:
    """Reasons of one stage as they are gathered: its own in order, and utterances by what is the matter with them."""

    stage: dict[str, None] = field(default_factory=dict)
    rows: dict[str, set[str]] = field(default_factory=dict)

    def add(self, found: Standing, pair: _Pair) -> None:
        """Adds those of one scope."""
        moved = [*pair.stage(), *pair.fits(found.scope.name if found.scope else None)]
        self.stage.update(dict.fromkeys(moved))
        learned = [*found.scope.train, *found.scope.valid] if found.scope and found.pending else []
        for name in dict.fromkeys([*found.unfinished, *learned]):
            what = pair.row(name)
            if not what and name in found.again:
                what = f"to be tried again ({found.again[name]})"
            if what or not moved:
                self.rows.setdefault(what or GONE, set()).add(name)

    def lines(self) -> list[str]:
        """To be read, the stage's own first."""
        counts = Counter({what: len(ids) for what, ids in self.rows.items()})
        return [*self.stage, *(f"{n:,} {what if n == 1 else _PLURAL.get(what, what)}" for what, n in counts.items())]


def _recipe(seen: Seen, entry: Entry) -> Parts:
    found: Parts = {}
    for prefix, each in walk(seen, entry):
        found |= stage_parts(prefix, each)
    return found


def _fits(seen: Seen, entry: Entry, scope: str | None) -> Parts:
    found: Parts = {}
    for prefix, each in walk(seen, entry):
        found |= fit_parts(prefix, each, scope)
    return found


def _moved(kind: str, now: Utterance, then: Utterance) -> str:
    names = [name.rpartition(".")[2] for name in differing(raw_parts(kind, now), raw_parts(kind, then))]
    if not names:
        return ""
    return TEXT if kind == "text" else MEDIA if "digest" in names else CUT
