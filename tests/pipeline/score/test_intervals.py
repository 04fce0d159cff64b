"""Intervals over seeds and over dialogues say what was drawn anew, and how much it moves a score."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.score.intervals import by_row, over_dialogues, over_seeds, score_by_row
from pipeline.score.metrics import evaluate
from pipeline.stage import Target

THREE = Target("multiclass", ("a", "b", "c"))
HEADS = Target("multilabel", ("a", "b"))
NUMBER = Target("regression", ())
NUMBERS = Target("regression", ("valence", "arousal"))


def test_an_interval_over_seeds_is_students_and_a_single_seed_has_none() -> None:
    found = over_seeds([0.6, 0.7, 0.8])
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # the 97.5 % point of t with 2 degrees of freedom
    assert found == pytest.approx((0.7, 0.7 - half, 0.7 + half))
    assert over_seeds([0.5]).mean == 0.5 and np.isnan(over_seeds([0.5])[1:]).all()


def test_rows_of_one_dialogue_are_drawn_together() -> None:
    scores = np.repeat(np.arange(20) % 2, 10).astype(float)  # rows of a dialogue are all right or all wrong
    together = over_dialogues(scores, np.repeat(np.arange(20), 10).astype(str))
    apart = over_dialogues(scores, np.arange(200).astype(str))
    assert together.mean == apart.mean == 0.5
    assert together.high - together.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(20), rel=0.1)
    assert apart.high - apart.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(200), rel=0.1)


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 2, 300).astype(float)
    other = np.where(np.arange(300) % 10 == 0, 1 - one, one)
    names = np.arange(300).astype(str)
    paired, alone = over_dialogues(one - other, names), over_dialogues(one, names)
    assert paired.high - paired.low < alone.high - alone.low


@pytest.mark.parametrize(
    ("target", "labels"),
    [(THREE, [0, 1, 2, 1]), (HEADS, [(0, 1), (1, 1), (0, 0), (1, 0)]), (NUMBER, [1.0, -2.0, 0.5, 0.0])]
    + [(NUMBERS, [(1.0, 2.0), (0.0, 1.0), (2.0, 2.0), (1.0, 0.0)])],
)
def test_scores_by_row_have_the_mean_that_is_reported(target, labels) -> None:
    logits = np.random.default_rng(0).normal(size=(4, target.outputs))
    reported = evaluate(logits, labels, target)[score_by_row(target)]
    assert by_row(logits, labels, target).mean() == pytest.approx(reported)
