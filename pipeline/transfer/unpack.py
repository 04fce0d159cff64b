"""Unpacks tar, tar.gz and zip archives, which are not trusted: plain files and folders, inside one folder."""

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
_UNSUPPORTED = (NotImplementedError, RuntimeError)  # zipfile on encryption, and on a method that it doesn't know
_LONGEST = 255
_LEAST = 512  # what an entry counts at least, so that the bound also holds for a flood of empty files


def unpack(
    archive: Path, folder: Path, limit: int, nested: Sequence[str] = (), advance: Callable[[int], None] = lambda _: None
) -> list[str]:
    """Unpacks an archive into `folder` and returns the names that it has at its top, sorted.

    limit: bytes that it may unpack to, each entry counting at least 512. nested: file names of archives inside it,
    which are unpacked as they are read, in the place where they stand, and aren't kept. `advance` is called with the
    bytes written since the call before.

    Everything is written beside, in `folder`, and moved to its place when the archive has been read whole; files of
    the same name are replaced. Raises InputError, having moved nothing, for a broken archive, more than `limit`, a
    link, a device, a name that is absolute, has `..` or a backslash, and a nested archive that isn't there.
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
    found: set[str] = field(default_factory=set)

    def run(self, name: str, stream: IO[bytes]) -> None:
        self._archive(name, stream, PurePosixPath(), self.nested)
        if lost := self.nested - self.found:
            raise InputError(f"{name} holds no {', '.join(sorted(lost))}")

    def _archive(self, name: str, stream: IO[bytes], place: PurePosixPath, nested: set[str]) -> None:
        """`name` is what messages call the archive, `place` where in the folder it stands."""
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
        self.found.add(path.name)
        with tempfile.TemporaryFile(dir=self.folder) as copy:
            if path.suffix == ".zip":  # its table is at its end
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
            raise InputError(f"{name}: {entry.name!r} isn't as long as the archive says")

    def _spend(self, size: int, name: str) -> None:
        self.left -= size
        if self.left < 0:
            raise InputError(f"{name} unpacks to more than it may, {-self.left} bytes over")


@dataclass(frozen=True)
class _Entry:
    """A file of an archive, to be read before the next entry is asked for; `stream` is None for a folder."""

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
    """Reads a damaged or missing header as an error, where TarFile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(f"it ends early: {error}") from error


def _tar(name: str, stream: IO[bytes] | gzip.GzipFile) -> Iterator[_Entry]:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK, tarinfo=_Strict) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined] # else it keeps every header in memory
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
            raise InputError(f"{name} is larger than all that may be unpacked")
    copy.seek(0)


def _safe(name: str, archive: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(f"{archive}: the name {name!r} leads outside the folder")
    if any(len(os.fsencode(part)) > _LONGEST for part in path.parts):
        raise InputError(f"{archive}: the name {name!r} is too long")
    return path


def _move(source: Path, folder: Path) -> None:
    """Moves the files of `source` to the same places in `folder`, replacing those of the same name."""
    moves = [(path, folder / path.relative_to(source)) for path in sorted(source.rglob("*"))]
    if blocked := [str(target) for path, target in moves if _blocks(target, path.is_dir())]:
        raise InputError("in the way of what is to be unpacked, move them elsewhere: " + ", ".join(blocked))
    for path, target in moves:
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            path.replace(target)


def _blocks(target: Path, is_folder: bool) -> bool:
    return target.is_symlink() or (target.exists() and target.is_dir() != is_folder)
