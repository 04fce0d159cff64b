"""MulG: directed pairwise cross-modal attention, GRU, feature cascade. Numbers in brackets are the paper's equations.

Shapes: B rows of the batch, T steps of a target and S of a source (every modality has its own length), D features
of a modality as they arrive, d the hidden width, P directed pairs that end at one target. Ids such as G11 and X11
are the project's decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models._cross_modal import CrossModal, detached
from models._layers import FeedForward, LastState, Residual, Variant, check_settings, expand, masked_softmax
from pipeline.model import Input, Model, Prediction


@dataclass(frozen=True, kw_only=True)
class MulGConfig:
    """Every choice that the paper leaves open. Raises ValueError that lists impossible values.

    Dropouts are those of Table 1 for MOSEI, which are those of Table 7 except for the text (G14). Recipes have those of
    other corpora.
    """

    width: int = 50  # G12, X2: Table 7's orig_d, the FC of each modality
    hidden: int = 40  # Table 1
    pairs: Literal["cross", "self", "none"] = "cross"  # ablations: self-attention (G6), no cross-modal attention
    attention: Literal["multihead", "bilinear"] = "multihead"  # G11: "bilinear" is (5)-(7) to the letter
    layers: int = 2  # Table 7; of multi-head attention
    heads: int = 4  # Table 7; of multi-head attention
    residual: Variant = "pre_ln"  # G9
    gru: Literal["per_target", "per_pair"] = "per_target"  # X11
    positions: Literal["added", "equal"] = "added"  # X11; "equal" scales content and positions alike
    gru_cell: Literal["torch", "paper"] = "torch"  # G10: "paper" is (1)-(4) to the letter
    gru_layers: int = 2  # the paper's discussion
    embed_dropout: float = 0.3  # of the text's features
    attn_dropout: float = 0.1
    relu_dropout: float = 0.1
    res_dropout: float = 0.1
    out_dropout: float = 0.1

    def __post_init__(self) -> None:
        attends = self.attention == "multihead" and self.pairs != "none"
        uneven = attends and self.heads > 0 and self.hidden % self.heads
        check_settings(self, f"{self.heads} heads do not divide a hidden width of {self.hidden}" if uneven else "")


class _Bilinear(nn.Module):
    """One directed pair by (5)-(7): a bilinear score, and the source weighted by its softmax."""

    def __init__(self, config: MulGConfig) -> None:
        super().__init__()
        self.w = nn.Parameter(nn.init.xavier_uniform_(torch.empty(config.hidden, config.hidden)))
        self.drop = nn.Dropout(config.attn_dropout)

    def forward(self, target: Tensor, source: Tensor, valid: Tensor, maps: bool) -> tuple[Tensor, Tensor | None]:
        """Maps target [B, T, d], source [B, S, d], valid [B, S] to [B, T, d] and, if `maps` asks for them, the weights
        [B, T, S]."""
        e = target @ self.w @ source.mT  # (5)
        alpha = masked_softmax(e, valid.unsqueeze(1))  # (6)
        return self.drop(alpha).to(source.dtype) @ source, alpha if maps else None  # (7)


class _PaperGRU(nn.Module):
    """(1)-(4) to the letter (G10): no biases, the reset is before W_hs, and z = 1 takes the candidate."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.hidden = hidden
        dims = [dim] + [hidden] * (layers - 1)
        self.w_x = nn.ModuleList(nn.Linear(d, 3 * hidden, bias=False) for d in dims)  # W_xr, W_xz, W_xs
        self.w_h = nn.ModuleList(nn.Linear(hidden, 2 * hidden, bias=False) for _ in dims)  # W_hr, W_hz
        self.w_hs = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in dims)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, dim], mask [B, T] to the last layer's last valid state [B, hidden], 0 where none is valid."""
        for w_x, w_h, w_hs in zip(self.w_x, self.w_h, self.w_hs, strict=True):
            h = x.new_zeros(len(x), self.hidden)
            states = []
            for x_t, valid in zip(w_x(x).unbind(dim=1), mask.unbind(dim=1), strict=True):
                h = torch.where(valid.unsqueeze(-1), self._step(x_t, h, w_h, w_hs), h)
                states.append(h)
            x = torch.stack(states, dim=1)  # [B, T, hidden]
        return h

    def _step(self, x_t: Tensor, h: Tensor, w_h: nn.Module, w_hs: nn.Module) -> Tensor:
        x_r, x_z, x_s = x_t.chunk(3, dim=-1)
        h_r, h_z = w_h(h).chunk(2, dim=-1)
        r = torch.sigmoid(x_r + h_r)  # (1)
        z = torch.sigmoid(x_z + h_z)  # (2)
        candidate = torch.tanh(x_s + w_hs(r * h))  # (3)
        return (1 - z) * h + z * candidate  # (4)


