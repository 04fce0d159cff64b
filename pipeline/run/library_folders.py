"""Folders for what libraries keep on disk, if this user cannot write where they keep it by themselves.

numba keeps compiled code beside the source or below the user's home, matplotlib its fonts and the hub its models below
the user's home. In a container with an arbitrary user all of these may be out of reach; librosa, which is compiled by
numba, then cannot even be imported. Such a library gets a folder in the Affectory home, and if that cannot be written
either, a temporary one. numba's files are code, so its folder belongs to this user alone.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from pipeline.cache.atomic import writable

FOLDER = "libraries"
"""The folder of the Affectory home that holds those of libraries."""

log = logging.getLogger(__name__)


def provide(home: Path) -> dict[str, Path]:
    """Gives a folder to each library that has none, for this process and those that it starts from now on.

    home: the Affectory home. A variable that the user has set is left alone. A library finds its folder by a variable
    that it reads when it is imported, so this comes before. Returns the folder by the variable that now names it.
    """
    given = dict(_temporary(home))
    given |= {name: folder for name, folder in _wanted(home) if name not in os.environ}
    os.environ |= {name: str(folder) for name, folder in given.items()}
    for name, folder in given.items():
        log.info("%s is %s, since this user cannot write to the usual folder", name, folder)
    return given


def _temporary(home: Path) -> Iterator[tuple[str, Path]]:
    """A folder for temporary files, if there is none, not even one that TMPDIR names."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if folder := _own(home, "temporary"):
            yield "TMPDIR", folder
            tempfile.tempdir = str(folder)


def _wanted(home: Path) -> Iterator[tuple[str, Path]]:
    """The variable and the folder of each library that cannot use its own."""
    kept = _below_user("XDG_CACHE_HOME", ".cache")
    if not any(map(writable, (*_beside_source("numba"), kept / "numba"))) and (folder := _own(home, "numba")):
        yield "NUMBA_CACHE_DIR", folder
    if not writable(_below_user("XDG_CONFIG_HOME", ".config")) and (folder := _own(home, "matplotlib")):
        yield "MPLCONFIGDIR", folder
    models: Mapping[str, str] = {"HF_HOME": "huggingface", "TORCH_HOME": "torch"}
    for name, library in models.items():
        if not os.access(kept / library, os.R_OK) and not writable(kept / library) and writable(home):
            yield name, home / FOLDER / library


def _below_user(variable: str, name: str) -> Path:
    """A folder that a variable names, by default below the user's home; where there is neither, one that is nowhere."""
    given = os.environ.get(variable) or os.path.expanduser(f"~/{name}")  # noqa: PTH111 - which raises for no home
    return Path(given) if given.startswith("/") else Path(os.devnull)


def _beside_source(package: str) -> Iterator[Path]:
    """Where numba keeps the compiled code of a package, if it may. All packages are taken to lie in one folder."""
    spec = find_spec(package)
    return (Path(folder) / "__pycache__" for folder in (spec and spec.submodule_search_locations) or ())


def _own(home: Path, library: str) -> Path | None:
    """A folder of this user alone: in the Affectory home, else a temporary one; None if there can be neither."""
    folder = home / FOLDER / f"{library}-{os.getuid()}"
    with suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        if folder.is_dir() and status.st_uid == os.getuid() and not status.st_mode & 0o022 and writable(folder):
            return folder
    with suppress(OSError):
        temporary = tempfile.mkdtemp(prefix="affectory-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return Path(temporary)
    return None
