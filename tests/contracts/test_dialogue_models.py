"""What every model of conversations does with the turns of its batch: rules for each `DialogueModel` of `models/`."""

from __future__ import annotations

import pytest
import torch

from pipeline.model import Batch, Input, Turns
from pipeline.objective import Objective
from pipeline.train.model_file import build as build_model
from tests.contracts.model_cases import (
    CLASSES,
    EACH_DIALOGUE_MODEL,
    B,
    build,
    close,
    config,
    features,
    masks,
    picked,
    predict,
    talk,
)

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


@EACH_DIALOGUE_MODEL
@pytest.mark.slow
def test_it_learns_a_label_that_only_the_turn_before_tells(name: str) -> None:
    """The first turn's label is known; without context a third of the others are right by chance, in all a half."""
    torch.manual_seed(0)
    no_dropout = {field: 0.0 for field in vars(config(name)) if field.endswith("dropout")}
    settings = type(config(name))(**{**vars(config(name)), **no_dropout})
    model, first = build_model(name, settings, {m: Input(3, 1) for m in ("text", "audio")}, 3), delayed(0)
    model.begin(len(first.rows), first.rows, first.labels, CLASSES)
    adam, objective = torch.optim.Adam(model.parameters(), 0.01), Objective(CLASSES)
    for step in range(100):
        batch = delayed(step)
        adam.zero_grad()
        model.loss(model.train().predict(batch), batch.labels, batch.rows, objective).backward()
        adam.step()
    unseen = delayed(1000)
    right = model.eval().predict(unseen).logits.argmax(dim=1) == unseen.labels
    assert right.float().mean() > 0.65


def delayed(seed: int) -> Batch:
    """Sixteen dialogues of four turns, each of which says one of three classes, noisily: the label of the next one."""
    generator = torch.Generator().manual_seed(seed)
    said = torch.randint(3, (16, 4), generator=generator)
    labels = torch.cat([torch.zeros(16, 1, dtype=torch.int64), said[:, :-1]], dim=1)
    clean = torch.nn.functional.one_hot(said, 3).float().view(64, 1, 3)
    values = {m: clean + 0.1 * torch.randn(64, 1, 3, generator=generator) for m in ("text", "audio")}
    valid = {m: torch.ones(64, 1, dtype=torch.bool) for m in values}
    turns = Turns(torch.arange(64).view(16, 4), torch.arange(4).repeat(16) % 2)
    return Batch(torch.arange(64), values, valid, labels.flatten(), turns)
