"""CFN-ESA: recurrences read each modality, attention centred on text joins them, pairs of turns tell emotion shifts.

J. Li et al., "CFN-ESA: A Cross-Modal Fusion Network With Emotion-Shift Awareness for Dialogue Emotion Recognition",
IEEE Transactions on Affective Computing 2024. Settings and details are those of the authors' public code for IEMOCAP,
with these differences: attention has no biases; it sees no padding, whose mask the code adds to the scores; Adam takes
the place of AdamW. A modality that an utterance lacks is no source of attention, and 0 where the modalities are joined.
The paper has classes; numbers shift if they are on different sides of the train rows' mean.

Shapes: B rows of the batch, C dialogues of U turns, D features of a modality, d the width of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._dialogue import Context
from models._layers import PLAIN_ADAM, FeedForward, MultiHeadAttention, check_settings
from pipeline.model import DialogueModel, Input, Prediction, Turns
from pipeline.stage import Target

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class CFNESAConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    width: int = 512
    heads: int = 8
    layers: int = 5  # of attention
    context_layers: int = 2  # of recurrence
    context_dropout: float = 0.2
    dropout: float = 0.4
    shift_hidden: int = 128
    shift_dropout: float = 0.05
    shift_weight: float = 1.0  # of the loss of emotion shift

    def __post_init__(self) -> None:
        uneven = self.heads > 0 and self.width % self.heads
        check_settings(
            self,
            f"{self.heads} heads do not divide a width of {self.width}" if uneven else "",
            "" if self.shift_weight >= 0 else f"shift_weight must not be negative, got {self.shift_weight}",
        )


class Recurrent(nn.Module):
    """A layer of RUME: a recurrence over the turns and a feed-forward network, each with its residual connection."""

    def __init__(self, config: CFNESAConfig) -> None:
        super().__init__()
        d, dropout = config.width, config.context_dropout
        self.context = Context("gru", d, d, 1, 0.0)
        self.narrow, self.drop = nn.Linear(2 * d, d), nn.Dropout(dropout)
        self.feed = FeedForward(d, 2 * d, dropout, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(d) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps the turns x [C, U, d] of one modality, mask [C, U], to [C, U, d]."""
        read = self.norms[0](x + self.drop(self.narrow(self.context(x, mask))))
        fed: Tensor = self.norms[1](x + read + self.feed(read))
        return fed


class Crossing(nn.Module):
    """A layer of ACME: each modality attends to itself, the centre to all others, these to the centre."""

    def __init__(self, config: CFNESAConfig, names: list[str]) -> None:
        super().__init__()
        d, self.centre, self.others = config.width, names[0], names[1:]
        self.itself, self.look, self.back = (
            nn.ModuleDict({m: MultiHeadAttention(d, config.heads, 0.0) for m in chosen})
            for chosen in (names, self.others, self.others)
        )
        self.mix = nn.Linear(len(self.others) * d, d) if self.others else None
        self.feed = nn.ModuleDict({m: FeedForward(d, 2 * d, config.dropout, config.dropout) for m in names})
        self.norms = nn.ModuleDict({m: nn.ModuleList(nn.LayerNorm(d) for _ in range(3)) for m in names})
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensors, valid: Tensors) -> dict[str, Tensor]:
        """Maps modality -> turns [C, U, d], of which those of valid [C, U] are sources, to modality -> [C, U, d]."""
        own = {m: self._normed(m, 0, f + self.drop(self.itself[m](f, f, valid[m])[0])) for m, f in x.items()}
        crossed = self._crossed(own, valid)
        joined = {m: self._normed(m, 1, x[m] + own[m] + self.drop(crossed[m])) for m in crossed} or own
        return {m: self._normed(m, 2, x[m] + joined[m] + self.feed[m](joined[m])) for m in x}

    def _crossed(self, own: Tensors, valid: Tensors) -> dict[str, Tensor]:
        """What each modality reads of the others; nothing without others."""
        if self.mix is None:
            return {}
        centre = own[self.centre]
        seen = [self.drop(self.look[m](centre, own[m], valid[m])[0]) for m in self.others]
        back = {m: self.back[m](own[m], centre, valid[self.centre])[0] for m in self.others}
        return {self.centre: self.mix(torch.cat(seen, dim=2)).relu(), **back}

    def _normed(self, modality: str, number: int, x: Tensor) -> Tensor:
        normed: Tensor = self.norms[modality][number](x)  # type: ignore[index]
        return normed


