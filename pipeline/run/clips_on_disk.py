"""Keeps the clips of a fit on disk, decoded once, up to a bound: so that an epoch does not wait for a decoder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from pipeline.cache.keys import digest
from pipeline.media.decode import decoded
from pipeline.reason import Unreadable
from pipeline.stage import Frames, Item, Stage, Waveform
from pipeline.utterance import Utterance

MOST_BYTES = 64 * 2**30
"""The most bytes that the clips of a fit may take; never more than half of what the disk has free."""


@dataclass
class Room:
    """The folder in which a fit keeps clips, and the bytes left in it."""

    folder: Path
    left: int

    @classmethod
    def on(cls, folder: Path) -> Room:
        """A folder with as much room as may be used of its disk."""
        return cls(folder, min(MOST_BYTES, shutil.disk_usage(folder).free // 2))

    def keep(self, name: str, value: Any) -> Any:
        """The value with its array on disk and mapped; None if there is no room for it. Text needs none."""
        array = value.images if isinstance(value, Frames) else getattr(value, "samples", None)
        if array is None:
            return value
        if array.nbytes > self.left:
            return None
        self.left -= array.nbytes
        mapped = _mapped(array, self.folder / f"{digest(name)}.npy")
        return Frames(mapped, value.time_s) if isinstance(value, Frames) else Waveform(mapped, value.rate_hz)


class Clips(Sequence[Item]):
    """The items of a fit's rows that have this input, in order. One that found no room is decoded at each reading.

    Reading raises Unreadable if a file is gone or has changed by then. memory: see `pipeline.media.decode.decoded`.
    """

    def __init__(self, kind: str, stage: Stage, root: Path, room: Room, memory: Path) -> None:
        self._kind, self._stage, self._root, self._room, self._memory = kind, stage, root, room, memory
        self._held: list[Item | Utterance] = []

    def add(self, row: Utterance, value: Any) -> None:
        """Adds the next row, as it was decoded."""
        kept = self._room.keep(row.id, value)
        self._held.append(row if kept is None else Item(row.id, {self._kind: kept}))

    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, place: int) -> Item: ...

    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...

    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        held = self._held[place]
        return held if isinstance(held, Item) else self._again(held)

    @property
    def ids(self) -> list[str]:
        """The utterance of every row; nothing is decoded for it."""
        return [held.id for held in self._held]

    def _again(self, row: Utterance) -> Item:
        [(_, found)] = decoded(self._kind, [row], self._root, [[("fit", self._stage)]], self._memory)
        if isinstance(found, Unreadable):
            raise found
        return Item(row.id, {self._kind: found["fit"]})


def _mapped(array: Any, path: Path) -> Any:
    np.save(path, array, allow_pickle=False)
    return np.load(path, mmap_mode="r", allow_pickle=False)
