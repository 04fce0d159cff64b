"""TFN: the outer product of all modalities, each with a 1 beside it, so that it holds every product of any of them.

A. Zadeh et al., "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP 2017, section 4.2. Settings are those
that MMSA publishes for MOSI. The paper squeezes its output to the scale of MOSI; here logits are as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, check_settings
from models._subnets import subnets
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class TFNConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    text_hidden: int = 128
    text_out: int = 32
    audio_hidden: int = 32
    visual_hidden: int = 128
    fused: int = 64
    dropout: float = 0.3  # in the networks of the modalities
    out_dropout: float = 0.5  # of the outer product
    cross_modal: bool = False  # X20: directed attention between modalities before all this

    def __post_init__(self) -> None:
        check_settings(self)


class TFN(Model):
    """A vector for each modality, their outer product with 1 beside each, three layers to the logits.

    The outer product of the defaults has 33 x 33 x 129 entries. A modality without valid steps has the vector that its
    network gives for 0.
    """

    config: TFNConfig
    Config = TFNConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = PLAIN_ADAM

    def __init__(self, config: TFNConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        hidden = {"text": config.text_out, "audio": config.audio_hidden, "visual": config.visual_hidden}
        self.read = subnets(self.front.dims, hidden, config.text_hidden, config.dropout)
        self.drop = nn.Dropout(config.out_dropout)
        entries = 1
        for m in self.inputs:
            entries *= hidden[m] + 1
        self.fuse = nn.Sequential(
            nn.Linear(entries, config.fused), nn.ReLU(), nn.Linear(config.fused, config.fused), nn.ReLU()
        )
        self.head = nn.Linear(config.fused, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        product = next(iter(x.values())).new_ones(len(next(iter(x.values()))), 1)  # [B, 1]
        for m in self.inputs:
            z = self.read[m](x[m], steps[m])  # [B, h]
            z = torch.cat([torch.ones_like(z[:, :1]), z], dim=1)  # [B, 1 + h]
            product = (product.unsqueeze(2) * z.unsqueeze(1)).flatten(1)  # [B, n] x [B, 1 + h] -> [B, n (1 + h)]
        return Prediction(self.head(self.fuse(self.drop(product))), attention=maps)
