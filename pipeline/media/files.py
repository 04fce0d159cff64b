"""Files below a corpus root: whether a path stays inside, also where links lead, and each file's stamp, in one look."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Look(NamedTuple):
    """Whether a path stays inside the root, and the size and time of change of its file; None where there is none."""

    inside: bool
    stamp: str | None


class Places:
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
