"""HJCAG and MulG, and a loop that trains them, as one would write them from the papers in plain torch.

It imports nothing of Affectory. The names of parameters and buffers are those of Affectory's models, so that both can
have the same weights. Everything is padded to the longest row of the set and masked, features are standardised in each
step, and each directed pair of MulG makes its own scores, weights and the map that plots are drawn from.

Shapes: B rows, T steps of a target and S of a source, D features of a modality, d the width inside.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence

Tensors = Mapping[str, Tensor]


class Standardise(nn.Module):
    """(x - mean) / std, clipped at ten deviations, 0 at padding."""

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        for m, dim in dims.items():
            self.register_buffer(f"mean_{m}", torch.zeros(dim))
            self.register_buffer(f"std_{m}", torch.ones(dim))
            self.register_buffer(f"limit_{m}", torch.tensor(10.0))

    def forward(self, m: str, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, D], mask [B, T] to [B, T, D]."""
        scaled = (x - self.get_buffer(f"mean_{m}")) / self.get_buffer(f"std_{m}").clamp(min=1e-8)
        return scaled.clamp(-10, 10) * mask.unsqueeze(-1)


# --- HJCAG -----------------------------------------------------------------------------------------------------


class Level(nn.Module):
    """Joint attention over some joints of modalities: (1)-(12), or (13)-(16) if the joint is all three."""

    def __init__(self, width: int, joints: Sequence[Sequence[str]], length: int) -> None:
        super().__init__()
        self.joints = {"+".join(joint): tuple(joint) for joint in joints}
        modalities = sorted({m for joint in joints for m in joint})
        self.fc = nn.ModuleDict({name: nn.Linear(width * len(j), width * len(j)) for name, j in self.joints.items()})
        self.w_j = nn.ParameterDict(
            {
                f"{m}|{name}": nn.Parameter(torch.randn(width, width * len(j)))
                for name, j in self.joints.items()
                for m in j
            }
        )
        self.w_c = nn.ParameterDict({m: nn.Parameter(torch.randn(length, length)) for m in modalities})
        self.w_h = nn.ParameterDict({m: nn.Parameter(torch.randn(length, length)) for m in modalities})
        self.norm = nn.ModuleDict({m: nn.LayerNorm(width) for m in modalities})

    def forward(self, x: Tensors, masks: Tensors) -> dict[str, Tensor]:
        """Maps x: modality -> [B, d, T], masks: modality -> [B, T] to the same as x."""
        joined = {}
        for name, joint in self.joints.items():
            stacked = torch.cat([x[m] for m in joint], dim=1)  # [B, d_J, T]
            joined[name] = torch.relu(self.fc[name](stacked.transpose(1, 2))).transpose(1, 2)
        out = {}
        for m in x:
            c = torch.zeros(1)
            for name, joint in self.joints.items():
                if m not in joint:
                    continue
                j = joined[name]
                term = torch.tanh(x[m].transpose(1, 2) @ self.w_j[f"{m}|{name}"] @ j / math.sqrt(j.shape[1]))
                there = torch.stack([masks[n] for n in joint]).any(dim=0)
                c = c + term * masks[m].unsqueeze(2) * there.unsqueeze(1)  # [B, T, T]
            h = torch.relu(x[m] @ self.w_c[m] @ c)
            added = h @ self.w_h[m] + x[m]
            out[m] = self.norm[m](added.transpose(1, 2)).transpose(1, 2) * masks[m].unsqueeze(1)
        return out


