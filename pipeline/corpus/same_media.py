"""Utterances of test and of train that have the same media, to the byte: a model may know such a test row by heart.

The same transcript alone ("Yeah.") is usual, and counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.cache.keys import text_digest
from pipeline.corpus.corpus import Corpus
from pipeline.reader import Fold
from pipeline.utterance import MISSING, UNREADABLE, Stretch, Utterance

Media = tuple[Stretch, ...]

SHOWN = 5
"""The number of pairs that are named."""


@dataclass(frozen=True)
class SameMedia:
    """The pairs of one fold: each test utterance whose sound or pictures are those of a train utterance, with that one.

    both: how many of them have the transcript of that utterance too.
    """

    fold: str
    pairs: tuple[tuple[str, str], ...]
    both: int

    @property
    def line(self) -> str:
        """One line for a person, with the first pairs."""
        some = ", ".join(f"{test} = {train}" for test, train in self.pairs[:SHOWN])
        return (
            f"fold {self.fold}: {len(self.pairs):,} test utterances have the very sound or pictures of train "
            f"utterances ({some}{', ...' if len(self.pairs) > SHOWN else ''}), {self.both:,} of them with the same "
            "text, so a model may know them by heart"
        )

    def answer(self) -> dict[str, Any]:
        """The counts and the first pairs as JSON-able data."""
        return {
            "utterances": len(self.pairs),
            "with_text": self.both,
            "first": [list(pair) for pair in self.pairs[:SHOWN]],
        }


def same_media(corpus: Corpus) -> list[SameMedia]:
    """Every fold of a corpus with the same media in test and train."""
    every = (of_fold(fold, corpus.manifest.rows) for fold in corpus.folds)
    return [same for same in every if same.pairs]


def of_fold(fold: Fold, rows: Sequence[Utterance]) -> SameMedia:
    """The pairs of one fold, in the order of the rows."""
    test, train = set(fold.test), set(fold.train)
    known = {media: row for row in rows if row.id in train for media in _media(row)}
    twins = [(row, _twin(row, known)) for row in rows if row.id in test]
    pairs = [(row, twin) for row, twin in twins if twin is not None]
    both = sum(text_digest(row) is not None and text_digest(row) == text_digest(twin) for row, twin in pairs)
    return SameMedia(fold.name, tuple((row.id, twin.id) for row, twin in pairs), both)


def _twin(row: Utterance, known: Mapping[Media, Utterance]) -> Utterance | None:
    return next((known[media] for media in _media(row) if media in known), None)


def answers(found: Iterable[SameMedia]) -> dict[str, dict[str, Any]]:
    """The answer of each fold by its name."""
    return {same.fold: same.answer() for same in found}


def _media(row: Utterance) -> Iterator[Media]:
    """The sound and the pictures of a row by the digests of their files, whatever the paths; none if a file is not
    here."""
    for stretches in (row.audio, row.video):
        if stretches and all(stretch.digest not in (None, MISSING, UNREADABLE) for stretch in stretches):
            yield tuple(replace(stretch, path="") for stretch in stretches)
