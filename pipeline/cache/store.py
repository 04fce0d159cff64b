"""The content-addressed cache: actions say what was asked, objects are the immutable bytes that answered.

    actions/<stage digest>/<key>.json       a record: object digest, recipe, versions, host, seconds, reasons
    objects/ab/cdef....parquet              named by the BLAKE3 of its bytes, read-only

Everything is written beside its place, flushed to disk, then linked in exclusively: the first writer wins and the
loser adopts the winner's. A crash at any moment leaves either nothing or a whole file. Where the store has a remote,
what others put there counts as held, and is brought here when it is opened.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.cache import atomic, keys
from pipeline.cache.record import DamagedError, Record, Ref, Suffix, decode, encode
from pipeline.errors import RemoteError

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote

log = logging.getLogger(__name__)

PROVISIONAL = "~"
"""Ends the name of an action whose shard holds a transient reason: it serves, and is planned again next time."""
TOUCH_S = 86_400.0
"""How often a hit is noted, by the action's time of change: what `gc` goes by."""

Fixed = Mapping[str, Mapping[str, Record]]
T = TypeVar("T")


class CorruptError(Exception):
    """An object did not have the bytes its name says, or is nowhere; what was damaged has been set aside."""

    def __init__(self, ref: Ref, message: str) -> None:
        super().__init__(ref, message)
        self.ref, self.message = ref, message

    def __str__(self) -> str:
        return self.message


