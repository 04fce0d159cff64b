"""A memo keeps texts by key from run to run, in one SQLite file that several processes may use at once.

Everything in a memo can be computed again, so its file never ends a run. A file that is damaged or is no memo is set
aside with a warning, and an empty one takes its place. If the file can't be opened or written, a warning says so and
nothing is remembered.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from pipeline.cache.atomic import space

log = logging.getLogger(__name__)

MANY = 1_000
"""If more keys than this are asked for, the whole table is read in one pass."""
WAIT_S = 60.0
"""How long an operation waits for other processes to finish theirs."""

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_PRIMARY_CODE = 0xFF

T = TypeVar("T")


class Memo:
    """Texts by key in the SQLite file at `path`, which is made when it is first used.

    Its folder is never made: where there is no cache, nothing is remembered, so that a command that only asks leaves
    nothing behind.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, keys: Collection[str]) -> dict[str, str]:
        """The texts that are remembered for some of `keys`; none if there is no file. Raises SpaceError."""
        if not self._path.exists():
            return {}
        return self._use(lambda base: _read(base, keys)) or {}

    def put(self, entries: Mapping[str, str]) -> None:
        """Remembers these texts, all of them or none. Raises SpaceError."""
        line = "insert or replace into memo (key, value) values (?, ?)"
        self._use(lambda base: base.executemany(line, entries.items()))

    def add(self, entries: Mapping[str, str]) -> dict[str, str]:
        """Remembers those of these texts whose keys have none yet; returns what all these keys have. Raises SpaceError.

        So of several processes that write at once, all go by the text that was first.
        """
        line = "insert or ignore into memo (key, value) values (?, ?)"
        self._use(lambda base: base.executemany(line, entries.items()))
        return {**entries, **self.get(entries.keys())}

    def all(self) -> dict[str, str]:
        """Every text by key; none if there is no file. Raises SpaceError."""
        if not self._path.exists():
            return {}
        return self._use(_whole) or {}

    def _use(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """The result of `work` in a transaction of its own; None if the file can't be used."""
        if not self._path.parent.exists():
            return None
        try:
            with space(self._path.parent):
                return self._mended(work)
        except (OSError, sqlite3.Error) as error:
            log.warning("%s can't be used, so nothing is remembered: %s", self._path, error)
            return None

    def _mended(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self._connected(work)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            self._set_aside(error)
        return self._connected(work)

    def _connected(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(self._path, timeout=WAIT_S)) as base, base:
            base.text_factory = _text
            base.execute("create table if not exists memo (key text primary key, value text)")
            return work(base)

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged")
        with suppress(FileNotFoundError):  # another process did the same
            self._path.replace(aside)
            log.warning("%s is damaged (%s): it is now %s, and an empty one takes its place", self._path, error, aside)
        for ending in ("-journal", "-wal", "-shm"):  # else SQLite would apply them to the new file
            self._path.with_name(f"{self._path.name}{ending}").unlink(missing_ok=True)


def _is_damage(error: sqlite3.Error) -> bool:
    """True if the file is no memo; not if it is only locked, full, or out of reach."""
    return getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _DAMAGE


def _text(content: bytes) -> str:
    """Damaged text becomes another text, which matches nothing, instead of an error."""
    return content.decode(errors="replace")


def _read(base: sqlite3.Connection, keys: Collection[str]) -> dict[str, str]:
    wanted = set(keys)
    return {key: value for key, value in _rows(base, wanted) if key in wanted and isinstance(value, str)}


def _whole(base: sqlite3.Connection) -> dict[str, str]:
    rows = base.execute("select key, value from memo").fetchall()
    return {key: value for key, value in rows if isinstance(value, str)}


def _rows(base: sqlite3.Connection, keys: Collection[str]) -> Iterator[tuple[str, str]]:
    table = "select key, value from memo"
    if len(keys) > MANY:
        yield from base.execute(table).fetchall()
        return
    for key in keys:  # a cursor would be closed again when an interruption has closed its base
        yield from base.execute(f"{table} where key = ?", (key,)).fetchall()
