"""`gc --remote`: what nothing on a remote names any more.

Other machines push at any time: objects first, then the index that names them, and never over what stands there. So
nothing younger than a day goes, nor an object that an index or an action of this cache names.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.cache.gc import DAY, held_objects, noted_objects, summed, unpinned
from pipeline.cache.home import Home
from pipeline.cache.in_use import live
from pipeline.cache.record import Record
from pipeline.cache.remote import Segment
from pipeline.cache.remote_inventory import File, Inventory

THREADS = 8


@dataclass(frozen=True)
class RemoteWaste:
    """What may go: indexes all of whose records are superseded, objects that nothing names."""

    url: str
    indexes: tuple[File, ...]
    objects: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """Of both."""
        return sum(file.size for file in (*self.indexes, *self.objects))

    def answer(self) -> dict[str, Any]:
        """As JSON-able data."""
        kinds = {"indexes": summed(self.indexes), "objects": summed(self.objects)}
        return {"url": self.url, **kinds, "bytes": self.bytes}


def collect(
    there: Inventory, home: Home, days: float, locked: Collection[str], now: float | None = None
) -> RemoteWaste:
    """What a remote holds that nothing names any more, by the time at which it was written; without one it stays.

    An index goes if all its records are superseded and it is older than `days`, at least 1. It stays if it is its
    stage's newest, if its digest is among those that are `locked`, or if a live run here has pinned its stage. An
    object goes if neither an index that stays nor an action of this cache names it; none goes while a run is live
    here. Raises RemoteError if an index is damaged, since it may name anything.
    """
    now, pinned = time.time() if now is None else now, live(home.cache)
    written = {file.place: file for file in there.files("index")}
    named = held_objects(home) | set(noted_objects(home))
    indexes: list[File] = []
    for stage in there.stages():
        read = {segment: there.read(stage, segment) for segment in there.segments(stage)}
        for segment in _superseded(read) if unpinned(stage, pinned) else ():
            file = written.get(f"index/{stage}/{segment.name}")
            if file and file.older(max(days, 1) * DAY, now) and segment.digest not in locked:
                indexes.append(file)
                del read[segment]
        named |= {record.object for records in read.values() for record in records}
    unnamed = (file for file in there.files("objects") if file.object and file.object not in named)
    objects = () if pinned else tuple(file for file in unnamed if file.older(DAY, now))
    return RemoteWaste(there.url, tuple(indexes), objects)


def delete(there: Inventory, home: Home, days: float, locked: Collection[str], now: float | None = None) -> RemoteWaste:
    """Deletes what `collect` finds, indexes first, and returns it; what was named meanwhile stays."""
    first = collect(there, home, days, locked, now)
    _remove(there, first.indexes)
    again = set(collect(there, home, days, locked, now).objects)
    objects = tuple(file for file in first.objects if file in again)
    _remove(there, objects)
    return RemoteWaste(there.url, first.indexes, objects)


def _superseded(read: Mapping[Segment, Sequence[Record]]) -> list[Segment]:
    """The indexes none of whose records wins its key, see `Remote.index`; never the newest, which names what a
    dataset's manifest is."""
    winners: dict[str, tuple[int, Segment]] = {}
    for segment in sorted(read):
        for record in read[segment]:
            mine = (len(record.reasons), segment)
            winners[record.key] = min(winners.get(record.key, mine), mine)
    winning = {segment for _, segment in winners.values()}
    return [segment for segment in sorted(read)[:-1] if segment not in winning]


def _remove(there: Inventory, files: Iterable[File]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(there.remove, files))