class CFNESA(DialogueModel):
    """RUME, which all modalities share, then ACME; text is its centre, or else the first modality that is there."""

    config: CFNESAConfig
    Config = CFNESAConfig
    features: ClassVar[str] = "hjcag"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {
            **PLAIN_ADAM,
            "epochs": 80,
            "learning_rate": 2e-5,
            "weight_decay": 1e-5,
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"w/o LESM": {"shift_weight": 0.0}})

    def __init__(self, config: CFNESAConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        d, names = config.width, list(self.inputs)
        self.project = nn.ModuleDict({m: nn.Linear(given.dim, d) for m, given in self.inputs.items()})
        self.recurrent = nn.ModuleList(Recurrent(config) for _ in range(config.context_layers))
        self.crossing = nn.ModuleList(Crossing(config, names) for _ in range(config.layers))
        self.join, self.drop = nn.Linear(len(names) * d, d), nn.Dropout(config.dropout)
        self.head = nn.Linear(d, outputs)
        self.pair, self.shift_drop = nn.Linear(2 * d, config.shift_hidden), nn.Dropout(config.shift_dropout)
        self.shift = nn.Linear(config.shift_hidden, 2)
        self.register_buffer("middle", None, persistent=False)

    def begin(self, count: int, rows: Tensor, labels: Tensor, target: Target) -> None:
        """Keeps the mean of the train rows' labels, [] or [numbers], if they are numbers."""
        mean = labels.mean(dim=0) if target.task == "regression" else None
        self.middle = None if mean is None else mean.to(next(self.parameters()).device)

    def forward(  # type: ignore[override]
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor], turns: Turns
    ) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs].

        The parts of the prediction are the `turns` [C, U] of the batch, and its modalities `joined` [C, U, d], also
        `again` with another dropout.
        """
        valid = {m: turns.of_rows(masks[m].any(dim=1)) for m in self.inputs}  # [C, U]
        x = {m: self.project[m](vector) for m, vector in self.vectors(values, masks, turns).items()}
        for layer in self.recurrent:
            x = {m: layer(turn, turns.mask) for m, turn in x.items()}  # [C, U, d]
        joined = self._joined(x, valid)
        again = self._joined(x, valid) if self.training and self.config.shift_weight else joined
        parts = {"turns": turns.turns, "joined": joined, "again": again}
        return Prediction(self.head(turns.to_rows(joined)), parts=parts)

    def _joined(self, x: Tensors, valid: Tensors) -> Tensor:
        for layer in self.crossing:
            x = layer(x, valid)
        beside = torch.cat([x[m] * valid[m].unsqueeze(2) for m in self.inputs], dim=2)  # [C, U, M d]
        joined: Tensor = self.drop(self.join(beside).relu())
        return joined

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective, and the cross-entropy of whether the labels of two turns of a dialogue differ."""
        total, parts = objective(prediction.logits, labels), prediction.parts
        if not self.config.shift_weight:
            return total
        assert parts is not None
        turns = parts["turns"]
        both = (turns >= 0).unsqueeze(2) & (turns >= 0).unsqueeze(1)  # [C, U, U]
        shifts = self._shifts(labels)[turns.clamp(min=0).unsqueeze(2), turns.clamp(min=0).unsqueeze(1)][both]
        said = self._said(parts["joined"], parts["again"])[both]  # [pairs, 2]
        return total + self.config.shift_weight * functional.cross_entropy(said, shifts.long())

    def _shifts(self, labels: Tensor) -> Tensor:
        """bool [B, B], True where the labels of two rows differ: as classes, or as sides of the mean."""
        sides = (labels if self.middle is None else labels > self.middle).reshape(len(labels), -1)  # [B, heads]
        return (sides.unsqueeze(0) != sides.unsqueeze(1)).any(dim=2)

    def _said(self, one: Tensor, other: Tensor) -> Tensor:
        """The logits [C, U, U, 2] of whether the emotion shifts between any two turns: one, other [C, U, d]."""
        first, second = self.pair.weight.chunk(2, dim=1)  # of both halves, so that no pair has to be written out
        hidden = (one @ first.mT).unsqueeze(2) + (other @ second.mT).unsqueeze(1) + self.pair.bias
        said: Tensor = self.shift(self.shift_drop(hidden.relu()))
        return said
