"""Why a plan has something to compute: what has changed since the last extraction, by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.ask.key_parts import (
    SPEAKER,
    Change,
    KeyPart,
    Kind,
    changes,
    fit_parts,
    raw_inputs,
    raw_parts,
    stage_parts,
    walk,
)
from pipeline.ask.status import StageStatus, Status, statuses
from pipeline.corpus.recipe import distinct_names
from pipeline.plan import last_extraction
from pipeline.plan.jobs import Plan
from pipeline.plan.last_extraction import Entry, Seen

if TYPE_CHECKING:
    from pipeline.plan.session import Session

NEW, TEXT, MEDIA, CUT, GONE = "new utterance", "transcript changed", "media changed", "re-cut", "not in the cache"
SPEAKER_CHANGED, EARLIER = "speaker changed", "utterance after a changed turn"
_PLURAL = {NEW: "new utterances", TEXT: "transcripts changed", SPEAKER_CHANGED: "speakers changed"}
_PLURAL |= {EARLIER: "utterances after a changed turn"}


def because(session: Session, plan: Plan) -> dict[str, list[str]]:
    """The reasons why stages have something to compute, by the stage's label.

    A reason is `new`, or what has changed since the last extraction, as `params.n_mfcc: 13 -> 20` or `3 transcripts
    changed`, or else how many of the stage's rows are no longer in the cache.
    """
    if not (plan.jobs or plan.waiting):
        return {}
    unfinished = [status for status in statuses(session.catalogue, plan) if status.unfinished]
    now = last_extraction.present(session)
    then = last_extraction.read(session.home.root, session.corpus.recipe.home_name)
    names = distinct_names(node for node, _ in session.catalogue.wanted)
    by_stage: dict[str, _Reasons] = {}
    for status in unfinished:
        reasons = by_stage.setdefault(names[status.node], _Reasons())
        entry = now.stages[status.node.digest]
        last = then.like(entry, now) if then else None
        if then is None or last is None:
            reasons.stage["new"] = None
        else:
            reasons.add(status, _Pair(now, entry, then, last))
    return {name: reasons.lines() for name, reasons in by_stage.items()}


@dataclass(frozen=True)
class _Pair:
    """A stage as it is now and as the last extraction saw it."""

    now: Seen
    entry: Entry
    then: Seen
    last: Entry

    def stage(self) -> list[str]:
        """What has changed for all rows."""
        now, then = (
            [part for path, stage in walk(seen, entry) for part in stage_parts(path, stage)]
            for seen, entry in ((self.now, self.entry), (self.then, self.last))
        )
        return [change.line for change in changes(now, then)]

    def fits(self, scope: str | None) -> list[str]:
        """What has changed in the fits of one scope, and which of them are missing."""
        now, then = (
            [part for path, stage in walk(seen, entry) for part in fit_parts(path, stage, scope)]
            for seen, entry in ((self.now, self.entry), (self.then, self.last))
        )
        missing = [Change(None, part) for part in now if part.value is None]
        return [change.fit for change in [*changes(now, then), *missing]]

    def row(self, utterance: str) -> str:
        """What has changed in an utterance's text, sound or pictures, or in the turns before it; "" if nothing has."""
        if utterance not in self.then.rows(self.last):
            return NEW
        now, then = _raw_parts(self.now, self.entry, utterance), _raw_parts(self.then, self.last, utterance)
        shared = [read for read in now if read in then]
        return next(filter(None, (_raw_change(now[read], then[read]) for read in shared)), "")


@dataclass
class _Reasons:
    """The reasons of one stage: those that hold for all its rows in order, and utterances by what has changed in them.

    The keys of `stage` are an ordered set.
    """

    stage: dict[str, None] = field(default_factory=dict)
    rows: dict[str, set[str]] = field(default_factory=dict)

    def add(self, status: StageStatus, pair: _Pair) -> None:
        """Adds the reasons of one scope."""
        shared = [*pair.stage(), *pair.fits(status.scope.name if status.scope else None)]
        self.stage.update(dict.fromkeys(shared))
        for utterance in dict.fromkeys([*status.unfinished, *_learned_from(status)]):
            row = status.rows.get(utterance)
            reason = pair.row(utterance)
            if not reason and row and row.status is Status.PROVISIONAL:
                reason = f"to be tried again ({row.reason})"
            if reason or not shared:
                self.rows.setdefault(reason or GONE, set()).add(utterance)

    def lines(self) -> list[str]:
        """The reasons as lines, the stage's own first."""
        counts = Counter({reason: len(utterances) for reason, utterances in self.rows.items()})
        return [*self.stage, *(f"{n:,} {name if n == 1 else _PLURAL.get(name, name)}" for name, n in counts.items())]


def _learned_from(status: StageStatus) -> list[str]:
    """The utterances that a missing fit learns from; none if no row waits for a fit."""
    if status.scope is None or all(row.status is not Status.WAITING for row in status.rows.values()):
        return []
    return [*status.scope.train, *status.scope.valid]


def _raw_parts(seen: Seen, entry: Entry, utterance: str) -> dict[tuple[Any, ...], list[KeyPart]]:
    """The parts of each raw input, by its kind and, for a dialogue, by how much is read of it."""
    row, parts = seen.rows(entry)[utterance], {}
    for kind, reading in raw_inputs(seen, entry):
        parts[kind, *sorted(reading.about.get("dialogue", {}).items())] = raw_parts(kind, row, seen, reading)
    return parts


def _raw_change(now: list[KeyPart], then: list[KeyPart]) -> str:
    changed = {(change.part.kind, change.part.name) for change in changes(now, then)}
    kinds, names = {kind for kind, _ in changed}, {name for _, name in changed}
    if not changed:
        return ""
    if Kind.TEXT in kinds:
        return TEXT
    if Kind.DIALOGUE in kinds:
        return SPEAKER_CHANGED if SPEAKER in names else EARLIER
    return MEDIA if "digest" in names else CUT
