"""A remote as `verify`, `gc`, `push` and `list` see it: the files really there, whatever copies of indexes say.

Each index has a file of counts, of the same name in `counts/<stage digest>`: what the whole stage holds, as the
index's writer saw it. So `list` reads no index, which for a million rows has a hundred megabytes.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.cache import atomic
from pipeline.cache.record import DamagedError, ForeignError, Record, Ref, Segment, answering, decode_index
from pipeline.cache.remote import Remote
from pipeline.errors import RemoteError

log = logging.getLogger(__name__)

OBJECT = re.compile(r"(?P<head>[0-9a-f]{2})/(?P<tail>[0-9a-f]{62})\.(parquet|safetensors)(\.[0-9a-f-]+\.part)?")
"""The path of an object below `objects`, or of an upload of one that was broken off."""
STAGE = re.compile(r"[0-9a-f]{64}(\.[a-z]{1,20})?")
SAME_S = 1.5
"""Two times that differ by less are the same: some backends round them to seconds."""
MODIFIED = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""The names of the time of change in fsspec's backends, the likelier first."""


THREADS = 8
"""The number of small files that are read at the same time."""
LARGEST_COUNTS = 4096
"""In bytes."""


class Counts(BaseModel):
    """What a stage holds: its name, or that of the dataset for manifests; the rows, objects and bytes of the records
    that answer its keys. For manifests, rows are those of the newest."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    stage: str = Field("", max_length=200)
    dataset: str = Field("", max_length=200)
    rows: int = Field(ge=0, lt=1 << 53)
    objects: int = Field(ge=0, lt=1 << 53)
    bytes: int = Field(ge=0, lt=1 << 63)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Counts:
        """The counts of records of one stage, the newest last."""
        sizes, rows, about = dict[str, int](), set[str](), dict[str, Any]()
        for record in records:
            sizes[record.object] = record.size
            rows.update(record.rows)
            about = dict(record.about)
        dataset = str(about.get("dataset", ""))[:200]
        count = int(about.get("rows", 0)) if dataset else len(rows)
        name = str(about.get("stage", ""))[:200]
        return cls(stage=name, dataset=dataset, rows=count, objects=len(sizes), bytes=sum(sizes.values()))


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
    """A remote whose files are listed, counted, read in place and deleted."""

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
        """Deletes a file, unless it is gone or another machine has written it again since it was listed.

        The counts of an index are deleted with it.
        """
        with suppress(FileNotFoundError):
            now = _file(file.place, self._reach(lambda: self._files.info(self._full(file.place))))
            if now.same(file):
                self._reach(lambda: self._files.rm_file(self._full(file.place)))
                if file.place.startswith("index/"):
                    self._reach(lambda: self._files.rm_file(self._full(f"counts/{file.place.removeprefix('index/')}")))

    # --- counts ----------------------------------------------------------------------------------------------------

    def publish(self, stage: str, records: Iterable[Record], newest: bool = False) -> str:
        """As `Remote.publish`, and writes the counts of the stage for an index that has none."""
        added = list(records)
        before = self.index(stage).values()
        digest = super().publish(stage, added, newest)
        last = [segment for segment in self.segments(stage) if segment.digest == digest][-1]
        place = f"counts/{stage}/{last.name}"
        if self._size(place) is None:
            winners = answering([*before, *added]).values()
            raw = Counts.of([*winners, *added[-1:]]).model_dump_json().encode()
            self._put(place, lambda target: self._files.pipe_file(target, raw))
        return digest

    def contents(self) -> dict[str, Counts]:
        """The counts of each stage, fits and manifests among them, by its digest.

        Two listings and one small file for each stage give them. A stage whose newest index has no counts is read.
        """
        newest: dict[str, Segment] = {}
        for file in self.files("index"):
            _, stage, name = file.place.split("/", 2)
            segment = Segment.parse(name)
            if segment is not None and STAGE.fullmatch(stage):
                newest[stage] = max(segment, newest.get(stage, segment))
        counted = {file.place for file in self.files("counts")}
        with ThreadPoolExecutor(THREADS) as pool:
            counts = pool.map(lambda stage: self._counted(stage, newest[stage], counted), newest)
            return dict(zip(newest, counts, strict=True))

    def _counted(self, stage: str, segment: Segment, counted: set[str]) -> Counts:
        place = f"counts/{stage}/{segment.name}"
        if place in counted:
            try:
                return Counts.model_validate_json(self.read_small(place, LARGEST_COUNTS))
            except (ValidationError, RemoteError) as error:
                log.warning("%s/%s holds no counts, the indexes are read instead: %s", self.url, place, error)
        return Counts.of(self.index(stage).values())

    # --- small files -----------------------------------------------------------------------------------------------

    def read_small(self, place: str, largest: int) -> bytes:
        """A file of at most so many bytes; b"" if there is none. Raises ForeignError for a larger one."""
        size = self._size(place) or 0
        if size > largest:
            raise ForeignError(f"{self.url}/{place} has {size:,} bytes: no file of ours is that large there")
        return b"".join(self._blocks(place, size)) if size else b""

    def put_new(self, place: str, raw: bytes) -> bytes:
        """Writes a small file unless there is one, and returns the bytes that are there then.

        On S3 and on disks nothing is ever replaced; elsewhere the first of two machines may lose if both write at once.
        """
        largest = max(len(raw), 1 << 24)
        if there := self.read_small(place, largest):
            return there
        try:
            self._create(place, raw)
        except (FileExistsError, RemoteError):  # another machine was first, or else nothing is there
            if not (there := self.read_small(place, largest)):
                raise
        return self.read_small(place, largest)

    def _create(self, place: str, raw: bytes) -> None:
        target = self._full(place)
        if not self._protocols.isdisjoint(("s3", "s3a")):
            self._reach(lambda: self._files.pipe_file(target, raw, mode="create"))
        elif "file" in self._protocols:
            self._reach(lambda: self._files.makedirs(target.rpartition("/")[0], exist_ok=True))
            temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.part"
            try:
                self._reach(lambda: self._files.pipe_file(temporary, raw))
                if not self._reach(lambda: atomic.enter(Path(temporary), Path(target))):
                    raise FileExistsError(target)
            finally:
                with suppress(FileNotFoundError):
                    self._files.rm_file(temporary)
        else:
            self._put(place, lambda full: self._files.pipe_file(full, raw))


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
