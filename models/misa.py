"""MISA: each modality has a part of its own and a part that all share, and a transformer fuses all of these parts.

D. Hazarika et al., "MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis", ACM
Multimedia 2020. Settings are those that MMSA publishes for CMU-MOSEI. The last state of one LSTM stands for the final
states of the paper's two bidirectional ones, and attention has no biases, so that attention over nothing is 0.

Shapes: B rows of the batch, T steps, D features of a modality, d the hidden width, M modalities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._cross_modal import Front
from models._layers import PLAIN_ADAM, FeedForward, LastState, MultiHeadAttention, Residual, check_settings
from pipeline.model import Input, Model, Prediction, zero_invalid

MOMENTS = 5
"""Of the central moment discrepancy, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class MISAConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    hidden: int = 128
    heads: int = 2
    dropout: float = 0.5  # of the fusion
    attn_dropout: float = 0.1  # in the transformer, as PyTorch has it
    similarity: float = 0.8  # weight of the central moment discrepancy between shared parts
    difference: float = 0.3  # weight of the orthogonality of parts
    reconstruction: float = 1.0
    cross_modal: bool = False  # X20: directed attention between modalities before the LSTMs

    def __post_init__(self) -> None:
        uneven = self.heads > 0 and self.hidden % self.heads
        weights = ("similarity", "difference", "reconstruction")
        negative = [f"{name} must be at least 0" for name in weights if not getattr(self, name) >= 0]
        check_settings(self, f"{self.heads} heads do not divide a width of {self.hidden}" if uneven else "", *negative)


class MISA(Model):
    """A private and a shared part of each modality's last state, one layer of attention among all, two layers.

    A modality that a row lacks has no part in the attention, in what follows, or in the losses.
    """

    config: MISAConfig
    Config = MISAConfig
    features: ClassVar[str] = "mulg"
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "batch_size": 64, "learning_rate": 1e-4, "weight_decay": 5e-5, "clip_norm": 0.8}
    )

    def __init__(self, config: MISAConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.front = Front(self.inputs, config.cross_modal)
        d, count = config.hidden, len(self.inputs)
        self.read = nn.ModuleDict({m: LastState(nn.LSTM, dim, d, 1) for m, dim in self.front.dims.items()})
        self.project = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.LayerNorm(d)) for m in self.inputs}
        )
        self.private = nn.ModuleDict({m: nn.Linear(d, d) for m in self.inputs})
        self.shared = nn.Linear(d, d)
        self.decode = nn.ModuleDict({m: nn.Linear(d, d) for m in self.inputs})
        self.attend = MultiHeadAttention(d, config.heads, config.attn_dropout)
        self.drop = nn.Dropout(config.attn_dropout)
        self.feed = FeedForward(d, 2048, config.attn_dropout, config.attn_dropout)
        self.residual = Residual("post_ln", d, 2)
        self.fuse = nn.Sequential(nn.Linear(2 * count * d, 3 * d), nn.Dropout(config.dropout), nn.ReLU())
        self.head = nn.Linear(3 * d, outputs)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs].

        The parts of the prediction are `whole`, `private`, `shared`, each [M, B, d], and `present`, bool [M, B].
        """
        x, steps, maps = self.front(self.standardise({m: values[m] for m in self.inputs}, masks), masks, self.maps)
        whole = torch.stack([self.project[m](self.read[m](x[m], steps[m])) for m in self.inputs])  # [M, B, d]
        private = torch.stack([self.private[m](u) for m, u in zip(self.inputs, whole, strict=True)]).sigmoid()
        shared = self.shared(whole).sigmoid()
        present = torch.stack([steps[m].any(dim=1) for m in self.inputs])
        logits = self.head(self.fuse(self._attended(torch.cat([private, shared]), present.repeat(2, 1)).flatten(1)))
        parts = {"whole": whole, "private": private, "shared": shared, "present": present}
        return Prediction(logits, attention=maps, parts=parts)

    def _attended(self, states: Tensor, present: Tensor) -> Tensor:
        """States [2 M, B, d], present [2 M, B] -> [B, 2 M, d], 0 for a part that a row lacks."""
        x, seen = states.transpose(0, 1), present.T

        def attention(x: Tensor) -> Tensor:
            dropped: Tensor = self.drop(self.attend(x, x, seen)[0])
            return dropped

        return zero_invalid(self.residual(x, [attention, self.feed]), seen)

    def loss(self, prediction: Prediction, labels: Tensor, rows: Tensor, objective: Callable[..., Tensor]) -> Tensor:
        """The task's objective and the weighted similarity, difference and reconstruction."""
        assert prediction.parts is not None
        whole, private, shared, present = (prediction.parts[k] for k in ("whole", "private", "shared", "present"))
        both = zip(self.inputs, private + shared, strict=True)
        decoded = torch.stack([self.decode[m](x) for m, x in both])  # [M, B, d]
        missed = [functional.mse_loss(x[here], u[here]) for x, u, here in zip(decoded, whole, present, strict=True)]
        return (
            objective(prediction.logits, labels)
            + self.config.similarity * _similarity(shared, present)
            + self.config.difference * _difference(private, shared, present)
            + self.config.reconstruction * _mean([x for x, here in zip(missed, present, strict=True) if here.any()])
        )


def discrepancy(x: Tensor, y: Tensor) -> Tensor:
    """The central moment discrepancy of samples x [n, d] and y [k, d], whose values are from 0 to 1."""
    means = x.mean(dim=0), y.mean(dim=0)
    total = _length(means[0] - means[1])
    for k in range(2, MOMENTS + 1):
        total = total + _length(((x - means[0]) ** k).mean(dim=0) - ((y - means[1]) ** k).mean(dim=0))
    return total


def overlap(x: Tensor, y: Tensor) -> Tensor:
    """The mean square of the correlations of x [n, d] with y [n, d], columns centred, then rows of length 1."""
    x, y = (functional.normalize(z - z.mean(dim=0), dim=1) for z in (x, y))
    return (x.T @ y).square().mean()


def _similarity(shared: Tensor, present: Tensor) -> Tensor:
    """The mean discrepancy over pairs of modalities; shared [M, B, d], present [M, B]."""
    known = [x[here] for x, here in zip(shared, present, strict=True) if here.any()]
    return _mean([discrepancy(x, y) for x, y in combinations(known, 2)])


def _difference(private: Tensor, shared: Tensor, present: Tensor) -> Tensor:
    """The sum of overlaps: of a modality's private with its shared part, and of the private parts with each other."""
    own = [overlap(x[here], y[here]) for x, y, here in zip(private, shared, present, strict=True) if here.any()]
    pairs = combinations(zip(private, present, strict=True), 2)
    others = [overlap(x[a & b], y[a & b]) for (x, a), (y, b) in pairs if (a & b).any()]
    return torch.stack([*own, *others]).sum() if own else private.new_zeros(())


def _length(x: Tensor) -> Tensor:
    return (x.square().sum() + 1e-12).sqrt()  # without the number, the gradient at 0 would be nan


def _mean(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).mean() if losses else torch.zeros(())
