"""Which stages live runs use, so that `gc` leaves them alone.

    pins/<random>.json      the digests of the stages a run uses, locked for as long as the run lives
    pins/gate               shared while a pin is set, exclusive while `gc` deletes

The kernel lets go of the locks of a process that dies, so no pin outlives its run.
"""

from __future__ import annotations

import errno
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
from pipeline.cache.store import TOUCH_S, Store
from pipeline.errors import InputError

log = logging.getLogger(__name__)

UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def pinned(cache: Path, stages: Iterable[str]) -> Iterator[None]:
    """Within it `gc` leaves these stages, by their digests, alone; waits for a `gc` that is deleting.

    A cache that others own and that can't be written to is not pinned. Raises SpaceError on a full disk.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_pin(cache, sorted(set(stages))))
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            log.warning("%s cannot be pinned: a gc by its owner may remove what this run uses: %s", cache, error)
        yield


def live(cache: Path) -> frozenset[str]:
    """The stages that live runs use; the pins of dead ones are removed. Raises InputError for one that is damaged."""
    return frozenset(stage for path in (cache / "pins").glob("*.json") for stage in _held(path))


def note_locked(store: Store) -> None:
    """Notes the use of what a lock names and is here: with a lock, no action is read, and `gc` goes by actions."""
    for record in (record for records in (store.fixed or {}).values() for record in records.values()):
        action = store.action(record.stage, record.key)
        if store.here(record) and not action.exists():
            store.adopt(record)
        elif action.exists() and time.time() - action.stat().st_mtime > TOUCH_S:
            with suppress(PermissionError):
                os.utime(action)


@contextmanager
def gate(cache: Path, *, exclusive: bool) -> Iterator[None]:
    """Waits until nobody deletes, or with `exclusive` until nobody sets a pin either."""
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
        handle = _set(cache, path, stages)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            path.unlink()
        os.close(handle)


def _set(cache: Path, path: Path, stages: list[str]) -> int:
    """Writes a pin that is locked before anybody sees it; its open file."""
    with gate(cache, exclusive=False), atomic.beside(cache) as temporary:
        temporary.write_text(json.dumps({"process": os.getpid(), "stages": stages}))
        temporary.chmod(0o644)  # whoever collects reads it
        handle = os.open(temporary, os.O_RDWR)
        try:
            flock.take(handle, fcntl.LOCK_EX)
            temporary.rename(path)
        except BaseException:
            os.close(handle)
            raise
    return handle


def _held(path: Path) -> list[str]:
    """The stages of a pin whose owner lives; else none, and the pin goes."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # its run has just ended
        return []
    with os.fdopen(handle, "rb") as file:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # held, or on a disk without locks: there a pin counts as live for as long as its file stands
            return _stages(path, file.read())
        path.unlink(missing_ok=True)
        return []


def _stages(path: Path, raw: bytes) -> list[str]:
    try:
        return [str(stage) for stage in json.loads(raw)["stages"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not say what a live run uses: {error}; wait for it to end") from error
