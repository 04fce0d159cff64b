"""A model that reads dialogues is trained, resumed and scored on whole ones, whatever the order of its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.reader import Fold
from pipeline.score.predictions import FILE, read
from pipeline.train.cost import cost
from pipeline.train.model_file import load_model
from pipeline.train.train_fold import train_fold
from pipeline.views.dataset import Dataset
from pipeline.views.view import open_view
from tests.tiny import CLASSES, FOLD, IDS, LABELS, NOTHING, die, epochs, request, weights, write_view

DIALOGUES = {name: str(i // 4) for i, name in enumerate(IDS)}
SPEAKERS = {name: "AB"[i % 2] for i, name in enumerate(IDS)}
GIVEN = {"model": "bc_lstm", "config": {"hidden": 6}, "dialogues": DIALOGUES, "speakers": SPEAKERS}
SETTINGS = {"epochs": 8, "learning_rate": 0.01, "batch_size": 4}


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_view(tmp_path_factory.mktemp("view"))


@pytest.fixture(scope="module")
def trained(columns: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a trained fold."""
    run = tmp_path_factory.mktemp("run") / "whole"
    result = train_fold(request(columns, run, **GIVEN, training=SETTINGS))
    assert result.metrics["accuracy"] > result.metrics["majority_accuracy"]
    return run


def test_predictions_are_in_the_order_of_the_fold_and_each_reads_its_own_dialogue(
    columns: dict[str, Path], trained: Path, tmp_path: Path
) -> None:
    shuffled = np.random.default_rng(0).permutation(FOLD.test).tolist()
    turned = Fold("one", FOLD.train, FOLD.valid, tuple(shuffled))
    train_fold(request(columns, tmp_path, **GIVEN, training=SETTINGS, fold=turned))
    one, other = (read(run / FILE, "test") for run in (trained, tmp_path))
    assert other.ids == shuffled != one.ids
    by_id = dict(zip(one.ids, one.logits, strict=True))
    assert np.allclose(other.logits, [by_id[name] for name in shuffled], atol=1e-6)


def test_a_row_is_predicted_with_the_usable_turns_of_its_dialogue_in_the_same_part(
    columns: dict[str, Path], trained: Path
) -> None:
    asked = request(columns, trained, **GIVEN)
    dataset = Dataset(open_view(IDS, columns), LABELS, CLASSES, dialogues=asked.dialogue_rows)
    parts = [rows[dataset.usable[rows]] for rows in map(dataset.view.rows, (FOLD.valid, FOLD.test))]
    [valid], [test] = (list(dataset.batches(rows, 99)) for rows in parts)
    said = [[[IDS[batch.rows[i]] for i in turns[turns >= 0]] for turns in batch.turns.turns] for batch in (valid, test)]
    assert said[0][-1] == ["u44", "u45"] and said[1][0] == ["u46", "u47"]  # u44 to u47 are one dialogue of two parts
    assert ["u48", "u49", "u51"] in said[1] and 50 in NOTHING
    expected = load_model(trained).predict(test).logits.detach().numpy()
    kept = read(trained / FILE, "test")
    usable = [kept.logits[kept.ids.index(IDS[row])] for row in parts[1]]
    assert np.allclose(expected, usable, atol=1e-6)


def test_the_cost_of_a_model_of_dialogues_is_measured_on_dialogues(columns: dict[str, Path], trained: Path) -> None:
    found = cost(request(columns, trained, **GIVEN))
    assert found["parameters"] == sum(p.numel() for p in load_model(trained).parameters())
    assert found["mflops"] > 0 and set(found["ms"]) == {1, 64}


def test_a_killed_fold_resumes_to_the_same_weights(
    columns: dict[str, Path], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = request(columns, tmp_path, **GIVEN, training=SETTINGS)
    die(monkeypatch, killed, 3)
    train_fold(killed)
    assert weights(tmp_path) == weights(trained) and epochs(tmp_path) == epochs(trained)
