"""Directed attention between modalities: one pair of MulG's Fig. 3, and all pairs as a front of other models.

Shapes: B rows of the batch, T steps of a target and S of a source (every modality has its own length), D features of a
modality as they arrive, d the width of attention. Ids such as G9 and X11 are the project's decisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from models._layers import FeedForward, MultiHeadAttention, Residual, Variant, expand, sinusoids
from pipeline.model import Input

WIDTH, LAYERS, HEADS, DROPOUT = 40, 2, 4, 0.1
"""MulG's own attention (Tables 1 and 7), which its Tables 2 to 4 put before the other models."""


class CrossModal(nn.Module):
    """One directed pair of Fig. 3: layers of (multi-head attention to the source, feed-forward) on the target."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        residual: Variant = "pre_ln",
        attn_dropout: float = DROPOUT,
        relu_dropout: float = DROPOUT,
        res_dropout: float = DROPOUT,
        equal_positions: bool = False,
    ) -> None:
        super().__init__()
        self.place = partial(with_positions, equal=equal_positions)
        self.normalise = nn.LayerNorm(width)
        self.attend = nn.ModuleList(MultiHeadAttention(width, heads, attn_dropout) for _ in range(layers))
        self.feed = nn.ModuleList(FeedForward(width, 4 * width, relu_dropout, res_dropout) for _ in range(layers))
        self.drop = nn.Dropout(res_dropout)
        self.residual = Residual(residual, width, 2 * layers)

    def forward(self, target: Tensor, source: Tensor, valid: Tensor, maps: bool) -> tuple[Tensor, Tensor | None]:
        """Maps target [B, T, d], source [B, S, d], valid [B, S] to [B, T, d] and, if `maps` asks for them, the last
        layer's weights [B, T, S]."""
        source = self.normalise(self.place(source))
        kept: list[Tensor | None] = []

        def attention(attend: nn.Module, x: Tensor) -> Tensor:
            attended, weights = attend(x, source, valid, maps)
            kept.append(weights)
            dropped: Tensor = self.drop(attended)
            return dropped

        layers = zip(self.attend, self.feed, strict=True)
        branches = [branch for attend, feed in layers for branch in (partial(attention, attend), feed)]
        return self.residual(self.place(target), branches), kept[-1]


def with_positions(x: Tensor, equal: bool = False) -> Tensor:
    """Adds sinusoidal positions to x [B, T, d], whose content is scaled by the root of d (X11).

    equal: content and positions each have a variance of 1 in a step instead, so that neither drowns the other.
    """
    positions = sinusoids(x.shape[1], x.shape[2], like=x)
    if equal:
        return functional.layer_norm(x, x.shape[-1:]) + math.sqrt(2) * positions  # sines have a variance of a half
    return math.sqrt(x.shape[-1]) * x + positions


def detached(maps: Mapping[str, Tensor | None]) -> dict[str, Tensor] | None:
    """Weights by pair as `Prediction.attention` has them: detached, None if there are none."""
    return {pair: weights.detach() for pair, weights in maps.items() if weights is not None} or None


class Front(nn.Module):
    """What a model reads of each modality: its features, or what every other modality adds to them by attention.

    cross_modal: without it, or with one modality, standardised features pass unchanged. With it each modality is
    projected to `WIDTH`, attends to each other one, and is the results side by side, as in MulG's Tables 2 to 4 (X20).
    dims: modality -> width of what comes out.
    """

    def __init__(self, inputs: Mapping[str, Input], cross_modal: bool) -> None:
        super().__init__()
        self.inputs = dict(inputs)
        others = {m: [n for n in inputs if n != m] if cross_modal else [] for m in inputs}
        self.pairs = {f"{source}->{target}": (source, target) for target in inputs for source in others[target]}
        widened = inputs if self.pairs else {}
        self.project = nn.ModuleDict({m: nn.Linear(inputs[m].dim, WIDTH) for m in widened})
        self.attend = nn.ModuleDict({pair: CrossModal(WIDTH, LAYERS, HEADS) for pair in self.pairs})
        self.dims = {m: WIDTH * len(others[m]) or given.dim for m, given in inputs.items()}

    def forward(
        self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor], maps: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor] | None]:
        """Maps x: modality -> [B, T or 1, D] and masks: modality -> [B, T or 1] to [B, T, dims], to masks [B, T], and
        to `Prediction.attention`, None without attention or if `maps` does not ask for it."""
        values, steps = {}, {}
        for m, given in self.inputs.items():
            projected = self.project[m](x[m]) if self.pairs else x[m]
            values[m], steps[m] = expand(projected, masks[m], given.length)
        if not self.pairs:
            return values, steps, None
        attended, kept = {}, {}
        for pair, (source, target) in self.pairs.items():
            attended[pair], kept[pair] = self.attend[pair](values[target], values[source], steps[source], maps)
        ends = {m: [pair for pair, (_, target) in self.pairs.items() if target == m] for m in self.inputs}
        return {m: torch.cat([attended[pair] for pair in ends[m]], dim=-1) for m in ends}, steps, detached(kept)
