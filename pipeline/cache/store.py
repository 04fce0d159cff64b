"""The content-addressed cache: actions map keys to objects, and objects are immutable files named by their bytes.

    actions/<stage digest>/<key>.json       a record: object digest, host, seconds, reasons
    objects/ab/cdef....parquet              named by the BLAKE3 of its bytes, read-only

Every file is written beside its place, flushed to disk, then linked in if nothing is there: the first writer wins, and
the others use its object. A crash at any moment leaves either no file or a whole one. If the store has a remote, what
others put there counts as cached, and is fetched when it is opened.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.cache import atomic, keys
from pipeline.cache.in_use import note_use
from pipeline.cache.record import PROVISIONAL, DamagedError, ForeignError, Record, Ref, Suffix, encode, read_action
from pipeline.errors import InputError, RemoteError

if TYPE_CHECKING:
    from pipeline.cache.remote import Remote

log = logging.getLogger(__name__)

AWAY_S = 60.0
"""How long a store does not ask a remote that could not be reached."""

T = TypeVar("T")


class CorruptError(Exception):
    """An object does not have the bytes its name says, or is nowhere to be had. A damaged file has been set aside."""

    def __init__(self, ref: Ref, message: str) -> None:
        super().__init__(ref, message)
        self.ref, self.message = ref, message

    def __str__(self) -> str:
        return self.message


class Store:
    """The cache in one folder. Safe for any number of processes at once, without locks.

    remote: a remote whose objects count as cached too. failure: its last error, None while there was none. After an
    error the store works without the remote for `AWAY_S`, then asks it again.
    """

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        self.root, self.remote = root, remote
        self.failure: RemoteError | None = None
        self._away_until = 0.0
        self._verified: set[str] = set()
        self._distrusted: set[str] = set()

    # --- questions -------------------------------------------------------------------------------------------------

    def listing(self, stage: str) -> dict[str, bool]:
        """Every key of a stage, True for a final one and False for a provisional one; from one listing of a folder."""
        names = self.names(stage)
        final = {name: True for name in names if not name.endswith(PROVISIONAL)}
        provisional = {name.removesuffix(PROVISIONAL): False for name in names if name.endswith(PROVISIONAL)}
        return provisional | dict.fromkeys(self._on_remote(stage), True) | final

    def find(self, stage: str, key: str) -> Record | None:
        """The record of a key, a final one before a provisional one; None if there is none or its object is gone."""
        return self.final(stage, key) or self.held(stage, key + PROVISIONAL)

    def final(self, stage: str, key: str) -> Record | None:
        """The final record of a key, of this cache or of the remote; None as in `find`."""
        return self.held(stage, key) or self._on_remote(stage).get(key)

    def held(self, stage: str, name: str) -> Record | None:
        """The record of an action of this cache; None if there is none or its object is gone."""
        record = self._read(stage, name)
        return record if record is not None and self._is_cached(record) else None

    def here(self, ref: Ref) -> bool:
        """True if the object is a file of this cache, in its full size."""
        return _is_file(self.path(ref), ref.size)

    def path(self, ref: Ref) -> Path:
        """The place of an object, whether it is there or not."""
        return self.root / "objects" / ref.object[:2] / f"{ref.object[2:]}{ref.suffix}"

    def action(self, stage: str, name: str) -> Path:
        """The place of an action, whether it is there or not."""
        return self.root / "actions" / stage / f"{name}.json"

    def records(self, stages: Collection[str] | None = None) -> Iterator[tuple[Path, Record]]:
        """Every sound action of this cache, or of some stages, with its file; this counts as no use of them."""
        folders = ["*"] if stages is None else stages
        for path in sorted(p for name in folders for p in (self.root / "actions").glob(f"{name}/*.json")):
            if record := self._read(path.parent.name, path.stem, used=False):
                yield path, record

    # --- objects ---------------------------------------------------------------------------------------------------

    def open(self, ref: Ref) -> Path:
        """The file of an object, fetched if only the remote has it, and verified once per process.

        Raises CorruptError for an object that is damaged or gone, after setting it aside, so that the next plan
        computes it again.
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
        """As `open`, for callers that cannot compute the object again: raises RemoteError instead of CorruptError."""
        try:
            return self.open(ref)
        except CorruptError as error:
            raise RemoteError(f"{error}, by `affectory extract`") from error

    def save(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], None],
        *,
        suffix: Suffix,
        provisional: bool = False,
        **entries: Any,
    ) -> Record:
        """Stores the file that `write` writes. Returns its record, or that of the writer who was first.

        entries: what else the record holds (`rows`, `seconds`, `reasons`, `messages`, `remarks`, `about`). Raises
        SpaceError on a full disk, and leaves no part of the file.
        """
        with atomic.beside(self.root) as temporary:
            write(temporary)
            record = Record(
                stage=stage,
                key=key,
                object=keys.file_digest(temporary),
                suffix=suffix,
                size=temporary.stat().st_size,
                **entries,
            )
            self._link(temporary, record)
        return self.adopt(record, provisional)

    def adopt(self, record: Record, provisional: bool = False) -> Record:
        """Writes the action of an object that is here or on the remote. Returns the record that then answers."""
        self._distrusted.discard(record.object)
        action = self.action(record.stage, record.key + (PROVISIONAL if provisional else ""))
        if provisional:
            action.unlink(missing_ok=True)
        first = atomic.write_new(self.root, action, encode(record))
        if not first and self.held(record.stage, action.stem) is None:  # the action there names an object that is gone
            action.unlink(missing_ok=True)
            first = atomic.write_new(self.root, action, encode(record))
        if not provisional:
            self.action(record.stage, record.key + PROVISIONAL).unlink(missing_ok=True)
        return record if first else self.held(record.stage, record.key) or record

    def demote(self, record: Record, rows: tuple[str, ...]) -> None:
        """Makes a final action provisional: its object is used until a better one is saved, only `rows` are copied."""
        self.open(record)
        self.adopt(replace(record, rows=rows), provisional=True)
        self.action(record.stage, record.key).unlink(missing_ok=True)
        self._distrusted.add(record.object)

    def distrust(self, ref: Ref) -> None:
        """Forgets an object that turned out damaged or lost: this process no longer counts it as cached."""
        self._distrusted.add(ref.object)
        self._drop(ref)

    def set_aside(self, ref: Ref) -> None:
        """Moves a damaged object to `corrupt`, so that it is fetched or computed again; InputError if it cannot be."""
        aside, path = self.root / "corrupt", self.path(ref)
        log.warning("%s is corrupt; it is set aside, and fetched or made again", path)
        try:
            aside.mkdir(parents=True, exist_ok=True)
            path.replace(aside / f"{ref.object}{ref.suffix}")
        except FileNotFoundError:  # another process has set it aside
            return
        except OSError as error:
            if error.errno not in atomic.UNWRITABLE:
                raise
            raise InputError(f"{path} is damaged, and only its owner can set it aside: {error.strerror}") from error

    # --- the remote ------------------------------------------------------------------------------------------------

    def _on_remote(self, stage: str) -> Mapping[str, Record]:
        """The records of a stage on the remote, without those of objects that turned out damaged."""
        nothing: Mapping[str, Record] = {}
        records = self._ask(lambda remote: remote.index(stage), nothing)
        if not self._distrusted:
            return records
        return {key: record for key, record in records.items() if record.object not in self._distrusted}

    def _is_cached(self, ref: Ref) -> bool:
        if self.here(ref):
            return True
        return ref.object not in self._distrusted and self._ask(lambda remote: remote.has(ref), False)

    def _ask(self, question: Callable[[Remote], T], otherwise: T) -> T:
        """The remote's answer; `otherwise` if there is no remote, or it cannot be reached."""
        if self.remote is None or time.monotonic() < self._away_until:
            return otherwise
        try:
            if self._away_until:
                self.remote.check()  # an index that was read before is answered from memory
            answer = question(self.remote)
        except RemoteError as error:
            self._leave(error)
            return otherwise
        self._away_until = 0.0
        return answer

    def _leave(self, error: RemoteError) -> None:
        """Works without the remote for a while. The same error is warned of once."""
        if str(error) != str(self.failure):
            log.warning("going on without the remote: %s", error)
        self.failure, self._away_until = error, time.monotonic() + AWAY_S

    def _fetch(self, ref: Ref) -> None:
        if self.remote is not None and ref.object not in self._distrusted and time.monotonic() >= self._away_until:
            try:
                return self.remote.fetch(ref, self.path(ref))
            except ForeignError as error:
                log.warning("%s", error)
                self._distrusted.add(ref.object)
            except RemoteError as error:
                self._leave(error)
        self._drop(ref)
        raise CorruptError(ref, f"object {ref.object[:12]} is damaged or gone; it will be made again")

    # --- files -----------------------------------------------------------------------------------------------------

    def names(self, stage: str) -> list[str]:
        """The names of a stage's actions in this cache itself; no remote is asked."""
        try:
            names = os.listdir(self.root / "actions" / stage)  # noqa: PTH208 - names alone, of many thousand files
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def _read(self, stage: str, name: str, used: bool = True) -> Record | None:
        """The record of an action; None if there is none. A damaged action is removed."""
        path = self.action(stage, name)
        try:
            record = read_action(path)
            if used:
                note_use(path)
        except FileNotFoundError:
            return None
        except DamagedError as error:
            log.warning("action %s/%s is removed, and made again: %s", stage[:12], name[:12], error)
            with atomic.where_writable():
                path.unlink(missing_ok=True)
            return None
        return record

    def _link(self, temporary: Path, ref: Ref) -> None:
        """Links an object in. A file that is there already is checked, and set aside if it has other bytes."""
        path = self.path(ref)
        if not atomic.link(temporary, path) and not (_is_file(path) and keys.file_digest(path) == ref.object):
            self.set_aside(ref)
            atomic.link(temporary, path)
        self._verified.add(ref.object)

    def _drop(self, ref: Ref) -> None:
        """Removes the actions of a key that name this object, if it is not here."""
        for name in (ref.key, ref.key + PROVISIONAL):
            record = self._read(ref.stage, name)
            if record is not None and record.object == ref.object and not self.here(record):
                with atomic.where_writable():
                    self.action(ref.stage, name).unlink(missing_ok=True)


def _is_file(path: Path, size: int | None = None) -> bool:
    """True for a regular file, and no link, of this size."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and size in (None, status.st_size)
