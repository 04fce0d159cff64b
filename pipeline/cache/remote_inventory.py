"""A remote as `verify`, `gc` and `push` see it: the files that are really there, whatever copies of indexes say."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from pipeline.cache.record import DamagedError, ForeignError, Record, Ref, Segment, decode_index
from pipeline.cache.remote import Remote

OBJECT = re.compile(r"(?P<head>[0-9a-f]{2})/(?P<tail>[0-9a-f]{62})\.(parquet|safetensors)(\.[0-9a-f-]+\.part)?")
"""The path of an object below `objects`, or of an upload of one that was broken off."""
SAME_S = 1.5
"""Two times that differ by less are the same: some backends round them to seconds."""
MODIFIED = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""The names of the time of change in fsspec's backends, the likelier first."""


@dataclass(frozen=True)
class File:
    """A file of a remote.

    place: its path below the root. size: in bytes. modified: its time of change in seconds since 1970, None if unknown.
    """

    place: str
    size: int
    modified: float | None

    @property
    def object(self) -> str | None:
        """The digest in the path of an object; None for any other file."""
        match = OBJECT.fullmatch(self.place.removeprefix("objects/"))
        return match and match["head"] + match["tail"]

    def older(self, seconds: float, now: float) -> bool:
        """True if it was changed more than so many seconds before `now`; False if that is unknown."""
        return self.modified is not None and now - self.modified > seconds

    def same(self, other: File) -> bool:
        """True if size and time are the same."""
        return self.size == other.size and abs((self.modified or 0.0) - (other.modified or 0.0)) < SAME_S


class Inventory(Remote):
    """A remote whose files are listed, read in place and deleted."""

    def files(self, folder: str) -> list[File]:
        """Every file below a folder, sorted by name; from one listing."""
        start = self._full(folder) + "/"
        try:
            entries = self._reach(lambda: self._files.find(start, detail=True))
        except FileNotFoundError:
            return []
        return [_file(f"{folder}/{name.removeprefix(start)}", info) for name, info in sorted(entries.items())]

    def read(self, stage: str, segment: Segment) -> list[Record]:
        """The records of an index on the remote, not of a copy here. Raises ForeignError if it is damaged or gone."""
        place = f"index/{stage}/{segment.name}"
        try:
            raw = self._read(place)
            if blake3(raw).hexdigest() != segment.digest:
                raise ForeignError(f"{place} has other bytes than its name says")
            return decode_index(raw, stage)
        except (DamagedError, FileNotFoundError) as error:
            raise ForeignError(f"{place}: {error}") from error

    def place(self, ref: Ref) -> str:
        """The path of an object below the root, whether it is there or not."""
        return self._object(ref)

    def digest(self, ref: Ref, moved: Callable[[int], None]) -> str:
        """The BLAKE3 of an object's bytes, which are not kept. moved: called with the number of bytes of each block."""
        hasher = blake3()
        for block in self._blocks(self._object(ref), ref.size):
            hasher.update(block)
            moved(len(block))
        return hasher.hexdigest()

    def remove(self, file: File) -> None:
        """Deletes a file, unless it is gone or another machine has written it again since it was listed."""
        try:
            now = _file(file.place, self._reach(lambda: self._files.info(self._full(file.place))))
            if now.same(file):
                self._reach(lambda: self._files.rm_file(self._full(file.place)))
        except FileNotFoundError:
            pass


def _file(place: str, info: Any) -> File:
    known = (info[name] for name in MODIFIED if info.get(name) is not None)
    return File(place, int(info.get("size") or 0), _seconds(next(known, None)))


def _seconds(when: Any) -> float | None:
    """A backend's time in seconds since 1970. A time without a zone is in UTC, as backends give it."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when) if isinstance(when, int | float) else None
