"""Parts that models share: checks of settings, broadcast inputs, softmax, attention, recurrence, residual variants.

Shapes: B rows of the batch, T steps of a sequence, S steps of a source, D features of a modality, d width of a
model, H heads. Masks are bool, True where a step is valid. Ids such as X3 and G9 are the project's decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional

Variant = Literal["pre_ln", "post_ln", "residual"]

PLAIN_ADAM: Mapping[str, float | int | bool] = MappingProxyType(
    {
        "epochs": 50,
        "batch_size": 32,
        "learning_rate": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "weight_decay": 0.0,
        "decay_factor": 1.0,
        "decay_every": 0,
        "clip_norm": 0.0,
        "unimodal_pretrain": False,
    }
)
"""Settings of the training loop for a model whose authors say nothing else."""


def check_settings(config: Any, *also: str) -> None:
    """Raises ValueError with a line for each impossible field, and each message of `also` that is not empty.

    A field declared as a Literal must hold one of its values. One declared as int (or None) must be at least 1. One
    whose name ends with `dropout` must be from 0 to below 1.
    """
    hints = get_type_hints(type(config))
    wrong = [_wrong(field.name, getattr(config, field.name), hints[field.name]) for field in fields(config)]
    if messages := [message for message in (*wrong, *also) if message]:
        raise ValueError("\n".join(messages))


def _wrong(name: str, value: Any, hint: Any) -> str:
    if get_origin(hint) is Literal and value not in get_args(hint):
        return f"{name} must be one of {get_args(hint)}, got {value!r}"
    if hint in (int, int | None) and value is not None and value < 1:
        return f"{name} must be at least 1, got {value}"
    if name.endswith("dropout") and not 0 <= value < 1:
        return f"{name} must be from 0 to below 1, got {value}"
    return ""


# --- broadcast inputs ------------------------------------------------------------------------------------------


def expand(x: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Repeats a broadcast modality, one vector that is projected before it is expanded (X6), at each of its steps.

    x [B, 1 or T, d], mask [B, 1 or T] -> [B, T, d], [B, T], where T is `length` if the mask has a single step.
    Raises ValueError if the values have neither one step nor as many as the mask.
    """
    steps = length if mask.shape[1] == 1 else mask.shape[1]
    if x.shape[1] not in (1, steps):
        raise ValueError(f"values of {x.shape[1]} steps with a mask of {steps}")
    return x.expand(-1, steps, -1), mask.expand(-1, steps)


# --- masked reductions -----------------------------------------------------------------------------------------


def masked_softmax(scores: Tensor, valid: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the valid entries along `dim`. Other entries are 0, and all are 0 if none is valid.

    `valid` broadcasts against `scores`. The lowest finite number is used for minus infinity, whose softmax would be
    nan if nothing is valid, also in the gradient.
    """
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~valid, lowest).softmax(dim).masked_fill(~valid, 0.0)


# --- attention -------------------------------------------------------------------------------------------------


def sinusoids(steps: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions [steps, width], sines then cosines, with the dtype and device of `like`."""
    half = math.ceil(width / 2)
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = torch.arange(steps, device=like.device).unsqueeze(1) * rates  # [steps, half]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of a target over a source, in heads.

    It has no biases: a bias on the keys cancels in the softmax, and with one on the output, attention over nothing
    would not be 0. Raises ValueError if the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(
        self, target: Tensor, source: Tensor, valid: Tensor, maps: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Maps target [B, T, d], source [B, S, d], valid [B, S] or [B, T, S] to [B, T, d] and, if `maps` asks for them,
        the mean weights of its heads [B, T, S].

        Without maps torch's fused attention gives the same to rounding, and keeps no weights.
        """
        q, k, v = self._split(self.query(target)), self._split(self.key(source)), self._split(self.value(source))
        seen = (valid.unsqueeze(1) if valid.dim() == 2 else valid).unsqueeze(1)  # [B, 1, 1 or T, S]
        dropout = self.dropout if self.training else 0.0
        if not maps:
            return self._joined(functional.scaled_dot_product_attention(q, k, v, seen, dropout)), None
        weights = masked_softmax(q @ k.mT / math.sqrt(q.shape[-1]), seen)  # [B, H, T, S]
        return self._joined(functional.dropout(weights, dropout).to(v.dtype) @ v), weights.mean(dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, T, d] -> [B, H, T, d / H]

    def _joined(self, attended: Tensor) -> Tensor:
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # [B, H, T, d / H] -> [B, T, d]
        return out


# --- recurrence ------------------------------------------------------------------------------------------------


def valid_first(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Moves the valid steps, which may lie anywhere, before the others, in order: x [B, T, d], mask [B, T]."""
    order = mask.int().argsort(dim=1, descending=True, stable=True)
    return x.gather(1, order.unsqueeze(-1).expand_as(x)), mask.gather(1, order)


class LastState(nn.Module):
    """A recurrent network over the valid steps alone, of which the last layer's last state is kept (G10, X11)."""

    def __init__(self, cell: type[nn.GRU] | type[nn.LSTM], dim: int, hidden: int, layers: int, dropout: float = 0.0):
        super().__init__()
        self.cell = cell(dim, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [B, T, dim], mask [B, T] to the last layer's last valid state [B, hidden], 0 where none is valid."""
        x, _ = valid_first(x, mask)
        states, _ = self.cell(x)  # [B, T, hidden], not packed: a packed backward pass is quadratic in T on a CPU
        last = (mask.sum(dim=1) - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.shape[2])
        read: Tensor = states.gather(1, last).squeeze(1)  # [B, hidden]
        return read.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


# --- residual connections --------------------------------------------------------------------------------------


class FeedForward(nn.Sequential):
    """The position-wise branch of a residual block: [..., d] -> [..., d] through `inner` rectified units."""

    def __init__(self, width: int, inner: int, relu_dropout: float, dropout: float = 0.0) -> None:
        rectified = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Dropout(relu_dropout))
        super().__init__(rectified, nn.Linear(inner, width), nn.Dropout(dropout))


class Residual(nn.Module):
    """A chain of n branches F under one of the three residual connections of MulG's Fig. 5, as G9 reads them.

    post_ln    x <- LN(x + F(x))
    pre_ln     x <- x + F(LN(x)),                       out = LN(x)
    residual   x <- LN(x + F(x)),   d <- d + F(x),      out = x + LN(d), with d = x at first (Xie et al. 2023)
    """

    def __init__(self, variant: Variant, width: int, branches: int) -> None:
        super().__init__()
        self.variant = variant
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(branches))
        self.last = nn.Identity() if variant == "post_ln" else nn.LayerNorm(width)

    def forward(self, x: Tensor, branches: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
        """Maps x [..., d] through n functions [..., d] -> [..., d]. Raises ValueError if they are not n."""
        direct = x
        for norm, branch in zip(self.norms, branches, strict=True):
            if self.variant == "pre_ln":
                x = x + branch(norm(x))
            else:
                change = branch(x)
                x, direct = norm(x + change), direct + change
        out: Tensor = x + self.last(direct) if self.variant == "residual" else self.last(x)
        return out
