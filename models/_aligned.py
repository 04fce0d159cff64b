"""What models share that read all modalities step by step: one length, and LSTM cells that go on side by side.

Shapes: B rows of the batch, L steps, D features of a modality as they arrive, h width of its state, z width of what all
modalities feed back into each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.model import Input

States = dict[str, tuple[Tensor, Tensor]]
"""The hidden and the cell state of each modality, each [B, h]."""


def one_length(inputs: Mapping[str, Input]) -> int:
    """The length of all modalities. Raises ValueError if they differ in it: one step holds all of them (H11)."""
    lengths = {m: given.length for m, given in inputs.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"all modalities must have the same length, got {lengths}")
    return next(iter(lengths.values()))


class Cells(nn.Module):
    """An LSTM cell for each modality. A step at which a modality is not valid leaves its states as they are.

    dims, hidden: modality -> D and h. beside: z, the width of a vector that every cell reads beside its own features,
    as LSTHM's cells do (Liang et al. 2018).
    """

    def __init__(self, dims: Mapping[str, int], hidden: Mapping[str, int], beside: int = 0) -> None:
        super().__init__()
        self.hidden = {m: hidden[m] for m in dims}
        self.cells = nn.ModuleDict({m: nn.LSTMCell(dim + beside, hidden[m]) for m, dim in dims.items()})

    def begin(self, like: Tensor) -> States:
        """States of 0 for as many rows as `like` has."""
        return {m: (like.new_zeros(len(like), h), like.new_zeros(len(like), h)) for m, h in self.hidden.items()}

    def forward(self, x: Mapping[str, Tensor], valid: Mapping[str, Tensor], states: States) -> States:
        """Maps one step of each modality, x [B, D + z] and valid [B], and the states before it to those after it."""
        after = {}
        for m, cell in self.cells.items():
            there = valid[m].unsqueeze(1)
            new = zip(cell(x[m], states[m]), states[m], strict=True)
            h, c = (torch.where(there, one, old) for one, old in new)
            after[m] = (h, c)
        return after
