"""Rows of a view as turns of dialogues, and batches of whole dialogues."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.corpus.recipe import Align
from pipeline.model import Turns
from pipeline.stage import Target, Track
from pipeline.views.dataset import Dataset
from pipeline.views.dialogue_rows import DialogueRows
from pipeline.views.view import open_view, write_column

IDS = tuple("abcdefgh")
DIALOGUES = ("x", "x", "x", "y", "y", "z", "z", "z")
ONE = Target("multiclass", ("a",))
SPEAKERS = ("Ann", "Bob", "Ann", "Ann", "Cy", "", "Bob", "")
ROWS = DialogueRows.of(DIALOGUES, SPEAKERS)


def test_dialogues_are_numbered_and_speakers_within_each_of_them() -> None:
    assert ROWS.dialogue.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert ROWS.speaker.tolist() == [0, 1, 0, 0, 1, 0, 1, 0]


def test_turns_are_in_the_order_of_the_view_whatever_the_order_of_the_batch() -> None:
    turns, speakers = ROWS.turns(torch.tensor([7, 2, 0, 6, 3]))
    assert turns.tolist() == [[2, 1], [4, -1], [3, 0]]
    assert speakers.tolist() == [0, 0, 0, 1, 0]


def test_rows_go_into_their_dialogues_and_come_back_in_their_order() -> None:
    turns = ROWS.turns(torch.tensor([7, 2, 0, 6, 3]))
    x = torch.arange(10.0).reshape(5, 2)
    inside = turns.of_rows(x)
    assert inside[:, :, 0].tolist() == [[4, 2], [8, 0], [6, 0]] and turns.mask.tolist()[1] == [True, False]
    assert torch.equal(turns.to_rows(inside), x)
    assert turns.of_rows(turns.speakers).tolist() == [[0, 0], [0, 0], [1, 0]]


def test_nothing_after_the_last_turn_comes_back_or_has_a_gradient() -> None:
    turns, x = Turns(torch.tensor([[1, 0], [2, -1]]), torch.zeros(3)), torch.full((2, 2, 1), torch.nan)
    x[turns.mask] = torch.tensor([[1.0], [2.0], [3.0]])
    x.requires_grad_()
    back = turns.to_rows(x)
    back.sum().backward()
    assert back.flatten().tolist() == [2, 1, 3] and x.grad[1, 1] == 0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("view") / "text"
    rows = [(i, Track.of(np.full((1, 2), i, np.float32))) for i in range(8)]
    write_column(path, rows, 8, Align("pad", 2), 2)
    return Dataset(open_view(IDS, {"text": path}), dict.fromkeys(IDS, 0), ONE, dialogues=ROWS)


def test_batch_size_counts_dialogues_each_with_its_turns_among_the_rows(dataset: Dataset) -> None:
    first, second = dataset.batches(np.array([6, 1, 0, 4, 7]), 2)
    assert first.rows.tolist() == [0, 1, 4] and first.turns.turns.tolist() == [[0, 1], [2, -1]]
    assert second.rows.tolist() == [6, 7] and second.values["text"][:, 0, 0].tolist() == [6, 7]


def test_a_turn_has_the_mean_of_its_valid_steps_as_its_one_step(tmp_path: Path) -> None:
    tracks = [Track.of(np.arange(2.0 * (n + 1), dtype=np.float32).reshape(-1, 2)) if n else None for n in range(3)]
    write_column(tmp_path / "text", enumerate(tracks), 3, Align("pad", 4), 2)
    view = open_view(IDS[:3], {"text": tmp_path / "text"})
    found = Dataset(view, dict.fromkeys(IDS, 0), ONE, dialogues=DialogueRows.of("xxy", "AAA")).gather(torch.arange(3))
    assert found.values["text"].tolist() == [[[0, 0]], [[1, 2]], [[2, 3]]]
    assert found.masks["text"].tolist() == [[False], [True], [True]]


def test_a_seed_shuffles_dialogues_and_never_their_turns(dataset: Dataset) -> None:
    orders = set()
    for seed in range(12):
        [batch] = dataset.batches(np.arange(8), 3, seed)
        parts = [batch.rows[turns[turns >= 0]].tolist() for turns in batch.turns.turns]
        assert parts == [[0, 1, 2], [3, 4], [5, 6, 7]]  # numbered in the order of the view, wherever they are
        orders.add(tuple(batch.rows.tolist()))
    assert len(orders) == 6
    again = [[batch.rows.tolist() for batch in dataset.batches(np.arange(8), 2, 5)] for _ in range(2)]
    assert again[0] == again[1]
