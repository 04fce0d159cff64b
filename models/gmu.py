"""GMU: a gate for each modality and channel, which all modalities together decide.

J. Arevalo et al., "Gated Multimodal Units for Information Fusion", ICLR workshop 2017, figure 2a (k modalities). The
paper fuses one vector for each modality, which here is the mean over valid steps. HJCAG's gate stands in its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, check_settings
from pipeline.model import Input, Model, Prediction, masked_mean


@dataclass(frozen=True, kw_only=True)
class GMUConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 128
    dropout: float = 0.3
    cross_modal: bool = False  # X20: directed attention between modalities before the means

    def __post_init__(self) -> None:
        check_settings(self)


class GMU(Model):
    """h_m = tanh(W_m x_m), z_m = sigmoid(Z_m [x_1; ...; x_M]), and the sum of z_m h_m through a linear layer.

    A modality without valid steps has neither a gate nor a part of the sum. The gates in a prediction are shares: the
    mean of a modality's z beside those of the others.
    """

    config: GMUConfig
    Config = GMUConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = PLAIN_ADAM

    def __init__(self, config: GMUConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        every = sum(self.front.dims.values())
        self.feature = nn.ModuleDict({m: nn.Linear(dim, config.hidden) for m, dim in self.front.dims.items()})
        self.gate = nn.ModuleDict({m: nn.Linear(every, config.hidden) for m in self.inputs})
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs], gates."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        means = [masked_mean(x[m], steps[m]) for m in self.inputs]  # [B, D] each
        every = torch.cat(means, dim=1)  # [B, sum of D]
        present = torch.stack([steps[m].any(dim=1) for m in self.inputs])  # [M, B]
        h = torch.stack([self.feature[m](mean).tanh() for m, mean in zip(self.inputs, means, strict=True)])
        z = torch.stack([self.gate[m](every).sigmoid() for m in self.inputs]) * present.unsqueeze(-1)  # [M, B, hidden]
        logits = self.head(self.drop((z * h).sum(dim=0)))
        return Prediction(
            logits, gates=dict(zip(self.inputs, _shares(z.detach().mean(dim=2)), strict=True)), attention=maps
        )


def _shares(gates: Tensor) -> Tensor:
    """gates [M, B] -> the same with a sum of 1 over M; equal shares for a row without anything."""
    total = gates.sum(dim=0, keepdim=True)
    return torch.where(total > 0, gates / total.clamp(min=1e-12), 1 / len(gates))