class MulG(Model):
    """Each modality attends to each other one, a GRU reads the result, and the last states are fused: (1)-(9).

    Each modality has its own length. With one modality there is no cross-modal attention.
    """

    config: MulGConfig
    Config = MulGConfig
    features: ClassVar[str] = "mulg"
    claimed: ClassVar[Mapping[str, str]] = MappingProxyType(
        {  # Tables 2 to 4; what is printed as F1 of MOSI is in the range and the order of an MAE
            "mosi": "acc2_non0 .822 ± .010, acc7 .405 ± .008, mae .821 ± .019 (printed as F1), corr .695 ± .014",
            "mosei": "acc2_non0 .821 ± .010, acc7 .514 ± .009, f1_non0 .824 ± .010, corr .704 ± .012",
            "iemocap": "accuracy of hap .906 ± .008, sad .862 ± .009, ang .870 ± .010, neu .725 ± .012 (mulg4)",
        }
    )
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {  # Table 1 for MOSEI; MOSI 100 epochs of batches of 128, IEMOCAP 50 of 32
            "epochs": 50,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "beta1": 0.9,
            "beta2": 0.999,
            "weight_decay": 0.0,
            "decay_factor": 1.0,
            "decay_every": 0,
            "clip_norm": 0.8,  # X11
            "unimodal_pretrain": False,  # X8
            "group_lengths": True,
        }
    )

    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {  # Tables 5 to 7, and the residual connections that the paper describes
            "w/o cross-modal attention": {"pairs": "none"},
            "self-attention": {"pairs": "self"},
            "only text": {"modalities": ["text"]},
            "only audio": {"modalities": ["audio"]},
            "only visual": {"modalities": ["visual"]},
            "post-LN": {"residual": "post_ln"},
            "ResiDual": {"residual": "residual"},
        }
    )

    def __init__(self, config: MulGConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.modalities = tuple(self.inputs)
        d = config.hidden
        self.embed_drop = nn.Dropout(config.embed_dropout)
        self.refine = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(given.dim, config.width), nn.ReLU()) for m, given in self.inputs.items()}
        )
        self.conv = nn.ModuleDict({m: nn.Conv1d(config.width, d, kernel_size=1) for m in self.modalities})
        self._add_pairs()
        self._add_recurrence()
        self.fuse = nn.Linear(len(self.gru) * d, d)  # W_fusion, b_fusion
        self.residual = Residual(config.residual, d, 1)
        self.feed = FeedForward(d, d, config.out_dropout)
        self.head = nn.Linear(d, outputs)

    def _add_pairs(self) -> None:
        self.pairs = {
            f"{source}->{target}": (source, target) for target in self.modalities for source in self._sources(target)
        }
        self.attend = nn.ModuleDict({pair: self._attention() for pair in self.pairs})

    def _attention(self) -> nn.Module:
        c = self.config
        if c.attention == "bilinear":
            return _Bilinear(c)
        dropouts = (c.attn_dropout, c.relu_dropout, c.res_dropout)
        return CrossModal(c.hidden, c.layers, c.heads, c.residual, *dropouts, equal_positions=c.positions == "equal")

    def _sources(self, target: str) -> list[str]:
        others = [m for m in self.modalities if m != target]
        return {"cross": others, "self": [target], "none": []}[self.config.pairs]

    def _add_recurrence(self) -> None:
        """A stream is the input of one GRU: its target modality, and the pairs that end there."""
        self.streams = {m: (m, [p for p, (_, target) in self.pairs.items() if target == m]) for m in self.modalities}
        if self.config.gru == "per_pair" and self.pairs:
            self.streams = {pair: (target, [pair]) for pair, (_, target) in self.pairs.items()}
        cell = partial(LastState, nn.GRU) if self.config.gru_cell == "torch" else _PaperGRU
        d, layers = self.config.hidden, self.config.gru_layers
        self.gru = nn.ModuleDict({s: cell(d * max(len(p), 1), d, layers) for s, (_, p) in self.streams.items()})

    def reductions(self) -> dict[str, nn.Module]:
        """The trainable FC of each modality, [B, T, D] -> [B, T, width], of standardised features (G12, X8)."""
        return dict(self.refine.items())

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, T or 1, D], masks: modality -> bool [B, T or 1] -> logits [B, outputs], attention.

        T is the aligned length. A single step is repeated at all of them (X6).
        """
        x, masks = self._embed(values, masks)
        attended, kept = {}, {}
        for pair, (source, target) in self.pairs.items():
            attended[pair], kept[pair] = self.attend[pair](x[target], x[source], masks[source], self.maps)
        h_concat = torch.cat([self._read(stream, x, attended, masks) for stream in self.gru], dim=-1)  # (8)
        h_reduced = self.fuse(h_concat)  # (9); [B, d]
        logits = self.head(self.residual(h_reduced, [self.feed]))
        return Prediction(logits, attention=detached(kept))

    def _embed(
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        x: dict[str, Tensor] = {}
        steps: dict[str, Tensor] = {}
        for m, v in self.standardise({m: values[m] for m in self.modalities}, masks).items():
            v = self.refine[m](self.embed_drop(v) if m == "text" else v)  # [B, T, width]
            v = self.conv[m](v.mT).mT  # [B, width, T] -> [B, d, T] -> [B, T, d]
            x[m], steps[m] = expand(v, masks[m], self.inputs[m].length)
        return x, steps

    def _read(
        self, stream: str, x: Mapping[str, Tensor], attended: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Tensor:
        target, pairs = self.streams[stream]
        sequence = torch.cat([attended[pair] for pair in pairs], dim=-1) if pairs else x[target]  # [B, T, P d]
        h: Tensor = self.gru[stream](sequence, masks[target])
        return h
