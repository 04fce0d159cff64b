"""Predictions on disk: what is written of each kind of target is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.score import predictions
from pipeline.score.predictions import FILE, Predictions
from pipeline.stage import Target

VAD = Target("regression", ("valence", "arousal", "dominance"))
CASES: list[tuple[Target, list[Any], pa.DataType]] = [
    (Target("multiclass", ("a", "b")), [0, 1], pa.int64()),
    (Target("multilabel", ("a", "b")), [(0, 1), (1, 1)], pa.list_(pa.int64())),
    (Target("regression", ()), [-1.5, 2.0], pa.float64()),
    (Target("regression", ("valence",)), [1.5, 2.0], pa.float64()),
    (VAD, [(1.0, 2.5, 4.0), (5.0, 1.25, 3.0)], pa.list_(pa.float64())),
]


def logits(target: Target, rows: int) -> Any:
    return np.random.default_rng(0).standard_normal((rows, target.outputs))


@pytest.mark.parametrize(("target", "labels", "kind"), CASES)
def test_labels_and_logits_come_back_as_they_were_whatever_the_target(
    target: Target, labels: list[Any], kind: pa.DataType, tmp_path: Path
) -> None:
    part = Predictions(["u1", "u2"], logits(target, 2), labels, {"text": np.array([0.25, np.nan])})
    predictions.write(tmp_path / FILE, "one", target, {"valid": part.where(np.array([True, False])), "test": part})
    schema = pq.read_schema(tmp_path / FILE)
    assert schema.field("label").type == schema.field("prediction").type == kind
    found = predictions.read(tmp_path / FILE, "test")
    assert (found.ids, found.labels) == (part.ids, labels)
    assert np.array_equal(found.logits, part.logits)
    assert np.array_equal(found.gates["text"], part.gates["text"], equal_nan=True)


def test_the_prediction_of_several_numbers_is_the_numbers_themselves(tmp_path: Path) -> None:
    part = Predictions(["u1"], logits(VAD, 1), [(1.0, 2.0, 3.0)], {})
    predictions.write(tmp_path / FILE, "one", VAD, {"test": part})
    [row] = pq.read_table(tmp_path / FILE).to_pylist()
    assert row["prediction"] == row["logits"] == part.logits[0].tolist()


def test_gates_of_several_numbers_are_averaged_over_all_rows_alone() -> None:
    part = Predictions(["u1", "u2"], logits(VAD, 2), [(1.0, 2.0, 3.0)] * 2, {"text": np.array([0.2, 0.4])})
    assert predictions.mean_gates(part, VAD) == {"all": {"text": pytest.approx(0.3)}}
