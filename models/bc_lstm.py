"""bc-LSTM: a recurrence over the utterances of a dialogue in both directions, first of each modality, then of all.

S. Poria et al., "Context-Dependent Sentiment Analysis in User-Generated Videos", ACL 2017. The paper trains the
networks of the modalities first, and the one that reads them afterwards; here both learn at once, so that there are two
layers as in the authors' public code (declare-lab/conv-emotion, for text alone), whose other settings are the defaults.
Its LSTM is the default too, and `cell = "gru"` the contextual GRU of later tables.

Shapes: B rows of the batch, C dialogues of U turns, D features of a modality, h the width of a direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models._dialogue import Cell, Context
from models._layers import PLAIN_ADAM, check_settings
from pipeline.model import DialogueModel, Input, Prediction, Turns


@dataclass(frozen=True, kw_only=True)
class BCLSTMConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    cell: Cell = "lstm"
    hidden: int = 100  # of each direction
    layers: int = 1
    dropout: float = 0.25
    bidirectional: bool = True  # without it, a turn knows only the turns before it: the paper's sc-LSTM
    hierarchical: bool = True  # without it, one recurrence reads the modalities side by side

    def __post_init__(self) -> None:
        check_settings(self)


class BCLSTM(DialogueModel):
    """A contextual network for each modality, one over all of them, and a dense layer before the logits."""

    config: BCLSTMConfig
    Config = BCLSTMConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "epochs": 60, "learning_rate": 1e-4, "weight_decay": 1e-5}
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"sc-LSTM": {"bidirectional": False}, "non-hierarchical": {"hierarchical": False}}
    )

    def __init__(self, config: BCLSTMConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        first = {m: self._context(given.dim) for m, given in self.inputs.items()} if config.hierarchical else {}
        self.read = nn.ModuleDict(first)
        self.drop = nn.Dropout(config.dropout)
        self.fuse = self._context(sum(first[m].width if first else given.dim for m, given in self.inputs.items()))
        self.dense = nn.Linear(self.fuse.width, config.hidden)
        self.head = nn.Linear(config.hidden, outputs)

    def _context(self, dim: int) -> Context:
        config = self.config
        return Context(config.cell, dim, config.hidden, config.layers, config.dropout, not config.bidirectional)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs]."""
        x = self.vectors(values, masks, turns)  # [C, U, D] each
        if self.config.hierarchical:
            x = {m: self.drop(self.read[m](x[m], turns.mask)) for m in self.inputs}  # [C, U, h or 2 h]
        states = self.fuse(torch.cat(list(x.values()), dim=2), turns.mask)  # [C, U, h or 2 h]
        dense = self.dense(self.drop(turns.to_rows(states))).relu()  # [B, h]
        return Prediction(self.head(self.drop(dense)))
