"""Unpacks tar, tar.gz and zip archives of untrusted sources: plain files and folders only, inside one folder."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline.errors import InputError

BLOCK = 2**20

_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, struct.error, EOFError, ValueError)
_UNSUPPORTED = (NotImplementedError, RuntimeError)  # raised by zipfile for encryption and unknown methods
_LONGEST, _LONGEST_PATH = 255, 1024
"""In bytes: the longest name of a file, and the longest path in an archive."""
_LARGEST_HEADER = 4096
"""In bytes: the largest header before an entry. `tarfile` takes time that grows with the square of its size."""
_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LEAST = 512
"""The bytes that every entry counts at least, so that the limit also holds for a flood of empty files."""


def unpack(
    archive: Path, folder: Path, limit: int, nested: Sequence[str] = (), advance: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Unpacks an archive into `folder`, and returns the sorted names at the top of the archive.

    limit: the bytes that the archive may unpack to; every entry counts at least 512. nested: file names of archives
    inside the archive, which are unpacked in their own places and not kept. advance: called with the number of bytes
    written since the last call.

    Files are first written to a hidden folder in `folder`, and moved when the whole archive has been read; they replace
    files of the same name. Raises InputError, before anything is moved, for a broken archive, for more than `limit`
    bytes, for links and devices, for a name that is absolute or holds `..` or a backslash, and for a nested archive
    that is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".unpacking-{archive.name}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        with archive.open("rb") as stream:
            _Unpacking(beside, limit, set(nested), advance).run(archive.name, stream)
        names = sorted(path.name for path in beside.iterdir())
        _move(beside, folder)
        return names
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@dataclass
class _Unpacking:
    folder: Path
    left: int
    nested: set[str]
    advance: Callable[[int], None]
    seen: set[str] = field(default_factory=set)

    def run(self, name: str, stream: IO[bytes]) -> None:
        self._archive(name, stream, PurePosixPath(), self.nested)
        if lost := self.nested - self.seen:
            raise InputError(f"{name} holds no {', '.join(sorted(lost))}")

    def _archive(self, name: str, stream: IO[bytes], place: PurePosixPath, nested: set[str]) -> None:
        """Unpacks an archive, which messages call `name`, into `place` below the folder."""
        try:
            for entry in _entries(name, stream):
                path = place / _safe(entry.name, name)
                if path.name in nested and entry.stream is not None:
                    self._nested(f"{name}: {path.name}", entry.stream, path)
                else:
                    self._entry(entry, path, name)
        except _BROKEN as error:
            raise InputError(f"{name} is broken: {error or type(error).__name__}") from error
        except _UNSUPPORTED as error:
            raise InputError(f"{name} can't be unpacked: {error}") from error
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise InputError(f"{name} has a file and a folder of one name: {error.filename}") from error

    def _nested(self, name: str, stream: IO[bytes], path: PurePosixPath) -> None:
        self.seen.add(path.name)
        with tempfile.TemporaryFile(dir=self.folder) as copy:
            if path.suffix == ".zip":  # the table of a zip is at its end
                _copy(name, stream, copy, self.left)
            self._archive(name, copy if path.suffix == ".zip" else stream, path.parent, set())

    def _entry(self, entry: _Entry, path: PurePosixPath, name: str) -> None:
        target = self.folder / path
        self._spend(max(_LEAST, entry.size), name)
        if entry.stream is None:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            self._fill(entry, file, name)

    def _fill(self, entry: _Entry, file: IO[bytes], name: str) -> None:
        assert entry.stream is not None
        written = 0
        while block := entry.stream.read(BLOCK):
            written += len(block)
            if written > entry.size:
                break
            file.write(block)
            self.advance(len(block))
        if written != entry.size:
            raise InputError(f"{name}: {entry.name!r} has another size than the archive states")

    def _spend(self, size: int, name: str) -> None:
        self.left -= size
        if self.left < 0:
            raise InputError(f"{name} unpacks to more than is allowed, by {-self.left} bytes")


@dataclass(frozen=True)
class _Entry:
    """A file of an archive, whose stream has to be read before the next entry; the stream is None for a folder."""

    name: str
    size: int
    stream: IO[bytes] | None


def _entries(name: str, stream: IO[bytes]) -> Iterator[_Entry]:
    if name.endswith((".tar.gz", ".tgz")):
        with gzip.GzipFile(fileobj=stream) as tar:
            yield from _tar(name, tar)
    elif name.endswith(".tar"):
        yield from _tar(name, stream)
    elif name.endswith(".zip"):
        yield from _zip(name, stream)
    else:
        raise InputError(f"{name} is neither .tar, .tar.gz, .tgz nor .zip")


class _Strict(tarfile.TarInfo):
    """Raises an error for a damaged or missing header, which TarFile takes for the end of the archive, and for one that
    is larger than any path needs."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"it ends early: {error}") from error
        if info.type in _HEADERS and info.size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {info.size:,} bytes goes before an entry")
        return info


def _tar(name: str, stream: IO[bytes] | gzip.GzipFile) -> Iterator[_Entry]:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Strict) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined] # otherwise it keeps every header in memory
            if not member.isfile() and not member.isdir():
                raise InputError(f"{name}: {member.name!r} is neither a file nor a folder")
            yield _Entry(member.name, member.size, tar.extractfile(member) if member.isfile() else None)


def _zip(name: str, stream: IO[bytes]) -> Iterator[_Entry]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise InputError(f"{name}: {info.filename!r} is neither a file nor a folder")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise InputError(f"{name} can't be unpacked: {info.filename!r} is neither stored nor deflated")
            if info.is_dir():
                yield _Entry(info.filename, 0, None)
                continue
            with archive.open(info) as file:
                yield _Entry(info.filename, info.file_size, file)


def _copy(name: str, stream: IO[bytes], copy: IO[bytes], limit: int) -> None:
    while block := stream.read(BLOCK):
        copy.write(block)
        if copy.tell() > limit:
            raise InputError(f"{name} is larger than the whole archive may be when unpacked")
    copy.seek(0)


def _safe(name: str, archive: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(f"{archive}: the name {name!r} leads outside the folder")
    if len(os.fsencode(name)) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        raise InputError(f"{archive}: the name {name[:100]!r}... is too long")
    return path


def _move(source: Path, folder: Path) -> None:
    """Moves the files of `source` to the same places in `folder`. They replace files of the same name."""
    moves = [(path, folder / path.relative_to(source)) for path in sorted(source.rglob("*"))]
    if blocked := [str(target) for path, target in moves if _blocks(target, path.is_dir())]:
        raise InputError("these are in the way of the archive's files, move them elsewhere: " + ", ".join(blocked))
    for path, target in moves:
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            path.replace(target)


def _blocks(target: Path, is_folder: bool) -> bool:
    return target.is_symlink() or (target.exists() and target.is_dir() != is_folder)
