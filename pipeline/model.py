"""The Model contract: what the training loop gives a model of `models/`, and what it expects back.

Shapes: B rows of the batch, T steps of a sequence, S steps of a source, D features of a modality. Masks are bool, True
where a step is valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

MODALITIES = ("text", "audio", "visual")


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


def zero_invalid(x: Tensor, mask: Tensor) -> Tensor:
    """Returns x [B, T, d] with 0 wherever mask [B, T] is False, even over nan and inf (X3)."""
    return x.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean over the valid steps, 0 over none: x [B, T or 1, d], mask [B, T] -> [B, d]."""
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    return zero_invalid(x, mask).sum(dim=1) / count
