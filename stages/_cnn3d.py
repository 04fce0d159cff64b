"""The networks of `visual_cnn3d` and their fine-tuning. N clips, T frames, D features, B rows, K logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stage import Frames, Rows, State, Target
from stages._backbone import KINETICS, Extractor, build, normalised, to_device
from stages._fit import Examples, learn
from stages._training import Training

Clips = NDArray[np.uint8]


def network(name: str, weights: str, seed: int, pool: str) -> nn.Module:
    """torchvision's video network `name` that ends in its last map, max or avg pooled over space and time: [N, D]."""
    model = build(name, weights, seed)
    if pool == "max":
        model.avgpool = _Max()
    return model


class _Max(nn.Module):
    """[N, D, T, H, W] to [N, D, 1, 1, 1]; unlike torch's own max pooling it learns deterministically on CUDA too."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.amax((2, 3, 4), keepdim=True)


def extractor(model: nn.Module, device: str) -> Extractor:
    """Two clips at once: more gain nothing and hold a hundred MB of maps each."""
    return Extractor(model, device, "float32", KINETICS, torch.channels_last_3d, size=2)


class Classifier(nn.Module):
    """The network and one linear layer on the average of a row's clips."""

    def __init__(self, model: nn.Module, outputs: int) -> None:
        super().__init__()
        self.model = model
        self.head = nn.Linear(512, outputs)

    def forward(self, pixels: Tensor, counts: Sequence[int]) -> Tensor:
        """uint8 [N, T, H, W, 3], the clips of B rows, `counts` of each, to logits [B, K]."""
        features = self.model(normalised(pixels, KINETICS))  # [N, 3, T, H, W] -> [N, D]
        rows = torch.stack([part.mean(0) for part in features.split(list(counts))])  # [B, D]
        logits: Tensor = self.head(rows)
        return logits


def fit(
    model: Callable[[], nn.Module],
    clips_of: Callable[[Frames], Clips],
    train: Rows,
    valid: Rows,
    target: Target,
    training: Training,
    device: str,
) -> State:
    """Fine-tunes what `model` makes; the head is dropped. A minibatch's clips are in memory at once."""

    def logits(module: Classifier, rows: list[Any]) -> Tensor:
        clips = [clips_of(row["video"]) for row in rows]
        output: Tensor = module(to_device([clip for row in clips for clip in row], device), [len(row) for row in clips])
        return output

    def build() -> Classifier:
        return Classifier(model(), target.outputs).to(device)

    seen, held = (Examples(rows.items, rows.labels) for rows in (train, valid))
    learned = learn(build, logits, seen, held, target, training)
    weights = learned.module.model.state_dict()
    return State({name: value.cpu().numpy() for name, value in weights.items()}, log=learned.log)
