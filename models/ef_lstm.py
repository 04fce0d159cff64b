"""EF-LSTM: the modalities side by side at each step, read by one LSTM: early fusion in MulT's and MulG's tables.

J. Williams et al., "Recognizing Emotions in Video Using Multimodal DNN Feature Fusion", Challenge-HML 2018. Settings
are those that MMSA publishes for MOSEI; its batch normalisation is the standardiser here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._aligned import one_length
from models._cross_modal import Front
from models._layers import PLAIN_ADAM, LastState, check_settings
from pipeline.model import Input, Model, Prediction, zero_invalid


@dataclass(frozen=True, kw_only=True)
class EFLSTMConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 256
    layers: int = 2
    dropout: float = 0.4
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTM

    def __post_init__(self) -> None:
        check_settings(self)


class EFLSTM(Model):
    """One LSTM over steps at which any modality is valid; a modality that is not valid there counts as 0.

    All modalities have one length, since a step holds all of them. Raises ValueError if the lengths differ.
    """

    config: EFLSTMConfig
    Config = EFLSTMConfig
    features: ClassVar[str] = "hjcag"
    fixed_length: ClassVar[bool] = True
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "batch_size": 128, "learning_rate": 5e-3, "weight_decay": 1e-4}
    )

    def __init__(self, config: EFLSTMConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        one_length(self.inputs)
        self.front = Front(self.inputs, config.cross_modal)
        self.read = LastState(nn.LSTM, sum(self.front.dims.values()), config.hidden, config.layers, config.dropout)
        self.drop = nn.Dropout(config.dropout)
        self.fuse = nn.Linear(config.hidden, config.hidden)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, L or 1, D], masks: modality -> bool [B, L or 1] -> logits [B, outputs]."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        beside = torch.cat([zero_invalid(x[m], steps[m]) for m in self.inputs], dim=-1)  # [B, L, sum of D]
        union = torch.stack([steps[m] for m in self.inputs]).any(dim=0)  # [B, L]
        fused = self.fuse(self.drop(self.read(beside, union))).relu()  # [B, hidden]
        return Prediction(self.head(self.drop(fused)), attention=maps)
