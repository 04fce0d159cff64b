"""Files below a corpus root: whether a path stays inside, also where links lead, and each file's stamp, in one look."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.cache import keys
from pipeline.utterance import MISSING

log = logging.getLogger(__name__)


class Look(NamedTuple):
    """Whether a path stays inside the root, and the size and time of change of its file; None where there is none."""

    inside: bool
    stamp: str | None


class MediaFiles:
    """Looks at paths relative to a root. Folders are resolved once; a file that is no link is stat'ed once."""

    def __init__(self, root: Path) -> None:
        self._root, self._real = str(root), os.path.realpath(root)
        self._folders: dict[str, bool] = {}

    def look(self, path: str) -> Look:
        """One that no file can have, or a ring of links, counts as outside."""
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._folders[folder] = stays(folder) and self._leads_inside(f"{self._root}/{folder}")
        if not self._folders[folder] or not stays(path):
            return Look(False, None)
        return self._file(f"{self._root}/{path}")

    def _file(self, path: str) -> Look:
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                inside = self._leads_inside(path)
                return Look(inside, stamp(path) if inside else None)
        except (FileNotFoundError, NotADirectoryError):
            return Look(True, None)
        except (OSError, ValueError):
            return Look(False, None)
        return Look(True, _stamp(status))

    def _leads_inside(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return real == self._real or real.startswith(self._real.rstrip("/") + "/")


def stays(path: str) -> bool:
    """True where a path is relative and never goes up; what links do is not asked."""
    if ".." not in path and "\0" not in path:
        return not path.startswith("/")
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def stamp(path: str | Path) -> str | None:
    """Size and time of change of a file, links followed; None where there is none."""
    try:
        return _stamp(os.stat(path))  # noqa: PTH116 - of many thousand files
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}"


MANY = 1_000
"""Paths; the digests of more are read in one pass over the table."""


def media_digests(paths: Sequence[Path], memory: Path) -> dict[Path, str]:
    """The digest of each file; `missing` where there is none to read, so that its arrival moves the key.

    A file is hashed once for each (path, size, time of change); each is looked at (stat) once.
    """
    found = remembered({str(path): stamp(path) for path in paths}, memory)
    return {path: found[str(path)] for path in paths}


def remembered(stamps: Mapping[str, str | None], memory: Path) -> dict[str, str]:
    """The digest of each file by its path; `memory` has those of files whose stamp is as it was."""
    memory.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(memory, timeout=60) as base:
        base.execute("create table if not exists digest (path text primary key, stamp text, digest text)")
        known = _known(base, stamps)
        stale = [path for path, now in stamps.items() if now and known.get(path, ("", ""))[0] != now]
        with ThreadPoolExecutor() as pool:
            fresh = dict(zip(stale, pool.map(_digest, stale), strict=True))
        new = [(path, stamps[path], digest) for path, digest in fresh.items() if digest != MISSING]
        base.executemany("insert or replace into digest values (?, ?, ?)", new)
    base.close()
    return {path: fresh.get(path) or known[path][1] if now else MISSING for path, now in stamps.items()}


def _known(base: sqlite3.Connection, paths: Collection[str]) -> dict[str, tuple[str, str]]:
    """Stamp and digest by path."""
    whole = "select path, stamp, digest from digest"
    if len(paths) > MANY:
        return {path: (held, found) for path, held, found in base.execute(whole)}
    rows = (row for path in paths for row in base.execute(f"{whole} where path = ?", (path,)))
    return {path: (held, found) for path, held, found in rows}


def _digest(path: str) -> str:
    try:
        return keys.file_digest(Path(path))
    except OSError as error:
        log.warning("%s counts as missing, it cannot be read: %s", path, error)
        return MISSING
