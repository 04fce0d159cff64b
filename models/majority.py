"""The majority: what the train labels alone predict, whatever the features say. Every score is held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from models._solved import AT_ONCE
from pipeline.model import Batch, Input, Prediction, Solved
from pipeline.objective import prior
from pipeline.stage import Target


@dataclass(frozen=True, kw_only=True)
class MajorityConfig:
    """The model has no settings."""


class Majority(Solved):
    """The log frequencies of the classes among the train rows, or the median of their numbers, for every row."""

    config: MajorityConfig
    Config = MajorityConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = AT_ONCE

    def __init__(self, config: MajorityConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.register_buffer("answer", torch.zeros(outputs))

    def solve(self, train: Iterable[Batch], valid: Iterable[Batch], target: Target) -> None:
        """Counts the labels of the train rows."""
        labels = torch.cat([batch.labels for batch in train])
        self.get_buffer("answer").copy_(torch.from_numpy(prior(labels, target)))

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T, D], masks: modality -> [B, T] -> logits [B, outputs], the same for each row."""
        rows = len(next(iter(masks.values())))
        return Prediction(self.get_buffer("answer").expand(rows, -1))
