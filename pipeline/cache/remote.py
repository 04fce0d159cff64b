"""A cache that teams share, at any URL that fsspec understands. Its files are written once and never changed.

    objects/ab/cdef....parquet                      as in a local cache
    index/<stage digest>/<number>-<digest>.json     the records of a stage that one push added
    counts/<stage digest>/<number>-<digest>.json    what the stage then held, see `remote_inventory`
    releases/<name>-<version>.json                  what teams agreed on for good

An index is named by the BLAKE3 of its bytes, and its number is one more than the highest that its writer saw. So no
locks are needed: of two records of a key the one with fewer reasons wins, then that of the lower number, then that of
the smaller digest. One listing of a stage gives its indexes; each is read once, and its copy is kept here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from blake3 import blake3

from pipeline.cache import atomic
from pipeline.cache.record import (
    DamagedError,
    ForeignError,
    Record,
    Ref,
    Segment,
    answering,
    decode_index,
    encode_index,
)
from pipeline.errors import RemoteError

log = logging.getLogger(__name__)

T = TypeVar("T")

ATOMIC_PUT = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss"}
"""Protocols whose uploads appear whole or not at all. With others a file is uploaded beside its place, then moved."""
LARGEST_INDEX = 1 << 29
"""In bytes; the index of a stage with ten million utterances is half as large."""
BLOCK = 1 << 23
"""The number of bytes that are read at once."""


class Remote:
    """A remote cache. Every method raises RemoteError if it cannot be reached. Safe for threads and for other writers.

    url: as fsspec understands it, such as s3://bucket/prefix, file:///shared or sftp://host/path. root: the folder of
    the local cache, which keeps copies of the indexes that were read.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.url, self.root = url, root
        self._indexes: dict[str, Mapping[str, Record]] = {}
        self._objects: dict[str, int] = {}

    # --- questions -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises RemoteError if the remote cannot be reached."""
        self._list("index")

    def stages(self) -> list[str]:
        """The digests of the stages that have an index."""
        return [name for name, _ in self._list("index")]

    def segments(self, stage: str) -> list[Segment]:
        """The indexes of a stage, sorted by the rank of their records."""
        parsed = (Segment.parse(name) for name, _ in self._list(f"index/{stage}"))
        return sorted(segment for segment in parsed if segment is not None)

    def index(self, stage: str) -> Mapping[str, Record]:
        """The record that answers each key of a stage. A process reads the indexes of a stage once."""
        if stage not in self._indexes:
            segments = self.segments(stage)
            winners = answering(record for segment in segments for record in self.readable_records(stage, segment))
            self._indexes[stage] = winners
            self._objects.update((record.object, record.size) for record in winners.values())
        return self._indexes[stage]

    def records(self, stage: str, digest: str) -> list[Record]:
        """The records of an index, given by its digest, from a copy here or from the remote. Raises RemoteError."""
        if raw := self._kept(digest):
            return self._decoded(raw, stage, digest)
        for segment in self.segments(stage):
            if segment.digest == digest:
                return self._records(stage, segment)
        raise RemoteError(f"{self.url} has no index {digest[:12]} of stage {stage[:12]}")

    def readable_records(self, stage: str, segment: Segment) -> list[Record]:
        """The records of an index that was just listed; none if a `gc` elsewhere has deleted it since.

        An index that this version cannot read, since it is damaged or was written by a newer one, is warned of and
        counts as empty, so that one bad file does not hide what the others name.
        """
        try:
            return self._records(stage, segment)
        except ForeignError as error:
            if segment in self.segments(stage):
                log.warning("%s; it is left out", error)
            return []

    def has(self, ref: Ref) -> bool:
        """True if the remote has the object in its full size. The remote is asked only if no index names the object."""
        if self._objects.get(ref.object) != ref.size:
            size = self._size(self._object(ref))
            if size is not None:
                self._objects[ref.object] = size
        return self._objects.get(ref.object) == ref.size

    # --- transfers -------------------------------------------------------------------------------------------------

    def fetch(self, ref: Ref, target: Path, moved: Callable[[int], None] = lambda size: None) -> None:
        """Downloads an object to `target` and checks it.

        moved: called with the number of bytes of each block that came. Raises ForeignError if the object is gone, or
        has other bytes than its record says.
        """
        with atomic.beside(self.root) as temporary:
            if self._download(ref, temporary, moved) != ref.object:
                raise ForeignError(f"{self.url}: object {ref.object[:12]} has other bytes than its name says")
            if not atomic.link(temporary, target):
                temporary.replace(target)  # the old file was not the object, and these bytes are checked

    def send(self, ref: Ref, source: Path) -> bool:
        """Uploads an object unless the remote has it; True if it was uploaded."""
        if self.has(ref):
            return False
        self.put(ref, source)
        return True

    def put(self, ref: Ref, source: Path) -> None:
        """Uploads an object. If the remote has it, the same bytes replace it."""
        self._put(self._object(ref), lambda place: self._files.put_file(str(source), place))
        self._objects[ref.object] = ref.size

    def publish(self, stage: str, records: Iterable[Record], newest: bool = False) -> str:
        """Adds an index of these records, and returns its digest.

        Nothing is added if a stage has this index already or, with `newest`, if it is the last one.
        """
        raw = encode_index(records)
        digest = self.keep(raw)
        segments = self.segments(stage)
        if all(segment.digest != digest for segment in (segments[-1:] if newest else segments)):
            new = Segment.after(segments, digest)
            self._put(f"index/{stage}/{new.name}", lambda place: self._files.pipe_file(place, raw))
            self._indexes.pop(stage, None)
        return digest

    def keep(self, raw: bytes) -> str:
        """Keeps a copy of an index in the local cache if it is writable, named by its digest, which is returned."""
        digest = blake3(raw).hexdigest()
        target = self.root / "index" / f"{digest}.json"
        if not target.exists():
            with atomic.where_writable():
                atomic.write_new(self.root, target, raw)
        return digest

    # --- fsspec ----------------------------------------------------------------------------------------------------

    @cached_property
    def _where(self) -> tuple[Any, str]:
        try:
            files, root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            raise RemoteError(f"{self.url}: {error}") from error
        return files, str(root).rstrip("/")

    @property
    def _files(self) -> Any:
        return self._where[0]

    def _object(self, ref: Ref) -> str:
        return f"objects/{ref.object[:2]}/{ref.object[2:]}{ref.suffix}"

    def _kept(self, digest: str) -> bytes | None:
        """The copy here of an index; None if there is none. A damaged copy is deleted."""
        path = self.root / "index" / f"{digest}.json"
        raw = path.read_bytes() if path.exists() else b""
        if blake3(raw).hexdigest() == digest:
            return raw
        with atomic.where_writable():
            path.unlink(missing_ok=True)
        return None

    def _records(self, stage: str, segment: Segment) -> list[Record]:
        raw = self._kept(segment.digest) or self._read(f"index/{stage}/{segment.name}")
        if blake3(raw).hexdigest() != segment.digest:
            raise ForeignError(f"{self.url}: index {segment.digest[:12]} of {stage[:12]} is damaged")
        records = self._decoded(raw, stage, segment.digest)
        self.keep(raw)
        return records

    def _decoded(self, raw: bytes, stage: str, digest: str) -> list[Record]:
        try:
            return decode_index(raw, stage)
        except DamagedError as error:
            raise ForeignError(f"{self.url}: index {digest[:12]} of {stage[:12]}: {error}") from error

    def _read(self, place: str) -> bytes:
        size = self._size(place) or 0
        if size > LARGEST_INDEX:
            raise ForeignError(f"{self.url}/{place} has {size} bytes: no index of ours is that large")
        return b"".join(self._blocks(place, size))

    def _download(self, ref: Ref, target: Path, moved: Callable[[int], None]) -> str:
        """Writes as many bytes as the record says, however large the object is. Returns their digest."""
        hasher = blake3()
        with target.open("wb") as sink:
            for block in self._blocks(self._object(ref), ref.size):
                hasher.update(block)
                sink.write(block)
                moved(len(block))
        return hasher.hexdigest()

    def _blocks(self, place: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of a file, in blocks; no more are read, whatever is there.

        Raises ForeignError if the file is gone, is shorter, or is no regular file.
        """
        start = 0
        try:
            with self._reading(place) as read:
                while start < size:
                    block = self._reach(partial(read, start, min(start + BLOCK, size)))
                    if not 0 < len(block) <= min(BLOCK, size - start):
                        raise ForeignError(f"{self.url}/{place} has not the {size:,} bytes that it should have")
                    start += len(block)
                    yield block
        except FileNotFoundError as error:
            raise ForeignError(f"{self.url} has lost {place}") from error

    @contextmanager
    def _reading(self, place: str) -> Iterator[Callable[[int, int], bytes]]:
        """A function that reads from one offset to another. The stretches that it is asked for follow on each other.

        A file that comes over HTTP is read as a stream, since a server may ignore which bytes it is asked for.
        """
        full = self._full(place)
        if not self._protocols.isdisjoint(("http", "https")):
            with closing(self._reach(lambda: self._files.open(full, block_size=0, size=1))) as stream:
                yield lambda start, end: stream.read(end - start)
            return
        if "file" in self._protocols and self._reach(lambda: self._files.info(full))["type"] != "file":
            raise ForeignError(f"{self.url}/{place} is no regular file")
        yield lambda start, end: self._files.cat_file(full, start=start, end=end)

    def _put(self, place: str, write: Callable[[str], object]) -> None:
        target = self._full(place)
        if not ATOMIC_PUT.isdisjoint(self._protocols):
            self._reach(lambda: write(target))
            return
        self._reach(lambda: self._files.makedirs(target.rpartition("/")[0], exist_ok=True))
        temporary = f"{target}.{os.getpid()}-{os.urandom(4).hex()}.part"
        try:
            self._reach(lambda: write(temporary))
            self._reach(lambda: self._files.mv(temporary, target))
        except BaseException:
            with suppress(Exception):
                self._files.rm_file(temporary)
            raise

    @property
    def _protocols(self) -> set[str]:
        names = self._files.protocol
        return {names} if isinstance(names, str) else set(names)

    def _list(self, place: str) -> list[tuple[str, int]]:
        """Name and size of each file in a folder; none if there is no such folder."""
        try:
            entries = self._reach(lambda: self._files.ls(self._full(place), detail=True))
        except FileNotFoundError:
            return []
        return [(entry["name"].rstrip("/").rpartition("/")[2], entry.get("size") or 0) for entry in entries]

    def _size(self, place: str) -> int | None:
        try:
            return int(self._reach(lambda: self._files.size(self._full(place))))
        except FileNotFoundError:
            return None

    def _full(self, place: str) -> str:
        return f"{self._where[1]}/{place}"

    def _reach(self, call: Callable[[], T]) -> T:
        """The result of `call`. Any error of an fsspec backend becomes a RemoteError, except FileNotFoundError."""
        try:
            return call()
        except FileNotFoundError:
            raise
        except Exception as error:
            raise RemoteError(f"{self.url} cannot be reached: {type(error).__name__}: {error}") from error
