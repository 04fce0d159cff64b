"""Writes files that are there whole or not at all, and says when a disk is full.

A file is written beside its place and flushed to disk. Then it is linked in if nothing is there yet (objects and
records, which never change), or it replaces what is there (notes, tables, checkpoints).
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import SpaceError

FULL = (errno.ENOSPC, errno.EDQUOT)
LINKLESS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)
"""The errors of a disk that has no hard links."""
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""numpy's message about a write of which the disk took only a part."""


@contextmanager
def beside(root: Path) -> Iterator[Path]:
    """An empty file in `root/partial`, on the same disk as its later place. At the end it is deleted unless moved."""
    with space(root):
        folder = root / "partial"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        try:
            yield Path(name)
        finally:
            with suppress(FileNotFoundError):
                Path(name).unlink()


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A new folder in `root/partial`, deleted at the end. If the process is killed, `Home.sweep` deletes it later."""
    folder = root / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def link(source: Path, target: Path) -> bool:
    """Flushes `source` to disk and links it in as `target`, read-only; False if a file is there already."""
    _flush(source)
    source.chmod(0o444)
    target.parent.mkdir(parents=True, exist_ok=True)
    new = enter(source, target)
    if new:
        _flush(target.parent)
    return new


def enter(source: Path, target: Path) -> bool:
    """Links `source` in as `target`; False if a file is there already.

    A disk without hard links has it moved there. Of two processes that do so at the same moment, the last one wins.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        if target.exists():
            return False
        source.rename(target)
    return True


def write_new(root: Path, target: Path, content: bytes) -> bool:
    """Writes `content` to the new file `target` below `root`; False if a file is there already. Raises SpaceError."""
    with beside(root) as temporary:
        temporary.write_bytes(content)
        return link(temporary, target)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write a file to, which at the end is flushed to disk and replaces `target`.

    The old file stays until then, and after an error. Missing folders are made. Raises SpaceError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with space(target.parent):
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(target)
            _flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def publish(target: Path, text: str, *, errors: str = "strict") -> None:
    """Replaces `target` by this text in UTF-8. errors: as of `str.encode`. Raises SpaceError."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def writable(folder: Path) -> bool:
    """True if this user can make files in a folder, or can make the folder."""
    places = (folder, *folder.absolute().parents)
    nearest = next(path for path in places if os.path.exists(path))  # noqa: PTH110 - Path.exists may raise
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


@contextmanager
def where_writable() -> Iterator[None]:
    """A context whose write is skipped in a cache that is mounted read-only or belongs to another user."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise


# --- full disks ------------------------------------------------------------------------------------------------


@contextmanager
def space(root: Path) -> Iterator[None]:
    """Turns the error of a full disk into a SpaceError that names `root`."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise SpaceError(f"no space left on the disk of {root}") from error


def is_full(error: BaseException) -> bool:
    """True if an error says that a disk or a quota is full. Each library says so in its own way."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    message = str(error)
    return any(os.strerror(code) in message for code in FULL) or _SHORT_WRITE.fullmatch(message) is not None


def check_space(folder: Path, size: float, purpose: str) -> None:
    """Raises SpaceError if the disk of `folder`, which exists, has fewer than `size` bytes free for `purpose`."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SpaceError(f"{folder} has {free / 1e6:,.0f} MB free, {purpose} needs {size / 1e6:,.0f} MB")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
