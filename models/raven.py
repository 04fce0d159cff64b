"""RAVEN: sound and pictures shift each word, by gates that the word and they decide, and an LSTM reads shifted words.

Y. Wang et al., "Words Can Shift: Dynamically Adjusting Word Representations Using Nonverbal Behaviors", AAAI 2019. The
paper cuts sound and pictures at words. Features of an utterance are not cut at words here, so each word sees the whole
utterance's sound and pictures. No settings for these features are published: those of `lf_lstm` are the defaults.

Shapes: B rows of the batch, T steps, D features of a modality, W of a word, h width of a state.
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
from pipeline.model import Input, Model, Prediction, zero_invalid

TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
class RAVENConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 128
    nonverbal: int = 64
    shift: float = 1.0  # largest length of a shift beside the length of its word
    dropout: float = 0.5
    cross_modal: bool = False  # X20: directed attention between modalities before all this

    def __post_init__(self) -> None:
        check_settings(self, "" if self.shift > 0 else f"shift must be above 0, got {self.shift}")


class RAVEN(Model):
    """An LSTM over words e + a h, where h is the gated sum of the other modalities, a = min(shift |e| / |h|, 1).

    Without text the first modality that is there takes its place. A modality that a row lacks shifts nothing, and a row
    without words has the logits of the bias, whatever else it has.
    """

    config: RAVENConfig
    Config = RAVENConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType({**PLAIN_ADAM, "weight_decay": 0.005})

    def __init__(self, config: RAVENConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        self.words, *self.others = self.inputs
        width, h = self.front.dims[self.words], config.nonverbal
        self.sense = nn.ModuleDict({m: LastState(nn.LSTM, self.front.dims[m], h, 1) for m in self.others})
        self.gate = nn.ModuleDict({m: nn.Linear(h + width, 1) for m in self.others})
        self.shift = nn.ModuleDict({m: nn.Linear(h, width, bias=False) for m in self.others})
        self.bias = nn.Parameter(torch.zeros(width)) if self.others else None
        self.read = LastState(nn.LSTM, width, config.hidden, 1)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        words = zero_invalid(x[self.words], steps[self.words])  # [B, T, W]
        shifted = self._shifted(words, x, steps) if self.others else words
        return Prediction(self.head(self.drop(self.read(shifted, steps[self.words]))), attention=maps)

    def _shifted(self, words: Tensor, x: Mapping[str, Tensor], steps: Mapping[str, Tensor]) -> Tensor:
        """Words [B, T, W] moved by what the other modalities say, no further than `shift` times their length."""
        total = torch.zeros_like(words)
        some = torch.zeros_like(words[:, :1, :1], dtype=torch.bool)  # [B, 1, 1]
        for m in self.others:
            state = self.sense[m](x[m], steps[m]).unsqueeze(1)  # [B, 1, h]
            beside = torch.cat([state.expand(-1, words.shape[1], -1), words], dim=-1)  # [B, T, h + W]
            total = total + self.gate[m](beside).sigmoid() * self.shift[m](state)
            some = some | steps[m].any(dim=1)[:, None, None]
        assert self.bias is not None
        total = torch.where(some, total + self.bias, 0.0)
        lengths = (words.norm(dim=-1, keepdim=True), total.norm(dim=-1, keepdim=True))  # [B, T, 1]
        return words + (self.config.shift * lengths[0] / (lengths[1] + TINY)).clamp(max=1) * total
