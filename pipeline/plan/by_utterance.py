"""What a catalogue knows of each utterance, by id: its row, and digests at 32 bytes each.

A dict of texts takes a quarter of a kilobyte for each digest, of millions of utterances more than the rows themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeVar, cast

from pipeline.utterance import Utterance

D = TypeVar("D", bound=str | None)

SIZE = 32
"""Bytes of a digest."""
PART = 10_000
"""So many digests are texts at once."""


class Rows(Mapping[str, Utterance]):
    """The rows of a manifest in their order. numbers: the place of each, from 0."""

    def __init__(self, rows: Sequence[Utterance]) -> None:
        self._rows = rows
        self.numbers = {row.id: number for number, row in enumerate(rows)}

    def __getitem__(self, utterance: str) -> Utterance:
        return self._rows[self.numbers[utterance]]

    def __contains__(self, utterance: object) -> bool:
        return utterance in self.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Digests(Mapping[str, D]):
    """The digest of each utterance; None if it has none.

    numbers: the place of each utterance among the digests, from 0.
    """

    def __init__(self, numbers: Mapping[str, int], digests: Iterable[D]) -> None:
        self._numbers, self._packed, self._absent = numbers, bytearray(), bytearray()
        digests = iter(digests)
        while part := list(islice(digests, PART)):
            self._packed += bytes.fromhex("".join(["00" * SIZE if digest is None else digest for digest in part]))
            self._absent += bytes(digest is None for digest in part)

    def __getitem__(self, utterance: str) -> D:
        number = self._numbers[utterance]
        packed = self._packed[number * SIZE : (number + 1) * SIZE]
        return cast(D, None if self._absent[number] else packed.hex())

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
