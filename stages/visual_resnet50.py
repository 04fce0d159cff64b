"""Features of frames spread over the utterance, by a ResNet-50 unless told otherwise: HJCAG's visual modality.

After HJCAG, which samples L frames uniformly and passes each through a ResNet-50. Decisions X5 (which frames), H9 (the
native 2048 pooled features are cached; their reduction to 512 belongs to the model).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.media.video import VideoStage, shown_at, square
from pipeline.stage import SOURCE, Item, Spec, State, Track


@dataclass(frozen=True, kw_only=True)
class VisualResnet50(VideoStage):
    """[frames, D], what goes into the last layer of an image classifier for each frame; times in seconds.

    D is 2048 for a ResNet-50, whose last layer follows its average pooling.
    frames: the frame on screen at the centre of each of so many equal parts of the stretch; a clip with fewer repeats
    the nearest, and all steps stay valid.
    backbone: any classifier of torchvision by its name there ("vit_b_16", "convnext_tiny"), or of timm as "timm/<name>"
    or "timm/<name>.<tag>", which needs that package. weights: a published set of torchvision's ("IMAGENET1K_V1"), a
    local .safetensors, .pth or .pt file of its state dict, or "random", drawn from seed. Colours are scaled as the
    weights were trained, by torchvision's or timm's own record: the tag ("timm/vit_small_patch16_224.dino") tells timm
    whose weights a file holds, and is wanted where those that timm has published differ in it.
    size: the short side of a frame in pixels, of which the centre square is seen; some networks take one size alone.
    precision: "bf16" computes in bfloat16, close to float32 but not within its tolerance.
    """

    version: ClassVar[int] = 1

    backbone: str = "resnet50"
    frames: int = 30
    weights: str = field(default="IMAGENET1K_V2", metadata=SOURCE)
    seed: int = 0
    size: int = 224
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        """Has the version of timm decide the key where the network is of timm."""
        if self._of_timm:
            object.__setattr__(self, "libraries", (*type(self).libraries, "timm"))

    @property
    def _of_timm(self) -> bool:
        return self.backbone.startswith("timm/")

    @property
    def steps(self) -> int:
        """One for each of `frames`."""
        return self.frames

    def check(self) -> None:
        """Raises ValueError for numbers that make no frame, a seed that draws nothing, and timm not installed."""
        if self.frames < 1 or self.size < 32:
            raise ValueError(f"frames must be at least 1, size at least 32; are {self.frames}, {self.size}")
        if self.weights != "random":
            self.refuse(("seed",), 'only for weights = "random"')
        if self._of_timm and find_spec("timm") is None:
            raise ValueError(f"{self.backbone} needs timm, which is not installed: pip install timm")

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """The frame on screen at the centre of each of `frames` equal parts (X5)."""
        return shown_at(time_s, (np.arange(self.frames) + 0.5) * duration_s / self.frames)

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The centre square, [size, size, 3]; no wider margin is cut off, since faces come cropped."""
        return square(image, self.size)

    def load(self, device: str) -> Any:
        """The network. Raises InputError for one unknown, weights out of reach or of which the scale of colours is not
        known, and a size that it does not take."""
        import torch

        from stages._backbone import Extractor, build, scale_of, width

        model = build(self.backbone, self.weights, self.seed)
        dim, scale = width(model, (self.size, self.size), self.backbone), scale_of(self.backbone, self.weights)
        return Extractor(model, dim, device, self.precision, scale, torch.channels_last, size=16)

    def spec(self, loaded: Any) -> Spec:
        """D features without names."""
        return Spec(dim=loaded.dim, tolerance=1e-4 if self.precision == "float32" else 0.1)

    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Frames of several clips go through the network together."""
        from stages._backbone import split

        clips = [item["video"] for item in batch]
        features = loaded.features(image for clip in clips for image in clip.images)
        parts = split(features, [len(clip.images) for clip in clips])
        return [Track.of(part, clip.time_s) for part, clip in zip(parts, clips, strict=True)]
