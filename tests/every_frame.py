"""A stage of pictures that takes all frames, for tests of what decoding hands to a stage; none of them transforms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.media.video import VideoStage
from pipeline.stage import Item, Spec, State, Track


class EveryFrame(VideoStage):
    """All frames, each as the brightness of the whole."""

    version = 1

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """All of them."""
        return np.arange(len(time_s))

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One pixel, uint8 [1, 1, 3]."""
        return image.mean((0, 1), keepdims=True).round().astype(np.uint8)

    def spec(self, loaded: object) -> Spec:
        """Of one dimension."""
        return Spec(1)

    def transform(self, loaded: object, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """The brightness of each frame, [T, 1]."""
        return [Track.of(item["video"].images.mean((1, 2, 3), dtype=np.float32)[:, None]) for item in batch]
