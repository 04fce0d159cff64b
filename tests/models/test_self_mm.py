"""Self-MM: its tasks, and the labels that it derives, held against the equations written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.self_mm import SelfMM, SelfMMConfig, derive
from pipeline.model import Input
from pipeline.objective import Objective
from pipeline.stage import Target
from pipeline.train.train_fold import train_fold
from tests.models.baseline_cases import build, linear, lstm, masked
from tests.models.mulg_cases import DIFFERENT, DIMS, LENGTHS, VALID, features
from tests.tiny import IDS, die, epochs, request, weights, write_view

NAMES = ("text", "audio", "visual")
NUMBER = Target("regression", ())
ROWS, LABELS = torch.tensor([4, 0, 2]), torch.tensor([2.0, -1.0, 0.5])


def begun() -> SelfMM:
    torch.manual_seed(0)
    model = SelfMM(SelfMMConfig(dropout=0.0), {m: Input(DIMS[m], LENGTHS[m]) for m in NAMES}, 1)
    model.begin(5, ROWS, LABELS, NUMBER)
    return model


def lengths(x: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bd,bd->b", x, x).sqrt()


def test_each_task_reads_the_last_states_of_its_modalities_through_three_layers() -> None:
    model, x = build("self_mm"), masked(features(), DIFFERENT)
    last = {m: lstm(model.read[m].cell, x[m], DIFFERENT[m]) for m in NAMES}
    prediction = model(features(), DIFFERENT)
    for name, task, vector in [("", model.fuse, torch.cat(list(last.values()), 1))] + [
        (m, model.tasks[m], last[m]) for m in NAMES
    ]:
        state = linear(task.first[1], vector).relu()
        said = linear(task.last[2], linear(task.last[0], state).relu())
        torch.testing.assert_close(prediction.parts[f"said_{name}"] if name else prediction.logits, said)


def test_in_the_first_epoch_the_modalities_have_the_label_of_the_row_and_no_weight() -> None:
    model = begun()
    prediction = model(features(), VALID)
    loss = model.loss(prediction, LABELS, ROWS, Objective(NUMBER))
    torch.testing.assert_close(loss, Objective(NUMBER)(prediction.logits, LABELS))
    for m in NAMES:
        torch.testing.assert_close(model.get_buffer(f"label_{m}")[ROWS], LABELS)


def test_from_the_second_epoch_on_labels_follow_the_distances_to_the_centres_and_weigh_the_tasks() -> None:
    model, objective = begun(), Objective(NUMBER)
    parts = model(features(), VALID).parts
    for _ in range(2):
        model.loss(model(features(), VALID), LABELS, ROWS, objective)
    near = {}
    for name in ("fusion", *NAMES):
        state = parts[f"state_{name}"]
        positive, negative = state[LABELS > 0].mean(0), state[LABELS < 0].mean(0)
        near[name] = (lengths(state - negative) - lengths(state - positive)) / lengths(state - positive)
    extra = 0.0
    for m in NAMES:
        share = near[m] / near["fusion"]
        new = (0.5 * share * LABELS + 0.5 * (LABELS + near[m] - near["fusion"])).clamp(-3, 3)
        expected = LABELS / 3 + 2 / 3 * new  # the second epoch: (n - 1) / (n + 1) and 2 / (n + 1)
        torch.testing.assert_close(model.get_buffer(f"label_{m}")[ROWS], expected, rtol=1e-4, atol=1e-4)
        said = model(features(), VALID).parts[f"said_{m}"].squeeze(1)
        extra = extra + ((expected - LABELS).abs().tanh() * (said - expected).abs()).mean()
    prediction = model(features(), VALID)
    loss = model.loss(prediction, LABELS, ROWS, objective)
    torch.testing.assert_close(loss, objective(prediction.logits, LABELS) + extra, rtol=1e-4, atol=1e-4)
    assert extra > 0.01


def test_a_modality_as_near_to_its_centres_as_all_together_has_the_label_of_the_row() -> None:
    label, near = torch.tensor([2.0, -1.0]), torch.tensor([0.7, -0.4])
    torch.testing.assert_close(derive(label, near, near), label)


def test_rows_that_lack_a_modality_keep_its_label_and_train_nothing_of_it() -> None:
    model = begun()
    for _ in range(3):
        model.loss(model(features(), DIFFERENT), LABELS, ROWS, Objective(NUMBER))
    absent = ~DIFFERENT["audio"].any(1)
    assert absent.any() and torch.equal(model.get_buffer("label_audio")[ROWS][absent], LABELS[absent])


def test_labels_without_one_of_the_signs_stay_what_they_are() -> None:
    model = begun()
    model.begin(5, ROWS, LABELS.abs(), NUMBER)
    for _ in range(3):
        loss = model.loss(model(features(), VALID), LABELS.abs(), ROWS, Objective(NUMBER))
    assert loss.isfinite() and torch.equal(model.get_buffer("label_text")[ROWS], LABELS.abs())


@pytest.mark.parametrize("target", [Target("multiclass", ("a", "b")), Target("regression", ("valence", "arousal"))])
def test_it_learns_no_classes_and_not_several_numbers(target: Target) -> None:
    assert not SelfMM.learns(target) and SelfMM.learns(NUMBER)


def test_a_killed_fold_resumes_with_the_labels_that_were_derived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, numbers = write_view(tmp_path / "view"), {name: 2.0 * (i % 3 - 1) for i, name in enumerate(IDS)}
    given = {"model": "self_mm", "labels": numbers, "target": NUMBER, "training": {"epochs": 5, "learning_rate": 0.01}}
    whole = train_fold(request(columns, tmp_path / "whole", **given))
    assert whole.metrics["mae"] < whole.metrics["majority_mae"]
    killed = request(columns, tmp_path / "killed", **given)
    die(monkeypatch, killed, 3)
    train_fold(killed)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    assert epochs(tmp_path / "killed") == epochs(tmp_path / "whole")
