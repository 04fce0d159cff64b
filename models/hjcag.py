"""HJCAG: hierarchical joint cross-modal attention with a gate. Numbers in brackets are the paper's equations.

Shapes, as in the paper: B rows of the batch, L steps (one number for all modalities), D features of a modality as
they arrive, d width of a modality inside (d_t, d_a, d_v), d_J width of a joint, M modalities. Inside, features are
X [B, d, L], so that the code reads like the equations. Ids such as H5 and X3 are the project's decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models._aligned import one_length
from models._layers import check_settings, expand, masked_softmax
from pipeline.model import Input, Model, Prediction, masked_mean, zero_invalid

Joint = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HJCAGConfig:
    """Every choice that the paper leaves open, and its ablations. Raises ValueError that lists impossible values."""

    d_model: int = 256  # H5: width of the unified space; in "native", width at the gate
    audio_dim: int | None = None  # H8: width of the audio FC; None keeps the input's (1582 of IS10); 300 for MELD
    visual_dim: int | None = 512  # H9: ResNet-50's 2048 to 512
    space: Literal["unified", "native"] = "unified"  # H5
    gate: Literal["channel", "scalar"] = "channel"  # H12: a weight per step and channel, or per step
    pool: Literal["own", "union"] = "own"  # X23: each modality over its own steps before the gate, or all after it
    mask: Literal["strict", "none"] = "strict"  # X3: "none" is as in the paper, which treats padding as content
    layer_norm: bool = True  # X4: after (12) and after (16)
    bimodal: bool = True  # X17: without it, X enters (13) directly
    trimodal: bool = True  # X17: without it, (10)-(12) enter (17)
    gated: bool = True  # X17: without it, an unweighted mean of the valid modalities
    embed_dropout: float = 0.0  # before the first level; the paper has none
    dropout: float = 0.1  # section 4.2; before the classifier (H12)

    def __post_init__(self) -> None:
        check_settings(self)


class _JointAttention(nn.Module):
    """One level of the hierarchy: (1)-(12) if the joints are the pairs, (13)-(16) if the joint is all three."""

    def __init__(self, dims: Mapping[str, int], joints: Sequence[Joint], length: int, layer_norm: bool) -> None:
        super().__init__()
        self.joints = tuple(joints)
        widths = {joint: sum(dims[m] for m in joint) for joint in joints}
        self.fc = nn.ModuleDict({_name(joint): nn.Linear(d, d) for joint, d in widths.items()})
        self.w_j = nn.ParameterDict(
            {f"{m}|{_name(joint)}": _matrix(dims[m], d) for joint, d in widths.items() for m in joint}
        )
        self.w_c = nn.ParameterDict({m: _matrix(length, length) for m in dims})  # mixes steps, so L is fixed (H11)
        self.w_h = nn.ParameterDict({m: _matrix(length, length) for m in dims})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(d) if layer_norm else nn.Identity() for m, d in dims.items()})

    def forward(self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps x: modality -> [B, d, L] and masks: modality -> [B, L] -> like x."""
        j = {joint: self._joint(joint, x) for joint in self.joints}
        return {m: self._attend(m, x[m], j, masks) for m in x}

    def _joint(self, joint: Joint, x: Mapping[str, Tensor]) -> Tensor:
        stacked = torch.cat([x[m] for m in joint], dim=1)  # [B, d_J, L]
        j: Tensor = self.fc[_name(joint)](stacked.mT).mT
        return j.relu()  # (1)-(3), (13); J [B, d_J, L]

    def _attend(self, m: str, x: Tensor, joints: Mapping[Joint, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        c = torch.stack([self._correlate(m, x, joint, j, masks) for joint, j in joints.items() if m in joint]).sum(0)
        h = (x @ self.w_c[m] @ c).relu()  # (7)-(9), (15); H [B, d, L]
        x = h @ self.w_h[m] + x  # (10)-(12), (16)
        x = self.norm[m](x.mT).mT  # X4; LN stays within a step, so one mask serves both lines (X3)
        return x.masked_fill(~masks[m].unsqueeze(1), 0.0)

    def _correlate(self, m: str, x: Tensor, joint: Joint, j: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        w = self.w_j[f"{m}|{_name(joint)}"]
        c = torch.tanh(x.mT @ w @ j / math.sqrt(j.shape[1]))  # one term of (4)-(6), (14); [B, L, L]; d by H10
        rows, columns = masks[m], _union(masks[n] for n in joint)
        return c.masked_fill(~(rows.unsqueeze(2) & columns.unsqueeze(1)), 0.0)  # X3

    def maps(self, x: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`Prediction.attention` of the pairs: how a step's correlation with a joint is shared out over its steps.

        A weight is |C| of (4)-(6) before its sum over joints, over the row's sum; the steps of the joint of m and n
        count as those of n, as far as n is valid there.
        """
        found = {}
        for joint in (joint for joint in self.joints if len(joint) == 2):
            j = self._joint(joint, x)
            for m, n in permutations(joint):
                c = self._correlate(m, x[m], joint, j, masks).detach().abs() * masks[n].unsqueeze(1)
                found[f"{n}->{m}"] = c / c.sum(dim=2, keepdim=True).clamp(min=torch.finfo(c.dtype).tiny)
        return found


class HJCAG(Model):
    """Two levels of joint cross-modal attention, a gate over modalities, a classifier: equations (1)-(18).

    All modalities have one length L. With two modalities, (4)-(6) have one term. With one, its joint is itself and its
    gate is 1 (X17). Raises ValueError if the lengths differ.
    """

    config: HJCAGConfig
    Config = HJCAGConfig
    features: ClassVar[str] = "hjcag"
    fixed_length: ClassVar[bool] = True
    train_defaults: ClassVar[Mapping[str, float | int | bool]] = MappingProxyType(
        {  # section 4.2; MELD's batches are of 100
            "epochs": 200,
            "batch_size": 64,
            "learning_rate": 1e-5,
            "beta1": 0.9,
            "beta2": 0.99,
            "weight_decay": 1e-5,
            "decay_factor": 0.95,
            "decay_every": 10,
            "clip_norm": 0.0,
            "unimodal_pretrain": True,  # X8
        }
    )

    claimed: ClassVar[Mapping[str, str]] = MappingProxyType(
        {  # Table 2, mean over five-fold cross-validation; the F1 of its classes give .745 to .750
            "iemocap": "accuracy .7547 ± .0022, f1_weighted .7684 ± .0045 (its F1 by class give .745 to .750)",
            "meld": "accuracy .6925 ± .0037, f1_weighted .6897 ± .0041",
        }
    )
    ablations: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {  # Table 4
            "w/o bi-modal joint": {"bimodal": False},
            "w/o tri-modal joint": {"trimodal": False},
            "w/o gate": {"gated": False},
            "pooled after the gate": {"pool": "union"},  # X23
            "without masks": {"mask": "none"},  # X3: as in the paper
            "T": {"modalities": ["text"]},
            "A": {"modalities": ["audio"]},
            "V": {"modalities": ["visual"]},
            "T + A": {"modalities": ["text", "audio"]},
            "T + V": {"modalities": ["text", "visual"]},
            "A + V": {"modalities": ["audio", "visual"]},
        }
    )

    def __init__(self, config: HJCAGConfig, inputs: Mapping[str, Input], outputs: int) -> None:
        super().__init__(config, inputs, outputs)
        self.modalities = tuple(self.inputs)
        self.length = one_length(inputs)
        reduced = self._reduce_to({m: given.dim for m, given in self.inputs.items()})
        self.project = nn.ModuleDict({m: nn.Linear(d, config.d_model) for m, d in reduced.items()})  # H5
        self.embed_drop = nn.Dropout(config.embed_dropout)
        self._add_levels(dict.fromkeys(reduced, config.d_model) if config.space == "unified" else reduced)
        self._add_gate(config.d_model)
        head = nn.Linear(config.d_model, outputs)
        self.classify = nn.Sequential(nn.LayerNorm(config.d_model), nn.Dropout(config.dropout), head)  # H12

    def _reduce_to(self, dims: dict[str, int]) -> dict[str, int]:
        wanted = {"audio": self.config.audio_dim, "visual": self.config.visual_dim}  # H8, H9
        reduced = {m: wanted.get(m) or d for m, d in dims.items()}
        self.reduce = nn.ModuleDict({m: nn.Linear(d, reduced[m]) for m, d in dims.items() if reduced[m] != d})
        return reduced

    def _add_levels(self, dims: Mapping[str, int]) -> None:
        pairs: list[Joint] = list(combinations(self.modalities, 2)) or [self.modalities]
        joints = ([pairs] if self.config.bimodal else []) + ([[self.modalities]] if self.config.trimodal else [])
        self.levels = nn.ModuleList(
            _JointAttention(dims, joint, self.length, self.config.layer_norm) for joint in joints
        )

    def _add_gate(self, d: int) -> None:
        gates = d if self.config.gate == "channel" else 1
        weighted = self.modalities if self.config.gated and len(self.modalities) > 1 else ()
        self.gate = nn.ModuleDict({m: nn.Linear(d, gates, bias=False) for m in weighted})  # W_t, W_a, W_v

    def reductions(self) -> dict[str, nn.Module]:
        """The trainable reductions, modality -> module [B, T, D] -> [B, T, d], of standardised features (X8).

        Only audio and visual have one, if the configuration narrows them.
        """
        return dict(self.reduce.items())

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Prediction:
        """values: modality -> [B, L or 1, D], masks: modality -> bool [B, L or 1] -> logits [B, outputs], gates, maps
        of the pairs.

        Raises ValueError if a modality has another number of steps than L.
        """
        x, masks = self._enter(values, masks)
        maps = self.levels[0].maps(x, masks) if self.maps and self.config.bimodal else None  # type: ignore[operator]
        for level in self.levels:
            x = level(x, masks)
        if self.config.space == "native":
            x = {m: self.project[m](x[m].mT).mT for m in self.modalities}  # H5; the gate is 0 where m is invalid
        if self.config.pool == "own":  # X23: then the gate and the mean below have one step
            x = {m: masked_mean(x[m].mT, masks[m]).unsqueeze(2) for m in self.modalities}  # [B, d, 1]
            masks = {m: masks[m].any(dim=1, keepdim=True) for m in self.modalities}  # [B, 1]
        stacked = torch.stack([x[m] for m in self.modalities], dim=1)  # [B, M, d, L]
        g = self._weigh(x, torch.stack([masks[m] for m in self.modalities], dim=1))
        union = _union(masks.values())
        pooled = masked_mean((stacked * g).sum(dim=1).mT, union)  # (18), then the mean over L (H12): [B, d]
        shares = masked_mean(g.mean(dim=2).mT, union).detach()  # [B, M, L] -> [B, L, M] -> [B, M]
        gates = dict(zip(self.modalities, shares.unbind(dim=1), strict=True))
        return Prediction(self.classify(pooled), gates=gates, attention=maps or None)

    def _enter(
        self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        x: dict[str, Tensor] = {}
        steps: dict[str, Tensor] = {}
        for m, v in self.standardise({m: values[m] for m in self.modalities}, masks).items():
            v = self.reduce[m](v) if m in self.reduce else v
            v = self.project[m](v) if self.config.space == "unified" else v
            v, mask = expand(self.embed_drop(v), masks[m], self.length)  # [B, L, d], [B, L]
            if mask.shape[1] != self.length:
                raise ValueError(f"{m}: {mask.shape[1]} steps, but the weights of this model mix {self.length}")
            steps[m] = mask if self.config.mask == "strict" else torch.ones_like(mask)
            x[m] = zero_invalid(v, steps[m]).mT  # X [B, d, L]
        return x, steps

    def _weigh(self, x: Mapping[str, Tensor], valid: Tensor) -> Tensor:
        """(17): x modality -> [B, d, L], valid [B, M, L] -> [B, M, d or 1, L], 0 where the modality is invalid."""
        valid = valid.unsqueeze(2)  # [B, M, 1, L]
        if not self.gate:  # equal logits: the unweighted mean of what is valid, 1 for a single modality
            return masked_softmax(torch.zeros_like(valid, dtype=x[self.modalities[0]].dtype), valid, dim=1)
        logits = torch.stack([self.gate[m](x[m].mT).mT for m in self.modalities], dim=1)
        return masked_softmax(logits, valid, dim=1)


def _name(joint: Joint) -> str:
    return "+".join(joint)


def _matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(rows, columns)))


def _union(masks: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(masks)).any(dim=0)