class PlainHJCAG(nn.Module):
    """Two levels of joint attention, the mean of each modality over its steps, a gate, a classifier."""

    def __init__(self, dims: Mapping[str, int], length: int, outputs: int, width: int = 256, visual: int = 512) -> None:
        super().__init__()
        self.length, modalities = length, tuple(dims)
        self.standardise = Standardise(dims)
        self.reduce = nn.ModuleDict({"visual": nn.Linear(dims["visual"], visual)})
        self.project = nn.ModuleDict({m: nn.Linear(visual if m == "visual" else d, width) for m, d in dims.items()})
        pairs = [("text", "audio"), ("text", "visual"), ("audio", "visual")]
        self.levels = nn.ModuleList([Level(width, pairs, length), Level(width, [modalities], length)])
        self.gate = nn.ModuleDict({m: nn.Linear(width, width, bias=False) for m in modalities})
        self.classify = nn.Sequential(nn.LayerNorm(width), nn.Dropout(0.1), nn.Linear(width, outputs))

    def forward(self, values: Tensors, masks: Tensors) -> Tensor:
        """Maps values: modality -> [B, T or 1, D], masks: modality -> [B, T or 1] to logits [B, outputs]."""
        x, steps = {}, {}
        for m, v in values.items():
            v = self.standardise(m, v, masks[m])
            v = self.reduce[m](v) if m in self.reduce else v
            steps[m] = masks[m].expand(-1, self.length)
            x[m] = (self.project[m](v).expand(-1, self.length, -1) * steps[m].unsqueeze(-1)).transpose(
                1, 2
            )  # [B, d, T]
        for level in self.levels:
            x = level(x, steps)
        pooled = {m: x[m].sum(dim=2) / steps[m].sum(dim=1, keepdim=True).clamp(min=1) for m in x}
        there = torch.stack([steps[m].any(dim=1) for m in x], dim=1).unsqueeze(2)  # [B, M, 1]
        logits = torch.stack([self.gate[m](pooled[m]) for m in x], dim=1)  # [B, M, d]
        weights = logits.masked_fill(~there, -1e9).softmax(dim=1) * there
        fused = (weights * torch.stack(list(pooled.values()), dim=1)).sum(dim=1)
        out: Tensor = self.classify(fused)
        return out


# --- MulG ------------------------------------------------------------------------------------------------------


def positions(x: Tensor) -> Tensor:
    """Sinusoids [T, d] for x [B, T, d]."""
    half = math.ceil(x.shape[2] / 2)
    rates = torch.exp(torch.arange(half) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = torch.arange(x.shape[1]).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, : x.shape[2]]


class Heads(nn.Module):
    """Attention in heads, with its weights."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, target: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps target [B, T, d], source [B, S, d], mask [B, S] to [B, T, d] and the mean weights [B, T, S]."""
        q, k, v = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in (self.query(target), self.key(source), self.value(source))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])  # [B, H, T, S]
        weights = scores.masked_fill(~mask[:, None, None], -1e9).softmax(dim=3)
        mixed = functional.dropout(weights, self.dropout, self.training) @ v
        return self.out(mixed.transpose(1, 2).flatten(2)), weights.mean(dim=1)


class Pair(nn.Module):
    """One directed pair: layers of attention and feed-forward with layer norm before each."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.normalise = nn.LayerNorm(width)
        self.attend = nn.ModuleList(Heads(width, heads, dropout) for _ in range(layers))
        self.feed = nn.ModuleList(_feed(width, 4 * width, dropout, dropout) for _ in range(layers))
        self.drop = nn.Dropout(dropout)
        self.residual = _norms(width, 2 * layers)

    def forward(self, target: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Maps target [B, T, d], source [B, S, d], mask [B, S] to [B, T, d] and the last weights [B, T, S]."""
        source = self.normalise(math.sqrt(source.shape[2]) * source + positions(source))
        x = math.sqrt(target.shape[2]) * target + positions(target)
        norms = iter(self.residual["norms"])  # type: ignore[arg-type]
        for attend, feed in zip(self.attend, self.feed, strict=True):
            attended, weights = attend(next(norms)(x), source, mask)
            x = x + self.drop(attended)
            x = x + feed(next(norms)(x))
        return self.residual["last"](x), weights


