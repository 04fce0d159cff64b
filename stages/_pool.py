"""The time grid that stages with a fixed rate share, and the pooling of frames to its steps.

Step k covers [k / rate_hz, (k + 1) / rate_hz), and its centre is t_k = (k + 0.5) / rate_hz, in seconds from the start
of the utterance's stretch. The steps of a clip are those whose centre is inside it, and at least one. So tracks of
different stages can be concatenated step by step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def steps(duration_s: float, rate_hz: float) -> int:
    """T, the number of steps of a clip; 1 if the clip is shorter than half a step."""
    return max(1, math.floor(duration_s * rate_hz + 0.5))


def centres(count: int, rate_hz: float) -> NDArray[np.float32]:
    """The centres t_k of the first `count` steps, in seconds, [T]."""
    return ((np.arange(count) + 0.5) / rate_hz).astype(np.float32)


@dataclass(frozen=True)
class Pool:
    """The frames that each step pools: `frames` [M] are their indices, grouped by step; `starts` [T] begin the groups.

    If no frame is centred in a step (windows may not reach the end of the clip), it takes the frame nearest in time.
    """

    frames: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, time_s: NDArray[np.float64], count: int, rate_hz: float) -> Pool:
        """Assigns frames to `count` steps by their centres `time_s` [F], in ascending order; F >= 1."""
        edges = np.searchsorted(time_s, np.arange(count + 1) / rate_hz)
        first, last = edges[:-1].copy(), edges[1:].copy()
        empty = np.flatnonzero(first == last)
        first[empty] = [np.abs(time_s - (k + 0.5) / rate_hz).argmin() for k in empty]
        last[empty] = first[empty] + 1
        sizes = last - first
        starts = np.concatenate(([0], np.cumsum(sizes)[:-1]))
        return cls(np.repeat(first - starts, sizes) + np.arange(sizes.sum()), starts)

    def mean(self, values: NDArray[Any], weight: NDArray[Any] | None = None) -> NDArray[np.float64]:
        """The mean over the frames of each step, [F, D] to [T, D], with `weight` [F, D]; 0 if all weights are 0."""
        weights = np.ones_like(values, np.float64) if weight is None else weight.astype(np.float64)
        return self._sum(values * weights) / np.maximum(self._sum(weights), np.finfo(np.float64).tiny)

    def stddev(self, values: NDArray[Any], weight: NDArray[Any]) -> NDArray[np.float64]:
        """The population standard deviation over the frames of each step, like `mean`; `weight` [F, D] is 0 or 1."""
        centre = np.repeat(self.mean(values, weight), np.diff(self.starts, append=len(self.frames)), axis=0)
        squares = self._grouped((values[self.frames] - centre) ** 2 * weight[self.frames])
        variance: NDArray[np.float64] = squares / np.maximum(self._sum(weight.astype(np.float64)), 1.0)
        return np.sqrt(variance)

    def _sum(self, values: NDArray[Any]) -> NDArray[np.float64]:
        return self._grouped(values[self.frames])

    def _grouped(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = np.add.reduceat(rows, self.starts, axis=0, dtype=np.float64)
        return total
