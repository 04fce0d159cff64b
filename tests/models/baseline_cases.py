"""What the tests of the compared models build them on: three small modalities with lengths of their own, and masks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.corpus.recipe_training import model_class
from pipeline.model import Input
from tests.models.mulg_cases import DIMS, LENGTHS, Tensors

EQUAL = dict.fromkeys(LENGTHS, 4)
OUTPUTS = 2


def build(name: str, modalities: str = "text audio visual", equal: bool = False, **options: Any) -> Any:
    """A model of random weights, biases too, in evaluation; `equal`: all modalities have four steps."""
    torch.manual_seed(0)
    kind = model_class(name)
    lengths = EQUAL if equal else LENGTHS
    inputs = {m: Input(DIMS[m], lengths[m]) for m in modalities.split()}
    return kind(kind.Config(**options), inputs, OUTPUTS).eval()


def one_step(cell: Any, x: Tensor, h: Tensor, c: Tensor, layer: str = "") -> tuple[Tensor, Tensor]:
    """One step of an LSTM, written out: its hidden and its cell state, each [h]."""
    w_x, w_h, b_x, b_h = (getattr(cell, f"{part}{layer}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def lstm(cell: Any, x: Tensor, mask: Tensor) -> Tensor:
    """The last valid state of the layers of an LSTM, written out: x [b, t, d], mask [b, t] -> [b, h]."""
    rows = []
    for row, valid in zip(x, mask, strict=True):
        steps = list(row[valid])
        for k in range(cell.num_layers):
            h = c = x.new_zeros(cell.hidden_size)
            states = []
            for step in steps:
                h, c = one_step(cell, step, h, c, f"_l{k}")
                states.append(h)
            steps = states
        rows.append(steps[-1] if steps else x.new_zeros(cell.hidden_size))
    return torch.stack(rows)


def linear(layer: Any, x: Tensor) -> Tensor:
    """A linear layer as an einsum."""
    return torch.einsum("od,bd->bo", layer.weight, x) + layer.bias


def mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean over valid steps, 0 over none: [b, t, d] -> [b, d]."""
    return torch.einsum("btd,bt->bd", x, mask.float()) / mask.sum(1, keepdim=True).clamp(min=1)


def masked(values: Tensors, masks: Tensors) -> Tensors:
    """The values with 0 at invalid steps, as a standardiser without statistics gives them."""
    return {m: x * masks[m].unsqueeze(-1) for m, x in values.items()}
