"""Finds the file of features that a path means, and reads it in whatever format it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from pipeline.errors import InputError
from pipeline.formats import csd, erc, mmsa, npz, parquet, safe_pickle
from pipeline.formats.content import Content
from pipeline.media.files import stamp


def candidates(path: Path) -> list[Path]:
    """The files of features that a path may mean: itself, or those in a folder; none if there is none.

    Parquet files of parts, and sequences of modalities, are one together: the folder.
    """
    if path.is_dir() and (parquet.parts(path) or csd.parts(path)):
        return [path]
    entries = sorted(path.iterdir()) if path.is_dir() else [path]
    return [entry for entry in entries if entry.suffix in READERS and entry.is_file()]


def find(path: Path) -> Path:
    """The file that a path means: itself, or the only file of features in a folder.

    Raises InputError if there is none, and if there are several.
    """
    found = candidates(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"{path} has {', '.join(entry.name for entry in found)}: name one of them")
    raise InputError(
        f"no file of features at {path}: it ends in {', '.join(READERS)}, or is a folder with one that does"
    )


def read(path: Path) -> Content:
    """What a file that was found holds. Raises InputError for one that is damaged or has another layout."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return _read(path, tuple(map(stamp, files)))


@lru_cache(maxsize=1)
def _read(path: Path, stamps: tuple[str | None, ...]) -> Content:
    """The last file is kept: a reader and three stages ask for it in turn. stamps: of its files as they are now."""
    if path.is_dir():
        return parquet.read(path) if parquet.parts(path) else csd.read(path)
    return READERS[path.suffix](path)


def _pickled(path: Path) -> Content:
    value = safe_pickle.read(path)
    try:
        if mmsa.is_mmsa(value):
            return mmsa.content(value, path)
        if erc.is_erc(value):
            return erc.content(value, path)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} has a value of another kind than its layout says: {error}") from error
    raise InputError(f"{path} is a pickle of another layout than MMSA's dict and DialogueRNN's tuple")


READERS: Mapping[str, Callable[[Path], Content]] = {
    ".pkl": _pickled,
    ".pickle": _pickled,
    ".npz": npz.read,
    ".parquet": parquet.read,
    ".csd": csd.read,
}
