"""MulT: each modality attends to each other one in layers, then to itself, and its last step is fused.

Y.-H. H. Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019; where the paper is
silent, as in the authors' code, whose settings for CMU-MOSEI are the defaults. Attention has no biases here, so that
attention over nothing is 0.

Shapes: B rows of the batch, T steps of a target and S of a source (every modality has its own length), D features of a
modality as they arrive, d the hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn

from models._cross_modal import detached, with_positions
from models._layers import PLAIN_ADAM, FeedForward, MultiHeadAttention, check_settings, expand
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class MulTConfig:
    """Settings of the model. Raises ValueError that lists impossible values."""

    width: int = 30
    heads: int = 5
    layers: int = 5  # of each directed pair
    memory_layers: int = 5  # of attention of a modality to itself; the code takes the larger of `layers` and 3
    causal: bool = True  # the code's default: a step sees no later step of the source
    text_dropout: float = 0.25
    embed_dropout: float = 0.25
    attn_dropout: float = 0.1  # where text is the source or attends to itself; the code has 0 for the others
    relu_dropout: float = 0.1
    res_dropout: float = 0.1
    out_dropout: float = 0.0

    def __post_init__(self) -> None:
        uneven = self.heads > 0 and self.width % self.heads
        check_settings(self, f"{self.heads} heads do not divide a width of {self.width}" if uneven else "")


class _Layer(nn.Module):
    """Attention to the source, then feed-forward, both behind a LayerNorm that target and source share."""

    def __init__(self, config: MulTConfig, width: int, attn_dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = MultiHeadAttention(width, config.heads, attn_dropout)
        self.drop = nn.Dropout(config.res_dropout)
        self.feed = FeedForward(width, 4 * width, config.relu_dropout, config.res_dropout)

    def forward(self, x: Tensor, source: Tensor, seen: Tensor, maps: bool) -> tuple[Tensor, Tensor | None]:
        """Maps x [B, T, d], source [B, S, d], seen [B, T, S] to [B, T, d] and, if `maps` asks for them, the weights
        [B, T, S]."""
        attended, weights = self.attend(self.norms[0](x), self.norms[0](source), seen, maps)
        x = x + self.drop(attended)
        return x + self.feed(self.norms[1](x)), weights


class _Transformer(nn.Module):
    """Layers of attention of a target to a source, or to itself, with positions before and a LayerNorm behind."""

    def __init__(self, config: MulTConfig, width: int, layers: int, attn_dropout: float) -> None:
        super().__init__()
        self.causal = config.causal
        self.drop = nn.Dropout(config.embed_dropout)
        self.layers = nn.ModuleList(_Layer(config, width, attn_dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, target: Tensor, source: Tensor | None, valid: Tensor, maps: bool) -> tuple[Tensor, Tensor | None]:
        """Maps target [B, T, d], source [B, S, d] (None: the target itself), valid [B, S] of the source to [B, T, d]
        and, if `maps` asks for them, the last layer's weights [B, T, S]."""
        x = self.drop(with_positions(target))
        other = None if source is None else self.drop(with_positions(source))
        seen = self._seen(target.shape[1], valid)
        for layer in self.layers:
            x, weights = layer(x, x if other is None else other, seen, maps)
        return self.norm(x), weights

    def _seen(self, steps: int, valid: Tensor) -> Tensor:
        """valid [B, S] -> [B, T, S]. A causal target sees S - T steps further if the source is longer, T - S if not."""
        seen = valid.unsqueeze(1).expand(-1, steps, -1)
        if not self.causal:
            return seen
        width = valid.shape[1]
        later = torch.ones(steps, width, dtype=torch.bool, device=valid.device).triu(1 + abs(width - steps))
        return seen & ~later


class MulT(Model):
    """Six directed transformers, three of the modalities to themselves, the last valid steps, a residual block.

    With one modality there is no directed pair, and the modality attends to itself.
    """

    config: MulTConfig
    Config = MulTConfig
    features: ClassVar[str] = "mulg"
    fixed_length: ClassVar[bool] = True  # its causal mask depends on the lengths
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {**PLAIN_ADAM, "epochs": 40, "batch_size": 24, "clip_norm": 0.8}
    )

    def __init__(self, config: MulTConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.text_drop = nn.Dropout(config.text_dropout)
        self.project = nn.ModuleDict({m: nn.Linear(i.dim, config.width, bias=False) for m, i in self.inputs.items()})
        others = {m: [n for n in self.inputs if n != m] for m in self.inputs}
        self.pairs = {f"{source}->{target}": (source, target) for target in others for source in others[target]}
        self.attend = nn.ModuleDict({p: self._transformer(s, 1, config.layers) for p, (s, _) in self.pairs.items()})
        beside = max(len(self.inputs) - 1, 1)
        self.memory = nn.ModuleDict({m: self._transformer(m, beside, config.memory_layers) for m in self.inputs})
        d = config.width * beside * len(self.inputs)
        self.fuse = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Dropout(config.out_dropout), nn.Linear(d, d))
        self.head = nn.Linear(d, outputs)

    def _transformer(self, source: str, beside: int, layers: int) -> _Transformer:
        dropout = self.config.attn_dropout if source == "text" else 0.0
        return _Transformer(self.config, self.config.width * beside, layers, dropout)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs], attention."""
        x, steps = self._embed(values, masks)
        attended, kept = {}, {}
        for pair, (source, target) in self.pairs.items():
            attended[pair], kept[pair] = self.attend[pair](x[target], x[source], steps[source], self.maps)
        last = torch.cat([self._last(m, x, attended, steps[m]) for m in self.inputs], dim=1)  # [B, sum of widths]
        logits = self.head(self.fuse(last) + last)
        return Prediction(logits, attention=detached(kept))

    def _embed(
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        x: dict[str, Tensor] = {}
        steps: dict[str, Tensor] = {}
        for m, v in self.standardise({m: values[m] for m in self.inputs}, masks).items():
            projected = self.project[m](self.text_drop(v) if m == "text" else v)  # [B, T, d]
            x[m], steps[m] = expand(projected, masks[m], self.inputs[m].length)
        return x, steps

    def _last(self, m: str, x: Mapping[str, Tensor], attended: Mapping[str, Tensor], mask: Tensor) -> Tensor:
        """The state of modality m at its last valid step, [B, its width]; 0 where no step is valid."""
        ends = [attended[pair] for pair, (_, target) in self.pairs.items() if target == m] or [x[m]]
        states, _ = self.memory[m](torch.cat(ends, dim=-1), None, mask, maps=False)
        places = torch.arange(mask.shape[1], device=mask.device)
        at = (places * mask).amax(dim=1)  # [B]
        last: Tensor = states[torch.arange(len(states), device=states.device), at]
        return last.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)
