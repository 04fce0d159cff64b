"""Looks at media files without opening them: whether a path stays below its root, and whether its bytes are known.

A file's stamp is everything that changes with its bytes and needs no reading: size, time of writing, time of change,
device and inode. A file whose stamp is remembered is not hashed again.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.cache import keys
from pipeline.cache.memo import Memo
from pipeline.console import BYTES, bar
from pipeline.reason import Reason, Unreadable
from pipeline.utterance import MISSING, UNREADABLE

log = logging.getLogger(__name__)

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)

WITHOUT_BYTES = {
    MISSING: Unreadable(Reason.MISSING_FILE, "no such file"),
    UNREADABLE: Unreadable(Reason.IO_ERROR, "it could not be read at the scan: look at its permissions"),
}
"""Why a row has no values whose file has one of these in place of a digest."""

SAVE_EVERY = 100
"""How many digests a killed run may lose."""


class Look(NamedTuple):
    """Whether a path stays below the root, and the stamp of its file, as of `stamp`."""

    inside: bool
    stamp: str | None


class CorpusRoot:
    """The folder of a corpus. It resolves each folder below it once, and stats each file once, links twice."""

    def __init__(self, root: Path) -> None:
        self._root, self._real = str(root), os.path.realpath(root)
        self._folders: dict[str, bool] = {}

    def look(self, path: str) -> Look:
        """Looks at a path relative to the root. A name with a NUL, or a ring of links, is outside."""
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
        except OSError as error:
            return Look(error.errno != errno.ELOOP, _without(error))
        return Look(True, _stamp(status))

    def _leads_inside(self, path: str) -> bool:
        try:
            real = os.path.realpath(path)
        except (OSError, ValueError):
            return False
        return real == self._real or real.startswith(self._real.rstrip("/") + "/")


def stays(path: str) -> bool:
    """True if a path is relative and never goes up. Links are not followed."""
    if ".." not in path and "\0" not in path:
        return not path.startswith("/")
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def stamp(path: str | Path) -> str | None:
    """The stamp of a file, links followed; None if there is no such file, `UNREADABLE` for a file that is out of reach.

    A pipe, a socket and a device are out of reach too: who reads one may wait for ever.
    """
    try:
        return _stamp(os.stat(path))  # noqa: PTH116 - of many thousand files
    except OSError as error:
        return _without(error)


def _without(error: OSError) -> str | None:
    """The stamp of a path whose file cannot be looked at."""
    return None if error.errno in _ABSENT else UNREADABLE


def _stamp(status: os.stat_result) -> str:
    """The time of change can't be set, so an edit shows even if it keeps the size and resets the time of writing."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return UNREADABLE
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_dev}:{status.st_ino}"


def _size(stamp: str) -> int:
    return int(stamp.partition(":")[0])


def media_digests(paths: Sequence[Path], memory: Path) -> dict[Path, str]:
    """The digest of each file; `MISSING` or `UNREADABLE` if there is none, so that its arrival changes the key.

    `memory` is the memo of digests; see `remembered`.
    """
    digests = remembered({str(path): stamp(path) for path in paths}, memory)
    return {path: digests[str(path)] for path in paths}


def remembered(stamps: Mapping[str, str | None], memory: Path, *, shown: bool = False) -> dict[str, str]:
    """The digest of each file by its path; `MISSING` or `UNREADABLE` if its stamp says so or hashing it does.

    `memory` is the memo of digests: a file is hashed only if the memo has none for its stamp. New digests are saved as
    they come. shown: shows a bar while files are hashed.
    """
    memo = Memo(memory)
    known = dict(_known(memo.get(stamps.keys()), stamps))
    known |= dict.fromkeys((path for path, now in stamps.items() if now == UNREADABLE), UNREADABLE)
    stale = {path: now for path, now in stamps.items() if now and path not in known}
    with bar("hashing", BYTES, sum(map(_size, stale.values())) if shown else 0) as advance:
        known |= _hashed(stale, memo, advance)
    return {path: known.get(path, MISSING) for path in stamps}


def _known(notes: Mapping[str, str], stamps: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """The path and digest of each file that has not changed since it was hashed."""
    for path, note in notes.items():
        noted, _, digest = note.partition(" ")
        if noted == stamps[path]:
            yield path, digest


def _hashed(stamps: Mapping[str, str], memo: Memo, advance: Callable[[int], object]) -> dict[str, str]:
    digests: dict[str, str] = {}
    paths = list(stamps)
    for start in range(0, len(paths), SAVE_EVERY):
        batch = {path: stamps[path] for path in paths[start : start + SAVE_EVERY]}
        digests |= _hashed_batch(batch, memo, advance)
    return digests


def _hashed_batch(stamps: Mapping[str, str], memo: Memo, advance: Callable[[int], object]) -> dict[str, str]:
    """The digests of files that are hashed side by side; an interrupted batch saves those it has.

    The digest of a file that changes meanwhile is not remembered.
    """
    digests: dict[str, str] = {}
    pool = ThreadPoolExecutor()
    try:
        for path, digest in zip(stamps, pool.map(_digest, stamps), strict=True):
            digests[path] = digest
            advance(_size(stamps[path]))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        unchanged = {path: digest for path, digest in digests.items() if stamp(path) == stamps[path]}
        read = {path: digest for path, digest in unchanged.items() if digest not in WITHOUT_BYTES}
        memo.put({path: f"{stamps[path]} {digest}" for path, digest in read.items()})
    return digests


def _digest(path: str) -> str:
    try:
        return keys.file_digest(Path(path))
    except OSError as error:
        log.warning("%s cannot be read: %s", path, error)
        return MISSING if error.errno in _ABSENT else UNREADABLE
