"""Locks of the kernel on files: one process holds a lock at a time, and loses it when it dies."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKLESS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
"""The errors of a disk that has no locks. There every process gets in."""


@contextmanager
def alone(path: Path, taken: Callable[[], None]) -> Iterator[None]:
    """A context in which no other process holds the lock of `path`, a file that is made if it is missing.

    If another process holds it, `taken` is called once: it raises, or else this waits for the lock.
    """
    with path.open("a") as file:
        try:
            take(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken()
            take(file.fileno(), fcntl.LOCK_EX)
        yield


def held(path: Path) -> bool:
    """True if a process holds the lock of `path` now."""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            take(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def take(handle: int, kind: int) -> None:
    """Takes the lock of an open file, unless its disk has none. Raises BlockingIOError as `fcntl.flock` does."""
    try:
        fcntl.flock(handle, kind)
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
