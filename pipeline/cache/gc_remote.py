"""`gc --remote`: lists the files of a remote that nothing names any more, and deletes them if asked to.

Other machines may push at any time: objects first, then the index that names them, and never over a file that is there.
So no file younger than a day is deleted, and no object that an index or an action of this cache names.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.cache.gc import DAY, named_objects, pulled_manifests, summed, unpinned
from pipeline.cache.home import Home
from pipeline.cache.in_use import live
from pipeline.cache.record import Record, Segment
from pipeline.cache.remote_inventory import File, Inventory

THREADS = 8


@dataclass(frozen=True)
class RemoteWaste:
    """What may be deleted: indexes all of whose records are superseded, and objects that nothing names."""

    url: str
    indexes: tuple[File, ...]
    objects: tuple[File, ...]

    @property
    def bytes(self) -> int:
        """The size of indexes and objects."""
        return sum(file.size for file in (*self.indexes, *self.objects))

    def answer(self) -> dict[str, Any]:
        """The waste as data for JSON."""
        kinds = {"indexes": summed(self.indexes), "objects": summed(self.objects)}
        return {"url": self.url, **kinds, "bytes": self.bytes}


def collect(
    remote: Inventory, home: Home, days: float, agreed: Collection[str], now: float | None = None
) -> RemoteWaste:
    """Lists the files of a remote that nothing names any more. A file of unknown age is never listed.

    An index is listed if all its records are superseded and it was written more than `days`, at least 1, ago. It is
    kept if it is the newest of its stage, if it is `agreed` on, or if a live run here has pinned its stage. An object
    is listed if neither a kept index nor an action of this cache names it, and none while a run is live here. agreed:
    the digests of indexes and objects that locks and releases name. Raises RemoteError if an index is damaged, since it
    may name any object, and InputError if an action here cannot be read.
    """
    now, pinned = time.time() if now is None else now, live(home.cache)
    index_files = {file.place: file for file in remote.files("index")}
    named = named_objects(home) | set(pulled_manifests(home)) | set(agreed)
    indexes: list[File] = []
    for stage in remote.stages():
        kept = {segment: remote.read(stage, segment) for segment in remote.segments(stage)}
        for segment in _superseded(kept) if unpinned(stage, pinned) else ():
            file = index_files.get(f"index/{stage}/{segment.name}")
            if file and file.older(max(days, 1) * DAY, now) and segment.digest not in agreed:
                indexes.append(file)
                del kept[segment]
        named |= {record.object for records in kept.values() for record in records}
    unnamed = (file for file in remote.files("objects") if file.object and file.object not in named)
    objects = () if pinned else tuple(file for file in unnamed if file.older(DAY, now))
    return RemoteWaste(remote.url, tuple(indexes), objects)


def delete(
    remote: Inventory, home: Home, days: float, agreed: Collection[str], now: float | None = None
) -> RemoteWaste:
    """Deletes what `collect` lists, indexes first, and returns it. An object that was named meanwhile is kept."""
    first = collect(remote, home, days, agreed, now)
    _remove(remote, first.indexes)
    again = set(collect(remote, home, days, agreed, now).objects)
    objects = tuple(file for file in first.objects if file in again)
    _remove(remote, objects)
    return RemoteWaste(remote.url, first.indexes, objects)


def _superseded(records: Mapping[Segment, Sequence[Record]]) -> list[Segment]:
    """The indexes none of whose records wins its key, see `Remote.index`.

    The newest index is never among them: of a dataset's manifests it names the one that is current.
    """
    winners: dict[str, tuple[int, Segment]] = {}
    for segment in sorted(records):
        for record in records[segment]:
            rank = (len(record.reasons), segment)
            winners[record.key] = min(winners.get(record.key, rank), rank)
    winning = {segment for _, segment in winners.values()}
    return [segment for segment in sorted(records)[:-1] if segment not in winning]


def _remove(remote: Inventory, files: Iterable[File]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(remote.remove, files))
