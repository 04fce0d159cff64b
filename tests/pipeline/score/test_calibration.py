"""Calibration of predictions, beside cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.score.calibration import calibration, confidence
from pipeline.stage import Target

CLASSES = Target("multiclass", ("a", "b"))
MANY = Target("multilabel", ("a", "b"))


def _logits(sure: float) -> list[float]:
    """Logits of two classes, of which the first has this probability."""
    return [float(np.log(sure)), float(np.log(1 - sure))]


def test_the_error_is_the_gap_of_each_bin_weighted_by_its_predictions() -> None:
    logits = np.array([_logits(0.62), _logits(0.64), _logits(0.97), _logits(0.97)])
    found = calibration(logits, [0, 1, 0, 0], CLASSES)
    np.testing.assert_allclose(found.confidence, [0.63, 0.97])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0])
    assert found.predictions.tolist() == [2, 2]
    assert found.error == pytest.approx(0.5 * 0.13 + 0.5 * 0.03)


def test_a_certain_prediction_is_in_the_last_bin() -> None:
    found = calibration(np.array([[0.0, 1000.0]]), [1], CLASSES)
    assert (found.confidence, found.accuracy, found.error) == ([1.0], [1.0], 0.0)


def test_each_head_of_a_multilabel_row_is_a_prediction() -> None:
    logits = np.array([[_logits(0.7), _logits(0.9)]])  # [1, 2, 2]: no head is predicted
    found = calibration(logits.reshape(1, -1), [(0, 1)], MANY)
    np.testing.assert_allclose(confidence(logits, MANY), [[0.7, 0.9]])
    assert found.accuracy.tolist() == [1.0, 0.0] and found.predictions.tolist() == [1, 1]
