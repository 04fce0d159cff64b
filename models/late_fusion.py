"""Late fusion: a linear probe of each modality, whose log probabilities are added; of numbers, the mean is taken.

Addition is the best that can be done if the modalities are independent given the label, so what a model gains over it
is what it makes of the modalities together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._solved import AT_ONCE, Layer, gathered, pooled
from pipeline.linear import fit_linear
from pipeline.model import Batch, Input, Prediction, Solved
from pipeline.stage import Target


@dataclass(frozen=True, kw_only=True)
class LateFusionConfig:
    """The model has no settings."""


class LateFusion(Solved):
    """A linear layer for each modality on its mean and deviation over time; those that a row has are added up."""

    config: LateFusionConfig
    Config = LateFusionConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = AT_ONCE

    def __init__(self, config: LateFusionConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.layers = nn.ModuleDict({m: Layer(2 * given.dim, outputs) for m, given in self.inputs.items()})
        self.register_buffer("classes", torch.tensor(0))

    def solve(self, train: Iterable[Batch], valid: Iterable[Batch], target: Target) -> None:
        """Fits each modality on the train rows that have it; one that no train or validation row has says nothing."""
        self.get_buffer("classes").fill_(0 if target.task == "regression" else target.outputs // _heads(target))
        rows, others = gathered(train, self.inputs), gathered(valid, self.inputs)
        for m, layer in self.layers.items():
            parts = [(part.vectors[m][part.present[m]], part.labels[part.present[m]]) for part in (rows, others)]
            if all(len(labels) for _, labels in parts):
                assert isinstance(layer, Layer)
                layer.take(fit_linear(parts[0], parts[1], target))

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T, D], masks: modality -> [B, T] -> logits [B, outputs], 0 for a row without any."""
        present = torch.stack([masks[m].any(dim=1, keepdim=True) for m in self.inputs])  # [M, B, 1]
        said = torch.stack([self._said(m, pooled(values[m].float(), masks[m])) for m in self.inputs])
        total = torch.where(present, said, 0.0).sum(dim=0)  # [B, outputs]
        return Prediction(total if self.get_buffer("classes") else total / present.sum(dim=0).clamp(min=1))

    def _said(self, modality: str, vector: Tensor) -> Tensor:
        logits: Tensor = self.layers[modality](vector)
        classes = int(self.get_buffer("classes"))
        return logits.unflatten(1, (-1, classes)).log_softmax(dim=-1).flatten(1) if classes else logits


def _heads(target: Target) -> int:
    return len(target.classes) if target.task == "multilabel" else 1
