"""Intervals of scores: over seeds by Student's t (G16), over rows by a bootstrap of whole dialogues (X18).

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.reader import Label
from pipeline.score.metrics import Array, decide
from pipeline.stage import Target

DRAWS = 5_000
"""Draws of a bootstrap."""

Scores = NDArray[np.float64]


class Interval(NamedTuple):
    """A mean, and the ends of its 95 % interval; they are nan if it has none."""

    mean: float
    low: float
    high: float


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean over seeds and its t-interval; of a single seed there is none."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Interval(mean, mean - half, mean + half)


def over_dialogues(scores: Scores, dialogues: Sequence[str]) -> Interval:
    """The mean of scores [N], and its interval if other dialogues had been drawn. Scores may be paired differences."""
    _, numbers = np.unique(np.asarray(dialogues), return_inverse=True)
    sums, counts = np.bincount(numbers, scores), np.bincount(numbers)
    even = np.full(len(sums), 1 / len(sums))
    drawn = np.random.default_rng(0).multinomial(len(sums), even, DRAWS)  # [draws, dialogues]
    low, high = np.percentile(drawn @ sums / (drawn @ counts), [2.5, 97.5])
    return Interval(float(scores.mean()), float(low), float(high))


def by_row(logits: Array, labels: Sequence[Label], target: Target) -> Scores:
    """Scores [N] whose mean is the accuracy (over heads, of a multilabel target), or the MAE of numbers."""
    guess, truth = decide(logits, target), np.asarray(labels)
    if target.task == "regression":
        errors = np.abs(guess - truth)
        return np.asarray(errors.mean(axis=1) if target.several else errors, float)
    right = np.asarray(guess == truth, float)
    return right.mean(axis=1) if target.task == "multilabel" else right


def score_by_row(target: Target) -> str:
    """The name of the score whose rows `by_row` gives."""
    return "mae" if target.task == "regression" else "accuracy"
