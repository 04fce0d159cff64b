"""A remote as `verify` and `gc` see it: what really stands there, past the copies of indexes that are kept here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3

from pipeline.cache.record import DamagedError, Record, Ref, decode_index
from pipeline.cache.remote import BLOCK, ForeignError, Remote, Segment

OBJECT = re.compile(r"(?P<head>[0-9a-f]{2})/(?P<tail>[0-9a-f]{62})\.(parquet|safetensors)(\.[0-9a-f-]+\.part)?")
"""Where an object lies below `objects`, or half of one whose upload broke off."""
SECOND = 1.5
MODIFIED = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""What fsspec's backends call the time of the last change, the likelier first."""


@dataclass(frozen=True)
class File:
    """A file of a remote: its place below the root, its bytes, and when it was written (None where nobody says)."""

    place: str
    size: int
    modified: float | None

    @property
    def object(self) -> str | None:
        """The digest it is named by; None for what is no object."""
        found = OBJECT.fullmatch(self.place.removeprefix("objects/"))
        return found and found["head"] + found["tail"]

    def older(self, seconds: float, now: float) -> bool:
        """False too where nobody says how old it is."""
        return self.modified is not None and now - self.modified > seconds

    def same(self, other: File) -> bool:
        """True where neither size nor time has changed; backends tell a time to the second or better."""
        return self.size == other.size and abs((self.modified or 0.0) - (other.modified or 0.0)) < SECOND


class Inventory(Remote):
    """Every file of a remote. Raises RemoteError where it cannot be reached."""

    def files(self, folder: str) -> list[File]:
        """Everything below a folder, in the order of its names; one listing."""
        start = self._full(folder) + "/"
        try:
            found = self._reach(lambda: self._files.find(start, detail=True))
        except FileNotFoundError:
            return []
        return [_file(f"{folder}/{name.removeprefix(start)}", info) for name, info in sorted(found.items())]

    def read(self, stage: str, segment: Segment) -> list[Record]:
        """The records of an index as it stands there. Raises ForeignError where it is damaged."""
        place = f"index/{stage}/{segment.name}"
        try:
            raw = self._read(place)
            if blake3(raw).hexdigest() != segment.digest:
                raise ForeignError(f"{place} has other bytes than its name says")
            return decode_index(raw, stage)
        except (DamagedError, FileNotFoundError) as error:
            raise ForeignError(f"{place}: {error}") from error

    def place(self, ref: Ref) -> str:
        """Where an object lies, or would."""
        return self._object(ref)

    def digest(self, ref: Ref, moved: Callable[[int], None]) -> str:
        """Of an object's bytes as they come, none of which is kept; `moved` is told how many came."""
        hasher = blake3()
        for start in range(0, ref.size, BLOCK):
            block = self._cat(self._full(self._object(ref)), start, min(start + BLOCK, ref.size))
            hasher.update(block)
            moved(len(block))
        return hasher.hexdigest()

    def remove(self, file: File) -> None:
        """Deletes a file, unless another machine has written it again since; one that is gone already is no error."""
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
    """A time of any backend as seconds since 1970; a time without a zone is UTC, as backends give it."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when) if isinstance(when, int | float) else None
