"""Locks of the kernel on files: one process at a time holds one, and it is let go of when that process dies."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""What a disk without locks says. There everybody gets in."""


@contextmanager
def alone(path: Path, taken: Callable[[], None]) -> Iterator[None]:
    """Within it nobody else holds `path`, a file that is made where it is missing.

    Where somebody does, `taken` is called once: it raises, or else this waits.
    """
    with path.open("a") as file:
        try:
            take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken()
            take(file.fileno(), fcntl.LOCK_EX)
        yield


def held(path: Path) -> bool:
    """True where somebody holds `path` now."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            take(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def take(handle: int, kind: int) -> None:
    """Takes the lock of an open file, where its disk has any. Raises BlockingIOError as `fcntl.flock` does."""
    try:
        fcntl.flock(handle, kind)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
