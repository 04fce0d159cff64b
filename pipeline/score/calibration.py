"""Calibration: how often predictions of a given confidence are right.

Shapes: N rows, H heads of a multilabel target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.reader import Label
from pipeline.score.metrics import Array, decide
from pipeline.stage import Target

BINS = 15
"""Bins of equal width from 0 to 1, as in Guo et al. 2017, On Calibration of Modern Neural Networks, section 4."""


class Calibration(NamedTuple):
    """Of each bin that holds a prediction, [bins]: mean confidence, share that is right, number of predictions."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    predictions: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The expected calibration error (Guo et al. 2017, equation 3): the mean gap over predictions."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.predictions))


def calibration(logits: Array, labels: Sequence[Label], target: Target) -> Calibration:
    """Calibration of logits [N, outputs] against N labels, N at least 1; each head of a multilabel row is a prediction.

    The confidence is the largest probability, which a regression does not have.
    """
    sure = confidence(logits, target).ravel()
    right = (decide(logits, target) == np.asarray(labels)).ravel()
    bins = np.clip(np.ceil(sure * BINS).astype(int) - 1, 0, BINS - 1)  # a bin includes its upper end
    count = np.bincount(bins, minlength=BINS)
    sums = (np.bincount(bins, of, BINS)[count > 0] for of in (sure, right))
    mean, share = (total / count[count > 0] for total in sums)
    return Calibration(mean, share, count[count > 0])


def confidence(logits: Array, target: Target) -> NDArray[np.float64]:
    """The probability of what is predicted: [N], or [N, H] for a multilabel target."""
    shape = (len(logits), len(target.classes), 2) if target.task == "multilabel" else (len(logits), -1)
    probabilities: NDArray[np.float64] = softmax(np.asarray(logits, float).reshape(shape), axis=-1)
    return np.asarray(probabilities.max(axis=-1))
