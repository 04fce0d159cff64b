"""A linear model of all modalities: the mean and deviation of each over time, side by side, standardised.

Logistic regression for classes, ridge regression for numbers; validation chooses the penalty (see `pipeline.linear`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models._solved import AT_ONCE, Gathered, Layer, gathered, pooled
from pipeline.linear import Array, fit_linear
from pipeline.model import Batch, Input, Prediction, Solved
from pipeline.stage import Target


@dataclass(frozen=True, kw_only=True)
class LinearModelConfig:
    """The model has no settings."""


class LinearModel(Solved):
    """One linear layer on the pooled modalities; one that a row lacks has the mean of the train rows there."""

    config: LinearModelConfig
    Config = LinearModelConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = AT_ONCE

    def __init__(self, config: LinearModelConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.layer = Layer(sum(2 * given.dim for given in self.inputs.values()), outputs)
        for m, given in self.inputs.items():
            self.register_buffer(f"usual_{m}", torch.zeros(2 * given.dim))

    def solve(self, train: Iterable[Batch], valid: Iterable[Batch], target: Target) -> None:
        """Fits on the train rows; a modality that a row lacks has the mean of the rows that have it."""
        rows = gathered(train, self.inputs)
        for m, x in rows.vectors.items():
            some = rows.present[m]
            usual = x[some].mean(axis=0) if some.any() else np.zeros(x.shape[1])
            self.get_buffer(f"usual_{m}").copy_(torch.from_numpy(usual))
        parts = [(self._beside(part), part.labels) for part in (rows, gathered(valid, self.inputs))]
        self.layer.take(fit_linear(parts[0], parts[1], target))

    def _beside(self, rows: Gathered) -> Array:
        filled = [
            np.where(rows.present[m][:, None], x, self.get_buffer(f"usual_{m}").double().numpy())
            for m, x in rows.vectors.items()
        ]
        return np.concatenate(filled, axis=1)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T, D], masks: modality -> [B, T] -> logits [B, outputs]."""
        beside = []
        for m in self.inputs:
            vector, present = pooled(values[m].float(), masks[m]), masks[m].any(dim=1, keepdim=True)
            beside.append(torch.where(present, vector, self.get_buffer(f"usual_{m}")))
        return Prediction(self.layer(torch.cat(beside, dim=1)))
