"""LMF: tensor fusion with weights of low rank, so that the outer product is never built.

Z. Liu et al., "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", ACL 2018, equations 6 to 8, with
the ranks weighted as in the authors' code. Settings are those that MMSA publishes for MOSEI, but for the weight decay:
with its 0.001 the product of the factors shrinks to 0 on a small corpus before anything is learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, check_settings
from models._subnets import subnets
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class LMFConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    rank: int = 4
    text_hidden: int = 128
    text_out: int = 64
    audio_hidden: int = 16
    visual_hidden: int = 128
    dropout: float = 0.2
    cross_modal: bool = False  # X20: directed attention between modalities before all this

    def __post_init__(self) -> None:
        check_settings(self)


class LMF(Model):
    """A vector for each modality; a product over modalities in each rank; a weighted sum of the ranks.

    A modality without valid steps has the vector that its network gives for 0.
    """

    config: LMFConfig
    Config = LMFConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType({**PLAIN_ADAM, "weight_decay": 1e-4})

    def __init__(self, config: LMFConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        hidden = {"text": config.text_out, "audio": config.audio_hidden, "visual": config.visual_hidden}
        self.read = subnets(self.front.dims, hidden, config.text_hidden, config.dropout)
        self.factors = nn.ParameterDict({m: _xavier(config.rank, hidden[m] + 1, outputs) for m in self.inputs})
        self.weights = _xavier(1, config.rank)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        product: Tensor | float = 1.0
        for m in self.inputs:
            z = self.read[m](x[m], steps[m])  # [B, h]
            z = torch.cat([torch.ones_like(z[:, :1]), z], dim=1)  # [B, 1 + h]
            product = product * (z @ self.factors[m])  # (7); [R, B, outputs]
        assert isinstance(product, Tensor), "there is at least one modality"
        fused = (self.weights @ product.flatten(1)).reshape(product.shape[1:])  # [1, R] @ [R, B outputs]
        return Prediction(fused + self.bias, attention=maps)


def _xavier(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_normal_(torch.empty(shape)))
