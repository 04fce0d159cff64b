"""LF-LSTM: an LSTM reads each modality, and the last states are fused: late fusion in MulT's and MulG's tables.

Y.-H. H. Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019, names it and gives
no settings. The weight decay and dropout are those that MMSA publishes for EF-LSTM on MOSI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, LastState, check_settings
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class LFLSTMConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 128
    layers: int = 1
    dropout: float = 0.5
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTMs

    def __post_init__(self) -> None:
        check_settings(self)


class LFLSTM(Model):
    """One LSTM for each modality over its own valid steps; their last states side by side; two layers to the logits."""

    config: LFLSTMConfig
    Config = LFLSTMConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType({**PLAIN_ADAM, "weight_decay": 0.005})

    def __init__(self, config: LFLSTMConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        self.read = nn.ModuleDict(
            {
                m: LastState(nn.LSTM, dim, config.hidden, config.layers, config.dropout)
                for m, dim in self.front.dims.items()
            }
        )
        self.drop = nn.Dropout(config.dropout)
        self.fuse = nn.Linear(config.hidden * len(self.inputs), config.hidden)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        last = torch.cat([self.read[m](x[m], steps[m]) for m in self.inputs], dim=1)  # [B, M hidden]
        fused = self.fuse(self.drop(last)).relu()  # [B, hidden]
        return Prediction(self.head(self.drop(fused)), attention=maps)
