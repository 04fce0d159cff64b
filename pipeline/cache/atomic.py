"""Files that are there whole or not at all, written beside their place: objects are flushed to disk and linked in
exclusively, notes replace what stood there."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import SpaceError

FULL = (errno.ENOSPC, errno.EDQUOT)
_SHORT = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of a write that the disk did not take whole."""


@contextmanager
def beside(root: Path) -> Iterator[Path]:
    """An empty file in `root/partial`, on the disk where it is to stand; gone at the end unless it was moved."""
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
def space(root: Path) -> Iterator[None]:
    """Within it a full disk is a SpaceError that names `root`."""
    try:
        yield
    except Exception as error:
        if not is_full(error):
            raise
        raise SpaceError(f"no space left on the disk of {root}") from error


def is_full(error: BaseException) -> bool:
    """True where an error says that a disk, or what one may use of it, is full: each library says it in its own way."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    said = str(error)
    return any(os.strerror(code) in said for code in FULL) or _SHORT.fullmatch(said) is not None


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A folder of the caller's own in `root/partial`, gone at the end; one that a kill leaves is swept later."""
    folder = root / "partial"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)


def link(source: Path, target: Path) -> bool:
    """Flushes `source` and links it in as `target`, read-only; False where somebody else's stands there already."""
    _flush(source)
    source.chmod(0o444)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    _flush(target.parent)
    return True


def write_new(root: Path, target: Path, content: bytes) -> bool:
    """`content` as the new file `target` below `root`; False where one stands there already. Raises SpaceError."""
    with beside(root) as temporary:
        temporary.write_bytes(content)
        return link(temporary, target)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A file to write, which at the end replaces `target`; what stands there stays until then, and after an error.

    The folder is made where it is missing. Raises SpaceError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    with space(target.parent):
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def publish(target: Path, text: str, *, errors: str = "strict") -> None:
    """Replaces `target` by this text in UTF-8; `errors` as of `str.encode`. Raises SpaceError."""
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=errors)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
