"""What models share whose weights scikit-learn solves for: pooled vectors, and a linear layer that takes a solution.

Shapes: B rows of the batch, T steps, D features of a modality, F features of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models._layers import PLAIN_ADAM
from pipeline.linear import Array, Linear
from pipeline.model import Batch, masked_mean, zero_invalid

AT_ONCE: Mapping[str, float | int | bool] = MappingProxyType({**PLAIN_ADAM, "epochs": 1, "batch_size": 256})
"""Settings of the training loop for a model that is not trained by epochs: it reads the batch size alone."""


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """The mean and the deviation over valid steps, 0 over none: x [B, T, D], mask [B, T] -> [B, 2 D]."""
    mask = mask.any(dim=1, keepdim=True) if x.shape[1] == 1 else mask  # a broadcast vector (X6)
    mean = masked_mean(x, mask)
    variance = masked_mean((zero_invalid(x, mask) - mean.unsqueeze(1)).square(), mask)
    return torch.cat([mean, variance.sqrt()], dim=1)


class Gathered(NamedTuple):
    """All rows of some batches. vectors: modality -> [N, F]. present: modality -> [N]. labels: [N] or [N, heads]."""

    vectors: Mapping[str, Array]
    present: Mapping[str, NDArray[np.bool_]]
    labels: Array


def gathered(batches: Iterable[Batch], modalities: Iterable[str]) -> Gathered:
    """The pooled vectors of each row, which are all that is kept of the batches."""
    names = tuple(modalities)
    vectors: dict[str, list[Tensor]] = {m: [] for m in names}
    present: dict[str, list[Tensor]] = {m: [] for m in names}
    labels = []
    for batch in batches:
        labels.append(batch.labels)
        for m in names:
            vectors[m].append(pooled(batch.values[m].float(), batch.masks[m]).double())
            present[m].append(batch.masks[m].any(dim=1))
    return Gathered(
        {m: torch.cat(parts).numpy() for m, parts in vectors.items()},
        {m: torch.cat(parts).numpy() for m, parts in present.items()},
        torch.cat(labels).numpy(),
    )


class Layer(nn.Module):
    """logits = (x - mean) / scale @ weight + bias, as a `Linear` solution has them: [B, F] -> [B, outputs]."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.weight = nn.Parameter(torch.zeros(width, outputs), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False)

    def take(self, solution: Linear) -> None:
        """Takes the numbers of a solution."""
        with torch.no_grad():
            for name in ("mean", "scale", "weight", "bias"):
                getattr(self, name).copy_(torch.from_numpy(getattr(solution, name)))

    def forward(self, x: Tensor) -> Tensor:
        """Maps x [B, F] to [B, outputs]."""
        scaled = (x - self.get_buffer("mean")) / self.get_buffer("scale")
        return scaled @ self.weight + self.bias
