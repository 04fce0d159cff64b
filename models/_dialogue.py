"""Parts that models of conversations share.

Shapes: C dialogues of U turns, D features of a turn, h the width of one direction.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.model import Turns

Cell = Literal["lstm", "gru"]


class Context(nn.Module):
    """A recurrence over the turns of each dialogue, in both directions or onward alone; `width` of what comes out."""

    def __init__(self, cell: Cell, dim: int, hidden: int, layers: int, dropout: float, onward: bool = False) -> None:
        super().__init__()
        kind: type[nn.GRU] | type[nn.LSTM] = nn.LSTM if cell == "lstm" else nn.GRU
        between = dropout if layers > 1 else 0.0
        self.cell = kind(dim, hidden, layers, batch_first=True, dropout=between, bidirectional=not onward)
        self.width = hidden if onward else 2 * hidden

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Maps x [C, U, D], mask [C, U] (True for the first turns) to [C, U, width], 0 after a dialogue's last turn."""
        packed = pack_padded_sequence(x, mask.sum(dim=1).cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.cell(packed)[0], batch_first=True, total_length=x.shape[1])
        return states


def speaker_numbers(turns: Turns, count: int) -> Tensor:
    """The speaker of each turn, int64 [C, U], below `count`: all further ones of a dialogue have the last number."""
    return turns.of_rows(turns.speakers).clamp(max=count - 1)
