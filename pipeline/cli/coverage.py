"""The coverage of a corpus by its features: which utterances have none and why, and what is to be said of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.cli import tables
from pipeline.console import console, print_line
from pipeline.corpus import published
from pipeline.plan import remarked, shortfall
from pipeline.plan.session import Session


@dataclass(frozen=True)
class Coverage:
    """The gaps in a corpus's features.

    failed: utterances without features, by modality and reason. over: the share that failed, of each modality of which
    more than `limit` did. counts: those that differ from the published ones. notes: a line about notes on utterances,
    "" for none. left_out: for each fit, the utterances that it left out, with the reason. remarks: on rows that have
    their values, by stage and kind.
    """

    failed: Mapping[str, Counter[str]]
    over: Mapping[str, float]
    limit: float
    counts: Sequence[published.Count]
    notes: str
    left_out: Mapping[str, Mapping[str, str]]
    remarks: Sequence[remarked.Count]

    @classmethod
    def of(cls, session: Session) -> Coverage:
        """The coverage as the cache has it now, by earlier extractions too."""
        by_utterance = shortfall.reasons(session.catalogue)
        return cls(
            shortfall.counts(by_utterance),
            shortfall.over_limit(session.corpus, by_utterance),
            session.corpus.recipe.max_failed,
            published.differing(session.corpus),
            published.note_line(session.corpus.manifest.rows),
            shortfall.by_fit(session.catalogue),
            remarked.counts(session.catalogue),
        )

    @property
    def too_many(self) -> bool:
        """Whether more of a modality failed than the recipe allows."""
        return bool(self.over)

    @property
    def differing(self) -> dict[str, int]:
        """By how much counts differ from the published ones."""
        return {count.name: count.difference for count in self.counts}

    def show(self) -> None:
        """Prints the gaps and the remarks."""
        for shown in (tables.reason_table(self.failed), tables.count_table(self.counts) if self.counts else None):
            if shown:
                console.print(shown)
        for modality, share in self.over.items():
            print_line(f"{share:.1%} of {modality} failed, more than max_failed = {self.limit:.0%}", "red")
        if self.notes:
            print_line(self.notes)
        for fit, reasons in self.left_out.items():
            rows = ", ".join(f"{utterance}: {reason}" for utterance, reason in reasons.items())
            print_line(f"the fit of {fit} left out {rows}; it is made again once they are there", "yellow")
        for counted in self.remarks:
            print_line(str(counted), "yellow" if counted.large else "")


def covered(session: Session) -> Coverage:
    """Finds and shows the gaps in a corpus's features and the remarks on them, of earlier extractions too."""
    coverage = Coverage.of(session)
    coverage.show()
    return coverage