class LastState(nn.Module):
    """The last state of a GRU over packed steps."""

    def __init__(self, dim: int, width: int, layers: int) -> None:
        super().__init__()
        self.cell = nn.GRU(dim, width, layers, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, dim], mask [B, T], whose valid steps come first and are at least one, to [B, width]."""
        _, last = self.cell(pack_padded_sequence(x, mask.sum(dim=1), batch_first=True, enforce_sorted=False))
        state: Tensor = last[-1]
        return state


class PlainMulG(nn.Module):
    """Six directed pairs, a GRU for each target, and a feature cascade."""

    def __init__(self, dims: Mapping[str, int], outputs: int, width: int = 50, hidden: int = 40) -> None:
        super().__init__()
        others = {target: [m for m in dims if m != target] for target in dims}
        self.sources = others
        self.standardise, self.embed_drop = Standardise(dims), nn.Dropout(0.3)
        self.refine = nn.ModuleDict({m: nn.Sequential(nn.Linear(d, width), nn.ReLU()) for m, d in dims.items()})
        self.conv = nn.ModuleDict({m: nn.Conv1d(width, hidden, kernel_size=1) for m in dims})
        pairs = [f"{source}->{target}" for target in dims for source in others[target]]
        self.attend = nn.ModuleDict({pair: Pair(hidden, 2, 4, 0.2) for pair in pairs})
        self.gru = nn.ModuleDict({m: LastState(2 * hidden, hidden, 2) for m in dims})
        self.fuse = nn.Linear(3 * hidden, hidden)
        self.residual, self.feed = _norms(hidden, 1), _feed(hidden, hidden, 0.1, 0.0)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, values: Tensors, masks: Tensors) -> Tensor:
        """Maps values: modality -> [B, T, D], masks: modality -> [B, T] to logits [B, outputs]."""
        x = {}
        for m, v in values.items():
            v = self.standardise(m, v, masks[m])
            v = self.refine[m](self.embed_drop(v) if m == "text" else v)
            x[m] = self.conv[m](v.transpose(1, 2)).transpose(1, 2)  # [B, T, d]
        states = []
        self.maps: dict[str, Tensor] = {}
        for target in x:
            attended = []
            for source in self.sources[target]:
                pair = f"{source}->{target}"
                mixed, weights = self.attend[pair](x[target], x[source], masks[source])
                attended.append(mixed)
                self.maps[pair] = weights.detach()
            states.append(self.gru[target](torch.cat(attended, dim=2), masks[target]))
        fused = self.fuse(torch.cat(states, dim=1))
        fused = fused + self.feed(self.residual["norms"][0](fused))  # type: ignore[index]
        out: Tensor = self.head(self.residual["last"](fused))
        return out


def _norms(width: int, branches: int) -> nn.ModuleDict:
    norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(branches))
    return nn.ModuleDict({"norms": norms, "last": nn.LayerNorm(width)})


def _feed(width: int, inner: int, relu_dropout: float, dropout: float) -> nn.Sequential:
    rectified = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Dropout(relu_dropout))
    return nn.Sequential(rectified, nn.Linear(inner, width), nn.Dropout(dropout))


# --- the loop --------------------------------------------------------------------------------------------------


def train(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    values: Tensors,
    masks: Tensors,
    labels: Tensor,
    valid: int,
    *,
    size: int,
    clip: float,
    epochs: int = 1,
) -> bytes:
    """Trains on all rows but the last `valid` ones, and returns the weights of the epoch that validates best."""
    count, best, kept = len(labels) - valid, math.inf, b""
    held = torch.arange(count, len(labels))
    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(count).split(size):
            optimiser.zero_grad()
            loss = functional.cross_entropy(_logits(model, values, masks, rows), labels[rows])
            torch.autograd.backward(loss)
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimiser.step()
        model.eval()
        with torch.no_grad():
            logits = torch.cat([_logits(model, values, masks, rows) for rows in held.split(size)])
        if (lost := functional.cross_entropy(logits, labels[held]).item()) < best:
            best, buffer = lost, io.BytesIO()
            torch.save(model.state_dict(), buffer)
            kept = buffer.getvalue()
    return kept


def _logits(model: nn.Module, values: Tensors, masks: Tensors, rows: Tensor) -> Tensor:
    out: Tensor = model({m: x[rows] for m, x in values.items()}, {m: x[rows] for m, x in masks.items()})
    return out
