"""What a file of features holds, whatever its format is: utterances, and a track of each modality for each of them.

Shapes: N utterances, T steps of one of them, D features of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.stage import Modality
from pipeline.utterance import Utterance, Value

MOST_ROWS = 2_000_000
"""The most utterances of a file."""
SMALL, RATIO = 1 << 28, 100
"""A compressed file may unpack to so many bytes whatever its size is, and above that to so many times its size."""


class Steps(NamedTuple):
    """The features of one utterance: values, float32 [T, D], and valid, [T], False for a step to be ignored."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True)
class Tracks:
    """One modality of all N utterances.

    dim: D. read: the steps of an utterance by its number, from 0; None if it has none. A step is read when it is asked
    for, because a file may be larger than the memory. names: of the D dimensions, or none.
    """

    dim: int
    read: Callable[[int], Steps | None]
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Content:
    """The utterances of a file, in its order, and their tracks by modality."""

    rows: tuple[Utterance, ...]
    tracks: Mapping[Modality, Tracks]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of each utterance by its id."""
        return {row.id: number for number, row in enumerate(self.rows)}

    def of(self, modality: Modality, name: str) -> Steps | None:
        """The steps of an utterance by its id; None if the file has none of it."""
        number = self.numbers.get(name)
        return None if number is None else self.tracks[modality].read(number)


def given(values: Any, valid: NDArray[np.bool_] | None = None) -> Steps | None:
    """The steps of an array [T, D], or of [D], which is one step; None if none is left.

    Numbers that are infinite or NaN become 0, as MMSA's loader has it. Without `valid`, a step of zeros alone is none.
    Steps before the first and after the last valid one are padding, which is cut off.
    """
    array = np.atleast_2d(np.asarray(values)).astype(np.float32)  # a copy: files are mapped
    array[~np.isfinite(array)] = 0
    mask: NDArray[np.bool_] = np.asarray(array.any(axis=1) if valid is None else valid, bool)
    places = np.flatnonzero(mask)
    if not len(places):
        return None
    kept = slice(places[0], places[-1] + 1)
    return Steps(array[kept], mask[kept])


def padded(tracks: Tracks, numbers: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The tracks of some utterances as one array [N, T, D], padded at the end, and the mask of their valid steps
    [N, T]. Steps that are not valid are zeros."""
    found = [tracks.read(number) for number in numbers]
    most = max((len(steps.valid) for steps in found if steps is not None), default=1)
    values = np.zeros((len(found), most, tracks.dim), np.float32)
    valid = np.zeros((len(found), most), bool)
    for row, steps in enumerate(found):
        if steps is not None:
            valid[row, : len(steps.valid)] = steps.valid
            values[row, : len(steps.valid)] = np.where(steps.valid[:, None], steps.values, 0)
    return values, valid


def pooled(steps: Steps | None, dim: int) -> NDArray[np.float32]:
    """The mean of the valid steps, float32 [D]; zeros if there are none."""
    if steps is None or not steps.valid.any():
        return np.zeros(dim, np.float32)
    return np.asarray(steps.values[steps.valid].mean(axis=0, dtype=np.float64), np.float32)


def known(labels: Mapping[str, Value]) -> dict[str, Value]:
    """The annotations that have a value: NaN, infinity, "" and None are none."""
    return {name: value for name, value in labels.items() if not (value in (None, "") or _no_number(value))}


def _no_number(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


# --- values of a pickle, in which a list may hold itself a million times over -------------------------------------


def plain(value: Any) -> Any:
    """A string, a number or None; an array of one is that. Raises TypeError for a container, whose items are not
    looked at."""
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is not None and not isinstance(value, str | int | float):
        raise TypeError(f"a {type(value).__name__} where one value is expected")
    return value


def vector(value: Any) -> NDArray[Any]:
    """An array of numbers, or a list of them as one. Raises TypeError for another value."""
    if isinstance(value, list | tuple) and all(isinstance(number, int | float) for number in value):
        return np.array(value, np.float32)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        raise TypeError(f"a {type(value).__name__} where a vector of numbers is expected")
    return value
