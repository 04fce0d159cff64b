"""A view on disk: for each modality one memory-mapped column, the aligned features of every utterance.

Shapes: N utterances of a view, T steps as stored (1 for `broadcast`, else L), D features.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.atomic import check_space
from pipeline.cache.in_use import note_use
from pipeline.corpus.recipe import Align
from pipeline.errors import InputError, SpaceError
from pipeline.stage import Track
from pipeline.views import integrity
from pipeline.views.align import align

CHUNK_BYTES = 64 * 2**20
"""The most that a pass over a column holds in memory at once, as float64."""

Rows = NDArray[np.int64]
"""Numbers of utterances in a view."""
Memmap = np.memmap[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Column:
    """One modality of a view.

    values: [N, T, D], 0 at invalid steps. mask: [N, T], True at valid steps. steps: [N], the number of steps before
    alignment, 0 for an utterance without a track. names: [D], of the dimensions.
    """

    values: NDArray[Any]
    mask: NDArray[np.bool_]
    steps: NDArray[np.int32]
    align: Align
    names: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Maps the files of a column. Raises InputError if they are missing, damaged, or do not fit each other."""
        try:
            values, mask, steps = (np.load(path / f"{part}.npy", mmap_mode="r", allow_pickle=False) for part in _PARTS)
            meta = json.loads((path / "column.json").read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path} is not a column of a view: {error}") from error
        if why := integrity.damage(path):
            raise InputError(f"{path} is damaged: {why}; the same command builds it again")
        if values.shape[:2] != mask.shape or len(steps) != len(mask):
            raise InputError(f"{path}: values {values.shape} do not fit a mask of {mask.shape}")
        return cls(values, mask, steps, Align(meta["mode"], meta["length"]), tuple(meta["names"]))

    @property
    def length(self) -> int:
        """L, the number of steps that a model sees; more than T for `broadcast`."""
        return self.align.length

    @property
    def dim(self) -> int:
        """D, the number of features in a step."""
        return int(self.values.shape[2])

    @property
    def present(self) -> NDArray[np.bool_]:
        """[N], True for an utterance that has at least one valid step."""
        return _array(self.mask.any(axis=1))

    def chunks(self, rows: Rows) -> Iterator[Rows]:
        """`rows` in their order, in chunks whose values fit in `CHUNK_BYTES`."""
        size = max(1, CHUNK_BYTES // (self.values.shape[1] * self.dim * 8))
        return (rows[start : start + size] for start in range(0, len(rows), size))

    def cropped(self, rows: Rows) -> dict[str, float]:
        """The share of `rows` that lost steps, and the share of their steps that was lost (X2)."""
        steps = np.asarray(self.steps)[rows]
        lost = self.align.cropped(steps)
        return {
            "utterances": float((lost > 0).sum() / max(len(rows), 1)),
            "steps": float(lost.sum() / max(steps.sum(), 1)),
        }


_PARTS = ("values", "mask", "steps")


def write_column(
    path: Path,
    rows: Iterable[tuple[int, Track | None]],
    n: int,
    to: Align,
    dim: int,
    *,
    names: Sequence[str] = (),
    dtype: str = "float32",
) -> None:
    """Aligns tracks, which arrive in any order, into a column of `n` rows. A row without a track stays invalid.

    rows: the number of a row, and its track. The column is filled beside `path` and renamed at the end, so that it is
    complete or does not exist; if another process was faster, its column stays. Raises SpaceError before anything is
    written if the disk is too small, InputError if a track can't be aligned, ValueError for a track of another width
    than `dim`.
    """
    shapes = {"values": (n, to.stored, dim), "mask": (n, to.stored), "steps": (n,)}
    kinds = {"values": np.dtype(dtype), "mask": np.dtype(bool), "steps": np.dtype(np.int32)}
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(math.prod(shape) * kinds[part].itemsize for part, shape in shapes.items())
    check_space(path.parent, size, f"the column {path.name}")
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        partial.mkdir()
        _fill({part: _allocate(partial / f"{part}.npy", kinds[part], shapes[part]) for part in _PARTS}, rows, to)
        (partial / "column.json").write_text(json.dumps({**asdict(to), "names": list(names)}))
        integrity.note_digests(partial)
        _publish(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def use_column(path: Path) -> bool:
    """True if there is a column that is not damaged; a damaged one is set aside.

    Its use is noted as the modification time of `column.json`, which `gc` reads.
    """
    if path.exists() and (why := integrity.damage(path)):
        integrity.set_aside(path, why)
    try:
        note_use(path / "column.json")
    except FileNotFoundError:
        return False
    return True


def _allocate(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Memmap:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):  # a sparse file on a full disk ends the process with SIGBUS
        with path.open("r+b") as file:
            _reserve(file.fileno(), path)
    return array


def _reserve(file: int, path: Path) -> None:
    try:
        os.posix_fallocate(file, 0, path.stat().st_size)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SpaceError(f"the disk filled up while {path.parent} was written") from error
        raise


def _fill(arrays: Mapping[str, Memmap], rows: Iterable[tuple[int, Track | None]], to: Align) -> None:
    values, mask, steps = (arrays[part] for part in _PARTS)
    for index, track in rows:
        if track is None or track.values is None:
            continue
        if track.values.ndim != 2 or track.values.shape[1] != values.shape[2]:
            raise ValueError(f"row {index}: a track of {track.values.shape}, expected [T, {values.shape[2]}]")
        valid = np.ones(len(track.values), bool) if track.valid is None else track.valid
        values[index], mask[index] = align(track.values, valid, to.mode, to.length)
        steps[index] = len(track.values)
    for array in arrays.values():
        array.flush()


def _publish(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError:
        if not (path / "column.json").exists():
            raise


@dataclass(frozen=True)
class View:
    """The utterances of a manifest, in its order, and a column for each modality."""

    ids: tuple[str, ...]
    columns: Mapping[str, Column]

    def rows(self, ids: Iterable[str]) -> Rows:
        """Row numbers of `ids`, in their order. Raises InputError that names ids which the view does not have."""
        numbers = {name: row for row, name in enumerate(self.ids)}
        wanted = list(ids)
        unknown = [name for name in wanted if name not in numbers]
        if unknown:
            raise InputError(f"{len(unknown)} utterances are not in the view: {', '.join(unknown[:5])}")
        return np.array([numbers[name] for name in wanted], np.int64)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[N], True for an utterance with a valid step of any modality."""
        return _array(np.any([column.present for column in self.columns.values()], axis=0))

    @property
    def complete(self) -> NDArray[np.bool_]:
        """[N], True for an utterance with a valid step of every modality."""
        return _array(np.all([column.present for column in self.columns.values()], axis=0))


def open_view(ids: Sequence[str], columns: Mapping[str, Path]) -> View:
    """Maps columns, modality -> directory. Raises InputError if a column does not have a row for each of `ids`."""
    opened = {modality: Column.open(path) for modality, path in columns.items()}
    for modality, column in opened.items():
        if len(column.mask) != len(ids):
            raise InputError(f"{columns[modality]} has {len(column.mask)} rows, the view has {len(ids)}")
    return View(tuple(ids), opened)


def _array(mask: Any) -> NDArray[np.bool_]:
    return np.asarray(mask, bool)
