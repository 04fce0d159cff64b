"""What the models share: inputs, standardisation, masked reductions, attention and the residual variants.

Shapes: B rows of the batch, T steps of a sequence, S steps of a source, D features of a modality, d width of a
model, H heads. Masks are bool, True where a step is valid. Ids such as X3 and G9 are the project's decisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn
from torch.nn import functional

MODALITIES = ("text", "audio", "visual")

Variant = Literal["pre_ln", "post_ln", "residual"]


@dataclass(frozen=True)
class Input:
    """What a model is told of one modality: `dim` features per step, `length` steps after alignment."""

    dim: int
    length: int


class Prediction(NamedTuple):
    """What every model returns; `gates` and `attention` are detached, for plots.

    logits [B, outputs]; gates modality -> [B], the mean share of that modality; attention "source->target" ->
    [B, T, S], T steps of the target, S of the source.
    """

    logits: Tensor
    gates: dict[str, Tensor] | None = None
    attention: dict[str, Tensor] | None = None


def in_order(modalities: Iterable[str]) -> tuple[str, ...]:
    """The given modalities as text, audio, visual. Raises ValueError for an unknown name, or none at all."""
    given = set(modalities)
    if not given or not given <= set(MODALITIES):
        raise ValueError(f"modalities must be one to three of {MODALITIES}, got {sorted(given)}")
    return tuple(modality for modality in MODALITIES if modality in given)


def check_settings(config: Any, *also: str) -> None:
    """Raises ValueError, a line for each field that can't be, then those of `also`.

    A field declared as a Literal must hold one of its values, one declared as int (or None) at least 1, and one whose
    name ends with `dropout` a share below 1.
    """
    hints = get_type_hints(type(config))
    wrong = [_wrong(field.name, getattr(config, field.name), hints[field.name]) for field in fields(config)]
    if found := [message for message in (*wrong, *also) if message]:
        raise ValueError("\n".join(found))


def _wrong(name: str, value: Any, hint: Any) -> str:
    if get_origin(hint) is Literal and value not in get_args(hint):
        return f"{name} must be one of {get_args(hint)}, got {value!r}"
    if hint in (int, int | None) and value is not None and value < 1:
        return f"{name} must be at least 1, got {value}"
    if name.endswith("dropout") and not 0 <= value < 1:
        return f"{name} must be from 0 to below 1, got {value}"
    return ""


# --- standardisation and alignment of the inputs ---------------------------------------------------------------


class Standardiser(nn.Module):
    """(x - mean) / std by dimension, with statistics of the training rows kept as buffers (X1).

    A dimension whose deviation is 0, or is rounding noise beside its mean, gives 0. The rest is clipped at ten
    deviations. A modality whose statistics were never set passes unchanged and unclipped. Invalid steps give 0
    whatever they hold.
    """

    CLIP = 10.0
    FLOOR = 1e-8  # below any deviation a feature has on purpose
    NOISE = 1e-6  # of the mean: what float32 makes of a constant

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        for modality, dim in dims.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(dim))
            self.register_buffer(f"std_{modality}", torch.ones(dim))
            self.register_buffer(f"limit_{modality}", torch.tensor(torch.inf))

    def set(self, modality: str, mean: Tensor, std: Tensor) -> None:
        """Takes the statistics of one modality, each [D]. Raises ValueError if shape or content is impossible."""
        old = self.get_buffer(f"mean_{modality}")
        if mean.shape != old.shape or std.shape != old.shape:
            raise ValueError(f"{modality}: expected [{len(old)}], got mean {[*mean.shape]} and std {[*std.shape]}")
        if not (mean.isfinite().all() and std.isfinite().all() and (std >= 0).all()):
            raise ValueError(f"{modality}: mean and std must be finite, std not negative")
        constant = std <= self.NOISE * mean.abs()
        old.copy_(mean)
        self.get_buffer(f"std_{modality}").copy_(std.clamp(min=self.FLOOR).masked_fill(constant | (std == 0), 0.0))
        self.get_buffer(f"limit_{modality}").fill_(self.CLIP)

    def forward(self, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """values: modality -> [B, T, D] (T may be 1, see `expand`), masks: modality -> [B, T] -> like values."""
        return {modality: self._one(modality, x, masks[modality]) for modality, x in values.items()}

    def _one(self, modality: str, x: Tensor, mask: Tensor) -> Tensor:
        mean, std = self.get_buffer(f"mean_{modality}"), self.get_buffer(f"std_{modality}")
        limit = self.get_buffer(f"limit_{modality}")
        if x.shape[1] == 1:  # a broadcast vector is valid if any of its steps is (X6)
            mask = mask.any(dim=1, keepdim=True)
        scale = torch.where(std > 0, 1 / std, 0.0)
        x = zero_invalid(x.to(mean.dtype), mask)  # first: 0 * nan would be nan, here and in the gradient
        return zero_invalid(((x - mean) * scale).clamp(-limit, limit), mask)


def expand(x: Tensor, mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Brings a broadcast modality (X6: one vector, projected before it is expanded) to all its steps.

    x [B, 1 or T, d], mask [B, 1 or T] -> [B, T, d], [B, T], where T is `length` if the mask has a single step.
    Raises ValueError if the values have neither one step nor as many as the mask.
    """
    steps = length if mask.shape[1] == 1 else mask.shape[1]
    if x.shape[1] not in (1, steps):
        raise ValueError(f"values of {x.shape[1]} steps with a mask of {steps}")
    return x.expand(-1, steps, -1), mask.expand(-1, steps)


# --- masked reductions -----------------------------------------------------------------------------------------


def zero_invalid(x: Tensor, mask: Tensor) -> Tensor:
    """Returns x [B, T, d] with 0 wherever mask [B, T] is False, even over nan and inf (X3)."""
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps, 0 over none: x [B, T or 1, d], mask [B, T] -> [B, d]."""
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return zero_invalid(x, mask).sum(dim=1) / count


def masked_softmax(scores: Tensor, valid: Tensor, dim: int = -1) -> Tensor:
    """Softmax over the valid entries along `dim`; others are 0, and all are 0 where none is valid.

    `valid` broadcasts against `scores`. The lowest finite score stands for minus infinity, whose softmax over
    nothing would be nan, and nan in the gradient too.
    """
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~valid, lowest).softmax(dim).masked_fill(~valid, 0.0)


# --- attention -------------------------------------------------------------------------------------------------


def sinusoids(steps: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions [steps, width], sines then cosines, of the dtype and on the device of `like`."""
    half = math.ceil(width / 2)
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = torch.arange(steps, device=like.device).unsqueeze(1) * rates  # [steps, half]
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention of a target over a source, in heads.

    No biases: a bias on the keys cancels in the softmax, and one on the output would make attention over nothing
    differ from 0. Raises ValueError if the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads, self.dropout = heads, dropout
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, target: Tensor, source: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Maps target [B, T, d], source [B, S, d], valid [B, S] to [B, T, d] and its heads' mean weights [B, T, S]."""
        q, k, v = self._split(self.query(target)), self._split(self.key(source)), self._split(self.value(source))
        scores = q @ k.mT / math.sqrt(q.shape[-1])  # [B, H, T, S]
        weights = masked_softmax(scores, valid[:, None, None, :])
        attended = functional.dropout(weights, self.dropout, self.training).to(v.dtype) @ v  # [B, H, T, d / H]
        out: Tensor = self.out(attended.transpose(1, 2).flatten(2))  # [B, T, H, d / H] -> [B, T, d]
        return out, weights.mean(dim=1)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, T, d] -> [B, H, T, d / H]


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
