"""The networks of `visual_cnn3d` and their fine-tuning.

Shapes: N clips, T frames of a clip, D features, B rows, K logits.
"""

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

AT_ONCE = {"cpu": 2, "cuda": 32}
"""The clips of one forward pass, each of which holds 100 MB of maps. On a CPU, more are no faster."""


@dataclass(frozen=True)
class Network:
    """A video network that ends in its last feature map, pooled over space and time: [N, D].

    scale: the mean and deviation of red, green and blue that its weights were trained with.
    """

    model: nn.Module
    dim: int
    scale: Scale


def network(name: str, weights: str, seed: int, pool: str, shape: Sequence[int]) -> Network:
    """torchvision's video network `name`, with `pool`, max or avg, over its last map.

    shape: frames, height and width of a clip. Raises InputError if the network can't take such clips.
    """
    model = build(name, weights, seed, "clips")
    if pool == "max":
        model.avgpool = _Max()
    return Network(model, width(model, shape, name), scale_of(name, weights))


class _Max(nn.Module):
    """[N, D, T, H, W] to [N, D, 1, 1, 1]. Unlike torch's own max pooling, it is deterministic in training on CUDA."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3, 4), keepdim=True)


def extractor(network: Network, device: str) -> Extractor:
    """The extractor of a network."""
    layout = torch.channels_last_3d
    return Extractor(network.model, network.dim, device, "float32", network.scale, layout, AT_ONCE[device])


class Classifier(nn.Module):
    """The network, and one linear layer on the average features of a row's clips."""

    def __init__(self, network: Network, outputs: int) -> None:
        super().__init__()
        self.model = network.model
        self.scale = network.scale
        self.head = nn.Linear(network.dim, outputs)

    def forward(self, pixels: Tensor, counts: Sequence[int]) -> Tensor:
        """pixels: uint8 [N, T, H, W, 3], the clips of B rows, `counts` [B] of each -> logits [B, K]."""
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
    """Fine-tunes the network that `make` makes, with a head that is then dropped.

    All clips of a minibatch are in memory at once.
    """

    def logits(module: Classifier, rows: list[Any]) -> Tensor:
        clips = [clips_of(row["video"]) for row in rows]
        output: Tensor = module(to_device([clip for row in clips for clip in row], device), [len(row) for row in clips])
        return output

    def build() -> Classifier:
        return Classifier(make(), target.outputs).to(device)

    learned_from, validated_on = (Examples(rows.items, rows.labels) for rows in (train, valid))
    learned = learn(build, logits, learned_from, validated_on, target, training)
    weights = learned.module.model.state_dict()
    return State({name: value.cpu().numpy() for name, value in weights.items()}, log=learned.log)
