"""Features of the text that others computed, from a file of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pipeline.stage import SOURCE, Item, Modality, Spec, Stage, State, Track
from stages._imported import Imported, opened


@dataclass(frozen=True, kw_only=True)
class TextImported(Stage):
    """[T, D], the steps that the file has of the utterance, without its padding; see docs/exchange.md.

    file: one that docs/exchange.md lists, such as MMSA's unaligned_50.pkl, or a folder with one. Its bytes are in the
    key. Reasons: absent for an utterance that is not in it.
    """

    version: ClassVar[int] = 1
    modality: ClassVar[Modality] = "text"
    inputs: ClassVar[tuple[str, ...]] = ("id",)

    file: str = field(default="", metadata=SOURCE)

    def load(self, device: str) -> Imported:
        """Opens the file. Raises InputError if there is none, or if it has no text."""
        return opened(self.file, self.modality)

    def spec(self, loaded: Imported) -> Spec:
        """D is the width of the file's features."""
        return loaded.spec

    def transform(self, loaded: Imported, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Returns the track of each utterance."""
        return [loaded.track(item["id"]) for item in batch]
