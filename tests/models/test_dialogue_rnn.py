"""DialogueRNN, held against its recurrences written out turn by turn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models._dialogue import backwards
from tests.contracts.model_cases import DIMS, OUTPUTS, B, features, masks, talk
from tests.models.dialogue_cases import DIALOGUES, build, linear, vectors

WIDTHS = {"global_hidden": 3, "party_hidden": 4, "emotion_hidden": 2, "hidden": 5}
SPEAKERS = ([0, 1, 0], [0, 1])
"""Those of the turns of `DIALOGUES`."""


def gru(cell: Any, x: Tensor, h: Tensor) -> Tensor:
    (r_x, z_x, n_x), (r_h, z_h, n_h) = (
        (weight @ given + bias).chunk(3)
        for weight, bias, given in ((cell.weight_ih, cell.bias_ih, x), (cell.weight_hh, cell.bias_hh, h))
    )
    r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
    return (1 - z) * torch.tanh(n_x + r * n_h) + z * h


def emotions(part: Any, x: Tensor, speakers: list[int]) -> Tensor:
    """The emotion of each turn of one dialogue: x [u, d] -> [u, e]."""
    parties = {speaker: x.new_zeros(WIDTHS["party_hidden"]) for speaker in speakers}
    states, emotion, found = [], x.new_zeros(WIDTHS["emotion_hidden"]), []
    for u, speaker in zip(x, speakers, strict=True):
        context = x.new_zeros(WIDTHS["global_hidden"])
        if states:
            history = torch.stack(states)
            alpha = (history @ (part.match.weight @ u)).softmax(0)
            context = torch.einsum("t,tg->g", alpha, history)
        last = states[-1] if states else torch.zeros_like(context)
        states.append(gru(part.dialogue, torch.cat([u, parties[speaker]]), last))
        said = gru(part.party, torch.cat([u, context]), parties[speaker])
        if part.listen is not None:
            parties = {other: gru(part.listen, torch.cat([u, said]), state) for other, state in parties.items()}
        parties[speaker] = said
        emotion = gru(part.emotion, said, emotion)
        found.append(emotion)
    return torch.stack(found)


@pytest.mark.parametrize("options", [{}, {"listener": True}, {"bidirectional": False}, {"attend": False}], ids=str)
def test_states_follow_the_turns_in_both_directions(options: dict[str, Any]) -> None:
    model, x = build("dialogue_rnn", **WIDTHS, **options), torch.cat(list(vectors().values()), dim=1)
    expected = torch.empty(B, OUTPUTS)
    for rows, speakers in zip(DIALOGUES, SPEAKERS, strict=True):
        felt = emotions(model.states.onward, x[rows], speakers)
        if model.states.back is not None:
            felt = torch.cat([felt, emotions(model.states.back, x[rows].flip(0), speakers[::-1]).flip(0)], dim=1)
        if model.match is not None:
            felt = torch.einsum("uv,ve->ue", (linear(model.match, felt) @ felt.T).softmax(1), felt)
        expected[rows] = linear(model.head, linear(model.dense, felt).relu())
    torch.testing.assert_close(model(features(), masks(missing="audio"), talk()).logits, expected)


def test_a_turn_reads_the_state_of_its_own_speaker() -> None:
    model, turns = build("dialogue_rnn", **WIDTHS, bidirectional=False, attend=False), talk()
    same = turns._replace(speakers=torch.zeros_like(turns.speakers))
    two, one = (model(features(), masks(), given).logits for given in (turns, same))
    first, second = DIALOGUES[0][:2]
    assert torch.equal(two[first], one[first]) and not torch.allclose(two[second], one[second], atol=1e-4)


def test_turns_are_turned_around_within_their_dialogue() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert backwards(mask).tolist() == [[2, 1, 0], [1, 0, 2]]


def test_its_parameters_are_those_of_its_layers() -> None:
    d, g, p, e, h = sum(DIMS.values()), 3, 4, 2, 5
    cells = 3 * g * (d + p + g + 2) + 3 * p * (d + g + p + 2) + 3 * e * (p + e + 2) + d * g
    rest = 2 * e * (2 * e + 1) + h * (2 * e + 1) + OUTPUTS * (h + 1)
    assert sum(x.numel() for x in build("dialogue_rnn", **WIDTHS).parameters()) == 2 * cells + rest
