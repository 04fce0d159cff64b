"""3D-CNN features of short clips of frames, the visual modality of MulG.

Source: MulG: a 3D-CNN on each clip of frames at 15 Hz, max-pooled. Decisions: X12 (15 Hz is the frame rate that
torchvision's r3d_18 was trained at; a clip is 16 frames; a short one repeats its last frame), G12 (the sequence of
clips is cached; the model reduces it to 50).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.weights import network_source
from pipeline.media.video import VideoStage, shown_at, square
from pipeline.stage import SOURCE, Frames, Item, Rows, Spec, State, Target, Track
from stages._training import UNTRAINED, Training

_TRAINING = ("epochs", "batch_size", "learning_rate", "patience")


@dataclass(frozen=True, kw_only=True)
class VisualCnn3d(VideoStage):
    """[clips, D], the last feature map of a video network, pooled over space and time; times are the clips' centres.

    name: a network of torchvision's. D is 512 for the first three, 1024 for s3d and swin3d_b, 768 for the other two.
    frame_rate_hz: frames are those on screen at (k + 0.5) / frame_rate_hz. clip, hop: a clip is `clip` frames, and one
    begins every `hop`. Frames that are left at the end make no clip, unless there is no other clip: then the last frame
    repeats, and the step is valid. clips: the largest number of clips, spread evenly; None for all. pool: over the last
    map. weights: the name of a set that torchvision publishes, a local .safetensors, .pth or .pt file of a state dict,
    or "random", drawn from seed. Colours are scaled as for torchvision's weights. size: the short side of a frame in
    pixels, of which the centre square is used; 112 suits the first three networks, 224 the others. fine_tune: first
    trains the whole network, with a linear head on the average features of a row's clips. epochs, batch_size,
    learning_rate (AdamW) and patience (epochs without a better validation loss) apply only then. A row of a minute at
    15 Hz holds 34 MB of pixels.
    """

    version: ClassVar[int] = 1
    batch: ClassVar[int] = 8
    imports: ClassVar[tuple[str, ...]] = ("stages._cnn3d",)

    name: Literal["r3d_18", "mc3_18", "r2plus1d_18", "s3d", "swin3d_t", "swin3d_s", "swin3d_b"] = "r3d_18"
    frame_rate_hz: float = 15.0
    clip: int = 16
    hop: int = 16
    clips: int | None = None
    pool: Literal["max", "avg"] = "max"
    size: int = 112
    weights: str = field(default="KINETICS400_V1", metadata=SOURCE)
    seed: int = 0
    fine_tune: bool = False
    epochs: int = 10
    batch_size: int = 8
    learning_rate: float = 1e-4
    patience: int = 3

    @property
    def fitted(self) -> bool:
        """True with `fine_tune`."""
        return self.fine_tune

    @property
    def steps(self) -> int | None:
        """`clips`; None if it is None."""
        return self.clips

    def check(self) -> None:
        """Raises ValueError for numbers that give no clip or no training, and for parameters that nothing reads."""
        if not self.frame_rate_hz > 0:
            raise ValueError(f"frame_rate_hz must be above 0, is {self.frame_rate_hz}")
        if min(self.clip, self.hop, self.clips or 1) < 1 or self.clips == 0:
            raise ValueError(f"clip, hop and clips must be at least 1; are {self.clip}, {self.hop}, {self.clips}")
        if self.size < 32:
            raise ValueError(f"size must be at least 32, is {self.size}")
        if not self.fine_tune:
            self.refuse(_TRAINING, UNTRAINED)
        if not self.fine_tune and self.weights != "random":
            self.refuse(("seed",), 'only for weights = "random" or fine_tune = true')
        Training.of(self).check()

    def sources(self) -> dict[str, str]:
        """The weights of the network `name`."""
        return {} if self.weights == "random" else {"weights": network_source(self.name, self.weights)}

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """Picks `clip` frames for each clip, one clip after another; overlapping clips repeat frames."""
        first = self._starts(duration_s)
        last = self._count(duration_s) - 1
        steps = np.minimum(first[:, None] + np.arange(self.clip), last)  # [clips, clip]
        return shown_at(time_s, (steps.ravel() + 0.5) / self.frame_rate_hz)

    def _count(self, duration_s: float) -> int:
        """How many times (k + 0.5) / frame_rate_hz are within the stretch, at least one."""
        return max(1, int(duration_s * self.frame_rate_hz + 0.5 + 1e-6))

    def _starts(self, duration_s: float) -> NDArray[np.int64]:
        """The index k of the first frame of each clip."""
        starts = np.arange(0, max(1, self._count(duration_s) - self.clip + 1), self.hop)
        if self.clips is None or len(starts) <= self.clips:
            return starts
        chosen = (np.arange(self.clips) + 0.5) * len(starts) / self.clips
        return starts[chosen.astype(np.int64)]

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the centre square, [size, size, 3]. No wider margin is cut off, because faces are cropped already."""
        return square(image, self.size)

    def load(self, device: str) -> Any:
        """Returns the network. Raises InputError for weights that can't be read, and for clips it can't take."""
        from stages._cnn3d import extractor

        return extractor(self._network("random" if self.fine_tune else self.weights), device)  # a state has its own

    def _network(self, weights: str) -> Any:
        from stages._cnn3d import network

        return network(self.name, weights, self.seed, self.pool, (self.clip, self.size, self.size))

    def spec(self, loaded: Any) -> Spec:
        """D is the network's width; the dimensions have no names."""
        return Spec(dim=loaded.dim)

    def fit(self, train: Rows, valid: Rows, target: Target, device: str) -> State:
        """Trains the network on the task's loss. tensors: its state dict, with torchvision's names."""
        from stages._cnn3d import fit

        return fit(lambda: self._network(self.weights), self._clips_of, train, valid, target, Training.of(self), device)

    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Runs the clips of several utterances together. Raises ValueError if the state of a fit is missing."""
        from stages._backbone import split

        if self.fine_tune and state is None:
            raise ValueError("visual_cnn3d with fine_tune needs the state of its fit")
        loaded.use(state)
        clips = [self._clips_of(item["video"]) for item in batch]
        parts = split(loaded.features(clip for row in clips for clip in row), [len(row) for row in clips])
        return [Track.of(part, self._times(item["video"])) for part, item in zip(parts, batch, strict=True)]

    def _clips_of(self, video: Frames) -> NDArray[np.uint8]:
        """[clips, clip, size, size, 3], in the order of `pick`."""
        return video.images.reshape(-1, self.clip, *video.images.shape[1:])

    def _times(self, video: Frames) -> NDArray[np.float64]:
        """The mean time of the frames of each clip, in seconds, [clips]."""
        times: NDArray[np.float64] = video.time_s.reshape(-1, self.clip).mean(1)
        return times
