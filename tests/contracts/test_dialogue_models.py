"""What every model of conversations does with the turns of its batch: rules for each `DialogueModel` of `models/`."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import Batch, Turns
from tests.contracts.model_cases import EACH_DIALOGUE_MODEL, B, build, close, features, masks, picked, predict, talk

FIRST, SECOND = [0, 1, 2], [3, 4]
"""The rows of the two dialogues of `talk`."""


@EACH_DIALOGUE_MODEL
def test_another_dialogue_of_the_batch_changes_nothing(name: str) -> None:
    model, values, steps = build(name), features(), masks(missing="audio")
    together = predict(model, values, steps).logits
    for rows, turns in ((FIRST, [[2, 0, 1]]), (SECOND, [[0, 1]])):
        alone = Turns(torch.tensor(turns), talk().speakers[rows])
        close(predict(model, picked(values, rows), picked(steps, rows), alone).logits, together[rows])


@EACH_DIALOGUE_MODEL
def test_padding_of_turns_changes_nothing(name: str) -> None:
    model, given = build(name), talk()
    wide = given._replace(turns=torch.nn.functional.pad(given.turns, (0, 3), value=-1))
    close(predict(model, features(), masks(), wide).logits, predict(model, features(), masks(), given).logits)


@EACH_DIALOGUE_MODEL
def test_the_order_of_rows_and_of_dialogues_in_the_batch_changes_nothing(name: str) -> None:
    model, given, order = build(name), talk(), torch.tensor([3, 0, 4, 1, 2])
    places = torch.cat([order.argsort(), torch.tensor([-1])])  # of each old row in the new batch; the last stays -1
    turned = Turns(places[given.turns.flip(0)], given.speakers[order])
    expected = predict(model, features(), masks(), given).logits[order]
    close(predict(model, picked(features(), order), picked(masks(), order), turned).logits, expected)


@EACH_DIALOGUE_MODEL
def test_the_last_turn_reads_those_before_it(name: str) -> None:
    model, values = build(name), features()
    before = predict(model, values, masks()).logits
    first_turn, last_turn = 2, 1
    values = {m: x.index_fill(0, torch.tensor([first_turn]), 3.0) for m, x in values.items()}
    assert not torch.allclose(predict(model, values, masks()).logits[last_turn], before[last_turn], atol=1e-6)


@EACH_DIALOGUE_MODEL
def test_a_turn_with_nothing_valid_is_finite_and_leaves_the_other_dialogue_alone(name: str) -> None:
    model, values = build(name).train(), {m: x.requires_grad_() for m, x in features().items()}
    nothing = {m: mask & (torch.arange(B) != 0).unsqueeze(1) for m, mask in masks().items()}
    logits = predict(model, values, nothing).logits
    logits.square().sum().backward()
    assert logits.isfinite().all() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    calm = build(name)
    close(predict(calm, values, nothing).logits[SECOND], predict(calm, values, masks()).logits[SECOND])


@EACH_DIALOGUE_MODEL
def test_a_batch_without_turns_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="has no turns"):
        build(name).predict(Batch(torch.arange(B), features(), masks(), torch.zeros(B)))
