"""Files that are there whole or not at all: written beside their place, flushed to disk, then linked in exclusively."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import SpaceError


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
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SpaceError(f"no space left on the disk of {root}") from error


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


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
