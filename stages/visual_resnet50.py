"""Features of single frames by an image network, a ResNet-50 by default: the visual modality of HJCAG.

Source: HJCAG, which samples L frames uniformly and passes each through a ResNet-50. Decisions: X5 (which frames), H9
(the 2048 pooled features are cached; the model reduces them to 512).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.weights import network_source
from pipeline.media.video import VideoStage, shown_at, square
from pipeline.stage import SOURCE, Item, Spec, State, Track

AT_ONCE = {"cpu": 16, "cuda": 256}
"""The images of one forward pass. On a CPU, more are no faster."""


@dataclass(frozen=True, kw_only=True)
class VisualResnet50(VideoStage):
    """[frames, D], the input of an image classifier's last layer for each frame; times in seconds.

    D is 2048 for a ResNet-50, whose last layer follows its average pooling. frames: how many equal parts the stretch is
    cut into; of each, the frame on screen at its centre is used. A clip with fewer frames repeats the nearest, and all
    steps are valid. backbone: the name of any torchvision classifier ("vit_b_16", "convnext_tiny"), or a classifier of
    timm, which must be installed, as "timm/<name>" or "timm/<name>.<tag>". weights: the name of a set that torchvision
    publishes ("IMAGENET1K_V1"), a local .safetensors, .pth or .pt file of a state dict, or "random", drawn from seed.
    Colours are scaled as the weights were trained, by the records of torchvision or timm. The tag
    ("timm/vit_small_patch16_224.dino") tells timm whose weights a file holds; it is required if timm publishes sets of
    that network with different scales. size: the short side of a frame in pixels, of which the centre square is used;
    some networks take only one size. precision: "bf16" computes in bfloat16, which differs from float32 by more than
    its tolerance.
    """

    version: ClassVar[int] = 1
    imports: ClassVar[tuple[str, ...]] = ("stages._backbone",)

    backbone: str = "resnet50"
    frames: int = 30
    weights: str = field(default="IMAGENET1K_V2", metadata=SOURCE)
    seed: int = 0
    size: int = 224
    precision: Literal["float32", "bf16"] = "float32"

    def __post_init__(self) -> None:
        """Adds timm to the libraries, and so to the key, for a network of timm."""
        if self._of_timm:
            object.__setattr__(self, "libraries", (*type(self).libraries, "timm"))

    def sources(self) -> dict[str, str]:
        """The weights of the network `backbone`."""
        return {} if self.weights == "random" else {"weights": network_source(self.backbone, self.weights)}

    @property
    def _of_timm(self) -> bool:
        return self.backbone.startswith("timm/")

    @property
    def steps(self) -> int:
        """`frames`."""
        return self.frames

    def check(self) -> None:
        """Raises ValueError for numbers out of range, a seed that nothing reads, and a missing timm."""
        if self.frames < 1 or self.size < 32:
            raise ValueError(f"frames must be at least 1, size at least 32; are {self.frames}, {self.size}")
        if self.weights != "random":
            self.refuse(("seed",), 'only for weights = "random"')
        if self._of_timm and find_spec("timm") is None:
            raise ValueError(f"{self.backbone} needs timm, which is not installed: pip install timm")

    def pick(self, time_s: NDArray[np.float64], duration_s: float) -> NDArray[np.int64]:
        """Picks the frame on screen at the centre of each of `frames` equal parts (X5)."""
        return shown_at(time_s, (np.arange(self.frames) + 0.5) * duration_s / self.frames)

    def shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the centre square, [size, size, 3]. No wider margin is cut off, because faces are cropped already."""
        return square(image, self.size)

    def load(self, device: str) -> Any:
        """Returns the network. Raises InputError for an unknown network, for weights that can't be read or whose scale
        of colours is unknown, and for a size that the network can't take."""
        import torch

        from stages._backbone import Extractor, build, scale_of, width

        model = build(self.backbone, self.weights, self.seed)
        dim, scale = width(model, (self.size, self.size), self.backbone), scale_of(self.backbone, self.weights)
        return Extractor(model, dim, device, self.precision, scale, torch.channels_last, AT_ONCE[device])

    def spec(self, loaded: Any) -> Spec:
        """D is the network's width; the dimensions have no names."""
        return Spec(dim=loaded.dim, tolerance=1e-4 if self.precision == "float32" else 0.1)

    def transform(self, loaded: Any, state: State | None, batch: Sequence[Item]) -> list[Track]:
        """Runs the frames of several utterances together."""
        from stages._backbone import split

        clips = [item["video"] for item in batch]
        features = loaded.features(image for clip in clips for image in clip.images)
        parts = split(features, [len(clip.images) for clip in clips])
        return [Track.of(part, clip.time_s) for part, clip in zip(parts, clips, strict=True)]
