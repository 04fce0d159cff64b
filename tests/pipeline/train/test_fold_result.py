"""A fold counts as finished only if everything that it left can be read."""

from __future__ import annotations

import pytest

from pipeline.train.fold_result import RESULT, read_result
from pipeline.train.train_fold import train_fold
from tests.tiny import weights


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"null", b"\xff\x00", b'{"model": "tiny"}', b'{"unknown": 1}'])
def test_a_damaged_result_is_no_result_and_the_fold_is_trained_again(request_of, damaged):
    request = request_of(training={"epochs": 1})
    first = train_fold(request)
    (request.run / RESULT).write_bytes(damaged)
    assert read_result(request.run) is None
    again = train_fold(request)
    assert again.metrics == first.metrics and read_result(request.run) == again


@pytest.mark.parametrize("name", ["predictions.parquet", "model.safetensors", "model.json"])
def test_a_fold_whose_model_or_predictions_were_removed_is_trained_again(request_of, name):
    request = request_of(training={"epochs": 1})
    train_fold(request)
    whole = weights(request.run)
    (request.run / name).unlink()
    assert read_result(request.run) is None
    train_fold(request)
    assert (request.run / name).exists() and weights(request.run) == whole
