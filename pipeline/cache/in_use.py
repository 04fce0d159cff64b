"""What `gc` must keep: the stages that live runs have pinned, and every file that was used lately.

    pins/<random>.json      the digests of the stages that a run uses; locked for as long as the run lives
    pins/gate               locked by all while they set a pin, exclusively while `gc` deletes

The kernel frees the locks of a process that dies, so no pin outlives its run. The last use of a file is its time of
change.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.cache import atomic, flock
from pipeline.errors import InputError

log = logging.getLogger(__name__)

TOUCH_S = 86_400.0
"""How often a use of a file is noted at most. A file may have been used this much later than its note says."""


def note_use(path: Path) -> None:
    """Notes a use of a file, at most once a day and only if it is writable. Raises FileNotFoundError."""
    if time.time() - path.stat().st_mtime > TOUCH_S:
        with atomic.where_writable():
            os.utime(path)


@contextmanager
def pinned(cache: Path, stages: Iterable[str]) -> Iterator[None]:
    """A context in which `gc` keeps these stages, given by their digests. Waits for a `gc` that is deleting.

    A cache that this user cannot write to is not pinned, with a warning. Raises SpaceError on a full disk.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_pin(cache, sorted(set(stages))))
        except OSError as error:
            if error.errno not in atomic.UNWRITABLE:
                raise
            log.warning("%s cannot be pinned: a gc by its owner may remove what this run uses: %s", cache, error)
        yield


def live(cache: Path) -> frozenset[str]:
    """The stages that live runs use. Removes pins of dead runs. Raises InputError for a live pin that is damaged."""
    return frozenset(stage for path in (cache / "pins").glob("*.json") for stage in _pinned_by(path))


@contextmanager
def gate(cache: Path, *, exclusive: bool) -> Iterator[None]:
    """A context in which nobody deletes and, if `exclusive`, nobody sets a pin either. Waits for it."""
    folder = cache / "pins"
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "gate", os.O_CREAT | (os.O_RDWR if exclusive else os.O_RDONLY), 0o666)
    try:
        flock.take(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def _pin(cache: Path, stages: list[str]) -> Iterator[None]:
    path = cache / "pins" / f"{uuid.uuid4().hex}.json"
    with atomic.space(cache):
        handle = _set_pin(cache, path, stages)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(handle)


def _set_pin(cache: Path, path: Path, stages: list[str]) -> int:
    """Writes a pin, which is locked before another process can see it. Returns its open file."""
    with gate(cache, exclusive=False), atomic.beside(cache) as temporary:
        temporary.write_text(json.dumps({"process": os.getpid(), "stages": stages}))
        temporary.chmod(0o644)  # a gc of another user reads it
        handle = os.open(temporary, os.O_RDWR)
        try:
            flock.take(handle, fcntl.LOCK_EX)
            temporary.rename(path)
        except BaseException:
            os.close(handle)
            raise
    return handle


def _pinned_by(path: Path) -> list[str]:
    """The stages in a pin whose run is alive. The pin of a dead run is removed and has none."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its run has just ended
        return []
    with os.fdopen(handle, "rb") as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # locked, or on a disk without locks, where every pin counts as live
            return _stages(path, file.read())
        path.unlink(missing_ok=True)
        return []


def _stages(path: Path, raw: bytes) -> list[str]:
    try:
        return [str(stage) for stage in json.loads(raw)["stages"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what a live run uses: {error}; wait for it to end") from error
