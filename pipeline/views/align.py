"""Aligns a track to the number of steps that a model needs: pad or crop, sample, broadcast (X2, X5, X6).

Shapes: T steps of a track, L steps after alignment, D features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.recipe import Align, Mode
from pipeline.errors import InputError


def align(
    values: NDArray[Any], valid: NDArray[np.bool_], mode: Mode, length: int
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Maps values [T, D] and valid [T] to values [L, D] and mask [L], or to [1, D] and [1] for `broadcast`.

    `pad` keeps the first L steps and pads at the end. `sample` takes the centre step of each of L equal bins of the
    track, so that with T < L the nearest step repeats (X5); the mask follows the steps. Padded and invalid steps are
    zero and False. Raises InputError if a track of several steps is to be `broadcast`.
    """
    steps = len(values)
    if mode == "broadcast" and steps > 1:
        raise InputError(
            f'align = {{ mode = "broadcast" }} takes one vector an utterance, got {steps} steps: '
            'use mode = "pad" or "sample", or a stage that returns one vector'
        )
    target, taken = Align(mode, length).stored, kept_steps(steps, Align(mode, length))
    aligned = np.zeros((target, values.shape[1]), values.dtype)
    mask = np.zeros(target, bool)
    mask[: len(taken)] = valid[taken]
    aligned[mask] = values[taken[valid[taken]]]
    return aligned, mask


def kept_steps(steps: int, to: Align) -> NDArray[np.int64]:
    """The step of a track of `steps` steps that each aligned step is; padding has none."""
    return _centres(steps, to.length) if to.mode == "sample" else np.arange(min(steps, to.stored))


def auto_length(lengths: Sequence[int]) -> int:
    """The 99th percentile of the train rows' numbers of steps, rounded up; at least 1 (X2)."""
    return max(1, math.ceil(np.percentile(np.asarray(lengths), 99))) if len(lengths) else 1


def _centres(steps: int, length: int) -> NDArray[np.int64]:
    bins = np.arange(length if steps else 0)
    return (2 * bins + 1) * steps // (2 * length)  # floor((k + 1/2) T / L), in whole numbers
