"""Dialogues: the order of their turns, and what a stage may read of the turns before an utterance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pipeline.utterance import Utterance, in_order


@dataclass(frozen=True, slots=True)
class Context:
    """What a stage reads of a dialogue before an utterance: at most so many `turns`, with or without their speakers."""

    turns: int
    speakers: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as a stage reads it. text: "" if it has no transcript. speaker: None if unknown, or not read."""

    text: str
    speaker: str | None = None


class Dialogues(Mapping[str, Utterance]):
    """The utterances of a corpus by id, in order, each with its place in its dialogue."""

    def __init__(self, rows: Iterable[Utterance]) -> None:
        dialogues: dict[str, list[Utterance]] = {}
        self._place: dict[str, tuple[list[Utterance], int]] = {}
        for row in in_order(rows):
            turns = dialogues.setdefault(row.dialogue, [])
            self._place[row.id] = (turns, len(turns))
            turns.append(row)

    def __getitem__(self, utterance: str) -> Utterance:
        turns, place = self._place[utterance]
        return turns[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._place)

    def __len__(self) -> int:
        return len(self._place)

    def before(self, utterance: str, count: int) -> tuple[Utterance, ...]:
        """The last `count` turns before an utterance, oldest first; fewer where the dialogue begins."""
        turns, place = self._place[utterance]
        return tuple(turns[max(0, place - count) : place])
