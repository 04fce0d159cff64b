"""bc-LSTM, held against recurrences written out turn by turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors


def lstm_step(cell: Any, end: str, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    w_x, w_h, b_x, b_h = (getattr(cell, f"{part}_l0{end}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_step(cell: Any, end: str, x: Tensor, h: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    w_x, w_h, b_x, b_h = (getattr(cell, f"{part}_l0{end}") for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    (r_x, z_x, n_x), (r_h, z_h, n_h) = (w_x @ x + b_x).chunk(3), (w_h @ h + b_h).chunk(3)
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + r * n_h) + z * h, h


def context(cell: Any, turns: Tensor) -> Tensor:
    """The states of both directions over the turns [u, d] of one dialogue: [u, 2 h], or [u, h] of one direction."""
    step = gru_step if isinstance(cell, torch.nn.GRU) else lstm_step
    ends = []
    for end in ("", "_reverse")[: 2 if cell.bidirectional else 1]:
        h = c = turns.new_zeros(cell.hidden_size)
        states = []
        for x in turns.flip(0) if end else turns:
            h, c = step(cell, end, x, h, c)
            states.append(h)
        ends.append(torch.stack(states[::-1] if end else states))
    return torch.cat(ends, dim=1)


@pytest.mark.parametrize("options", [{}, {"cell": "gru"}, {"bidirectional": False}, {"hierarchical": False}], ids=str)
def test_each_turn_reads_its_dialogue_first_by_modality_and_then_in_all_of_them(options: dict[str, Any]) -> None:
    model, x = build("bc_lstm", hidden=3, **options), vectors()
    expected = torch.empty(B, OUTPUTS)
    for rows in DIALOGUES:
        read = [context(model.read[m].cell, x[m][rows]) if options.get("hierarchical", True) else x[m][rows] for m in x]
        states = context(model.fuse.cell, torch.cat(read, dim=1))
        expected[rows] = linear(model.head, linear(model.dense, states).relu())
    torch.testing.assert_close(model(features(), masks(missing="audio"), talk()).logits, expected)


def test_its_parameters_are_those_of_its_layers() -> None:
    h = 3
    both = sum(2 * 4 * h * (d + h + 2) for d in (*DIMS.values(), 2 * h * len(DIMS)))
    model = build("bc_lstm", hidden=h)
    assert sum(p.numel() for p in model.parameters()) == both + h * (2 * h + 1) + OUTPUTS * (h + 1)