class Store:
    """The cache in one directory. Safe for any number of processes at once, without locks.

    remote: what it holds counts as held here. fixed: by stage and key, the records of a lock; nothing else answers.
    """

    def __init__(self, root: Path, remote: Remote | None = None, fixed: Fixed | None = None) -> None:
        self.root, self.remote, self.fixed = root, remote, fixed
        self._verified: set[str] = set()
        self._distrusted: set[str] = set()

    # --- asking ----------------------------------------------------------------------------------------------------

    def listing(self, stage: str) -> dict[str, bool]:
        """Every key of a stage, True where it is final and False where provisional; one directory listing."""
        if self.fixed is not None:
            return dict.fromkeys(self.fixed.get(stage, {}), True)
        found = self._names(stage)
        final = {name: True for name in found if not name.endswith(PROVISIONAL)}
        provisional = {name.removesuffix(PROVISIONAL): False for name in found if name.endswith(PROVISIONAL)}
        return provisional | dict.fromkeys(self._beyond(stage), True) | final

    def find(self, stage: str, key: str) -> Record | None:
        """The record of a key: the final one, here or on the remote, before a provisional one; None where its object
        is gone."""
        if self.fixed is not None:
            return self.fixed.get(stage, {}).get(key)
        return self.final(stage, key) or self.held(stage, key + PROVISIONAL)

    def final(self, stage: str, key: str) -> Record | None:
        """As `find`, never a provisional one."""
        if self.fixed is not None:
            return self.fixed.get(stage, {}).get(key)
        return self.held(stage, key) or self._beyond(stage).get(key)

    def open(self, ref: Ref) -> Path:
        """The object's file, verified once per process, fetched where the remote alone has it.

        Raises CorruptError, after setting object and action aside, so that planning again makes it again.
        """
        path = self.path(ref)
        if ref.object not in self._verified or not _is_file(path, ref.size):
            if _is_file(path) and keys.file_digest(path) != ref.object:
                self.set_aside(ref)
            if not _is_file(path):
                self._fetch(ref)
            self._verified.add(ref.object)
        return path

    def bring(self, ref: Ref) -> Path:
        """As `open`; raises RemoteError where an object is damaged or gone, for those who cannot make it again."""
        try:
            return self.open(ref)
        except CorruptError as error:
            raise RemoteError(f"{error}, by `affectory extract`") from error

    def path(self, ref: Ref) -> Path:
        """Where an object lies, or would."""
        return self.root / "objects" / ref.object[:2] / f"{ref.object[2:]}{ref.suffix}"

    def here(self, ref: Ref) -> bool:
        """True where the object lies in this cache, in its full size."""
        return _is_file(self.path(ref), ref.size)

    def records(self, stages: Collection[str] | None = None) -> Iterator[tuple[Path, Record]]:
        """Every sound action of this cache, or of some stages, with its file; `gc` does not count it as used."""
        folders = ["*"] if stages is None else stages
        for path in sorted(p for name in folders for p in (self.root / "actions").glob(f"{name}/*.json")):
            if record := self._read(path.parent.name, path.stem, used=False):
                yield path, record

    def save(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        suffix: Suffix,
        rows: tuple[str, ...] = (),
        provisional: bool = False,
        seconds: float = 0.0,
        reasons: Mapping[str, str] | None = None,
        messages: Mapping[str, str] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Record:
        """Stores what `write` writes and returns the record that stands: ours, or that of whoever came first.

        Raises SpaceError on a full disk; nothing partial is left.
        """
        with atomic.beside(self.root) as temporary:
            write(temporary)
            digest = keys.file_digest(temporary)
            record = Record(
                stage=stage,
                key=key,
                object=digest,
                suffix=suffix,
                size=temporary.stat().st_size,
                rows=rows,
                seconds=seconds,
                reasons=dict(reasons or {}),
                messages=dict(messages or {}),
                about=dict(about or {}),
            )
            self._place(temporary, record)
        return self.adopt(record, provisional)

    def adopt(self, record: Record, provisional: bool = False) -> Record:
        """Notes an action, of an object that stands here or on the remote; the record that stands afterwards."""
        self._distrusted.discard(record.object)
        action = self.action(record.stage, record.key + (PROVISIONAL if provisional else ""))
        if provisional:
            action.unlink(missing_ok=True)
        first = atomic.write_new(self.root, action, encode(record))
        if not first and self.held(record.stage, action.stem) is None:  # it stands for an object that is lost
            action.unlink(missing_ok=True)
            first = atomic.write_new(self.root, action, encode(record))
        if not provisional:
            self.action(record.stage, record.key + PROVISIONAL).unlink(missing_ok=True)
        return record if first else self.held(record.stage, record.key) or record

    def demote(self, record: Record, rows: tuple[str, ...]) -> None:
        """Makes a final action provisional, its object serving until a better one is saved; only `rows` are copied."""
        self.open(record)
        self.adopt(replace(record, rows=rows), provisional=True)
        self.action(record.stage, record.key).unlink(missing_ok=True)
        self._distrusted.add(record.object)

    def distrust(self, ref: Ref) -> None:
        """Lets this process do without the remote's copy of an object, and without one that is lost here."""
        self._distrusted.add(ref.object)
        self._drop(ref)

    def set_aside(self, ref: Ref) -> None:
        """Moves a damaged object out of the way, so that it is fetched or made again."""
        aside = self.root / "corrupt"
        aside.mkdir(parents=True, exist_ok=True)
        path = self.path(ref)
        log.warning("%s is corrupt; it is set aside, and fetched or made again", path)
        with suppress(FileNotFoundError):  # another worker met it too
            path.replace(aside / f"{ref.object}{ref.suffix}")

    def action(self, stage: str, name: str) -> Path:
        """The file of an action."""
        return self.root / "actions" / stage / f"{name}.json"

    # --- within ----------------------------------------------------------------------------------------------------

    def _names(self, stage: str) -> list[str]:
        try:
            found = os.listdir(self.root / "actions" / stage)  # noqa: PTH208 - names alone, of many thousand files
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name.removesuffix(".json") for name in found if name.endswith(".json")]

    def held(self, stage: str, name: str) -> Record | None:
        """The record of an action whose object is at hand, here or on the remote."""
        record = self._read(stage, name)
        return record if record is not None and self._at_hand(record) else None

    def _at_hand(self, ref: Ref) -> bool:
        if self.here(ref):
            return True
        return ref.object not in self._distrusted and self._ask(lambda remote: remote.has(ref), False)

    def _beyond(self, stage: str) -> Mapping[str, Record]:
        """What the remote answers for a stage, less what turned out damaged."""
        nothing: Mapping[str, Record] = {}
        found = self._ask(lambda remote: remote.index(stage), nothing)
        if not self._distrusted:
            return found
        return {key: record for key, record in found.items() if record.object not in self._distrusted}

    def _ask(self, question: Callable[[Remote], T], otherwise: T) -> T:
        """What the remote says. One that can't be reached is warned of once, and the work goes on without it."""
        if self.remote is None:
            return otherwise
        try:
            return question(self.remote)
        except RemoteError as error:
            log.warning("going on without the remote: %s", error)
            self.remote = None
            return otherwise

    def _fetch(self, ref: Ref) -> None:
        if self.remote is not None and ref.object not in self._distrusted:
            try:
                return self.remote.fetch(ref, self.path(ref))
            except RemoteError as error:
                if self.fixed is not None:
                    raise
                log.warning("%s", error)
                self._distrusted.add(ref.object)
        if self.fixed is not None:
            raise RemoteError(f"object {ref.object[:12]}, which the lock names, is not here, and there is no remote")
        self._drop(ref)
        raise CorruptError(ref, f"object {ref.object[:12]} is damaged or gone; it will be made again")

    def _place(self, temporary: Path, ref: Ref) -> None:
        """Links an object in. One that stands there already is not believed to have the same bytes."""
        path = self.path(ref)
        if not atomic.link(temporary, path) and not (_is_file(path) and keys.file_digest(path) == ref.object):
            self.set_aside(ref)
            atomic.link(temporary, path)
        self._verified.add(ref.object)

    def _drop(self, ref: Ref) -> None:
        for name in (ref.key, ref.key + PROVISIONAL):
            record = self._read(ref.stage, name)
            if record is not None and record.object == ref.object and not self.here(record):
                self.action(ref.stage, name).unlink(missing_ok=True)

    def _read(self, stage: str, name: str, used: bool = True) -> Record | None:
        path = self.action(stage, name)
        try:
            record = decode(_content(path, used))
        except FileNotFoundError:
            return None
        except DamagedError:
            record = None
        except OSError as error:
            if error.errno != errno.ELOOP:  # a link, which nothing here makes
                raise
            record = None
        if record is not None and (record.stage, record.key) == (stage, name.removesuffix(PROVISIONAL)):
            return record
        log.warning("action %s/%s is damaged; it is set aside and made again", stage[:12], name[:12])
        path.unlink(missing_ok=True)
        return None


def _content(path: Path, used: bool) -> bytes:
    """An action's bytes; a use is noted, at most daily."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        if used and time.time() - os.fstat(handle).st_mtime > TOUCH_S:
            with suppress(PermissionError):  # a cache that others own
                os.utime(path)
        return file.read()


def _is_file(path: Path, size: int | None = None) -> bool:
    """True for a regular file, no link, of that size."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and size in (None, status.st_size)
