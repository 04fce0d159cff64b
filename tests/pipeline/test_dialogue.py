"""The order of the turns in a dialogue, and the turns before an utterance."""

from __future__ import annotations

import random

import pytest

from pipeline.dialogue import Dialogues
from pipeline.utterance import Utterance

ROWS = [
    Utterance(id=f"{dialogue}{turn}", dialogue=dialogue, turn=turn, start_s=float(-turn), text=f"{dialogue} {turn}")
    for dialogue in "ab"
    for turn in (0, 1, 2, 5, 11)
]


def before(utterance: str, count: int, rows: list[Utterance] = ROWS) -> list[str]:
    return [row.id for row in Dialogues(rows).before(utterance, count)]


@pytest.mark.parametrize(
    ("utterance", "count", "ids"),
    [
        ("a0", 3, []),
        ("a2", 1, ["a1"]),
        ("a2", 3, ["a0", "a1"]),
        ("a11", 2, ["a2", "a5"]),
        ("b11", 9, ["b0", "b1", "b2", "b5"]),
        ("b5", 0, []),
    ],
)
def test_the_turns_before_an_utterance_are_the_last_of_its_dialogue_by_turn_and_not_by_time(utterance, count, ids):
    assert before(utterance, count) == ids


def test_the_order_in_which_rows_are_given_does_not_matter():
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    assert all(before(row.id, 3, shuffled) == before(row.id, 3) for row in ROWS)
    assert list(Dialogues(shuffled)) == [row.id for row in ROWS]


def test_two_utterances_of_one_turn_are_in_the_order_of_their_ids():
    rows = [Utterance(id=name, dialogue="d", turn=0) for name in ("z", "x", "y")]
    assert before("z", 5, rows) == ["x", "y"]


def test_rows_are_found_by_their_id():
    dialogues = Dialogues(ROWS)
    assert len(dialogues) == len(ROWS) and dialogues["b5"].text == "b 5" and "c0" not in dialogues
