"""Why a plan has something to compute: what has changed since the last extraction, by stage."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.corpus.recipe import distinct_names
from pipeline.plan import last_extraction
from pipeline.plan.jobs import Plan
from pipeline.plan.last_extraction import Entry, Seen
from pipeline.report.key_parts import Change, Kind, changes, fit_parts, raw_kinds, raw_parts, stage_parts, walk
from pipeline.report.status import StageStatus, Status, statuses
from pipeline.utterance import Utterance

if TYPE_CHECKING:
    from pipeline.plan.session import Session

NEW, TEXT, MEDIA, CUT, GONE = "new utterance", "transcript changed", "media changed", "re-cut", "not in the cache"
_PLURAL = {NEW: "new utterances", TEXT: "transcripts changed"}


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
        """What has changed in an utterance's own text, sound or pictures; "" if nothing has."""
        now, then = self.now.rows(self.entry)[utterance], self.then.rows(self.last).get(utterance)
        if then is None:
            return NEW
        return next(filter(None, (_raw_change(kind, now, then) for kind in raw_kinds(self.now, self.entry))), "")


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


def _raw_change(kind: Kind, now: Utterance, then: Utterance) -> str:
    names = {change.part.name for change in changes(raw_parts(kind, now), raw_parts(kind, then))}
    if not names:
        return ""
    return TEXT if kind is Kind.TEXT else MEDIA if "digest" in names else CUT
