"""The networks of `visual_cnn3d` and their fine-tuning. N clips, T frames, D features, B rows, K logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stage import Frames, Rows, State, Target
from stages._backbone import Extractor, Scale, build, normalised, scale_of, to_device, width
from stages._fit import Examples, learn
from stages._training import Training

Clips = NDArray[np.uint8]


@dataclass(frozen=True)
class Network:
    """A video network that ends in its last map, pooled over space and time: [N, D].

    scale: mean and deviation of red, green and blue that its weights were trained with.
    """

    model: nn.Module
    dim: int
    scale: Scale


def network(name: str, weights: str, seed: int, pool: str, shape: Sequence[int]) -> Network:
    """torchvision's video network `name`, its last map max or avg pooled.

    shape: frames, height and width of a clip. Raises InputError where it takes none such.
    """
    model = build(name, weights, seed, "clips")
    if pool == "max":
        model.avgpool = _Max()
    return Network(model, width(model, shape, name), scale_of(name, weights))


class _Max(nn.Module):
    """[N, D, T, H, W] to [N, D, 1, 1, 1]; unlike torch's own max pooling it learns deterministically on CUDA too."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3, 4), keepdim=True)


def extractor(network: Network, device: str) -> Extractor:
    """Two clips at once: more gain nothing and hold a hundred MB of maps each."""
    layout = torch.channels_last_3d
    return Extractor(network.model, network.dim, device, "float32", network.scale, layout, size=2)


class Classifier(nn.Module):
    """The network and one linear layer on the average of a row's clips."""

    def __init__(self, network: Network, outputs: int) -> None:
        super().__init__()
        self.model = network.model
        self.scale = network.scale
        self.head = nn.Linear(network.dim, outputs)

    def forward(self, pixels: Tensor, counts: Sequence[int]) -> Tensor:
        """uint8 [N, T, H, W, 3], the clips of B rows, `counts` of each, to logits [B, K]."""
        features = self.model(normalised(pixels, self.scale))  # [N, 3, T, H, W] -> [N, D]
        rows = torch.stack([part.mean(0) for part in features.split(list(counts))])  # [B, D]
        logits: Tensor = self.head(rows)
        return logits


def fit(
    make: Callable[[], Network],
    clips_of: Callable[[Frames], Clips],
    train: Rows,
    valid: Rows,
    target: Target,
    training: Training,
    device: str,
) -> State:
    """Fine-tunes what `make` makes; the head is dropped. A minibatch's clips are in memory at once."""

    def logits(module: Classifier, rows: list[Any]) -> Tensor:
        clips = [clips_of(row["video"]) for row in rows]
        output: Tensor = module(to_device([clip for row in clips for clip in row], device), [len(row) for row in clips])
        return output

    def build() -> Classifier:
        return Classifier(make(), target.outputs).to(device)

    seen, held = (Examples(rows.items, rows.labels) for rows in (train, valid))
    learned = learn(build, logits, seen, held, target, training)
    weights = learned.module.model.state_dict()
    return State({name: value.cpu().numpy() for name, value in weights.items()}, log=learned.log)
