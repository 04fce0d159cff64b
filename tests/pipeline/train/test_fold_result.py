"""A fold counts as finished only if everything that it left can be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.train.fold_result import RESULT, read_result
from pipeline.train.train_fold import train_fold
from tests.tiny import weights


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"null", b"\xff\x00", b'{"model": "tiny"}', b'{"unknown": 1}'])
def test_a_damaged_result_is_no_result_and_the_fold_is_trained_again(request_of, damaged):
    request = request_of(training={"epochs": 1})
    first = train_fold(request)
    (request.run / RESULT).write_bytes(damaged)
    assert read_result(request.run) is None
    again = train_fold(request)
    assert again.metrics == first.metrics and read_result(request.run) == again


@pytest.mark.parametrize("name", ["predictions.parquet", "model.safetensors", "model.json"])
@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
def test_a_fold_whose_model_or_predictions_are_gone_or_damaged_is_trained_again(request_of, name, damage):
    request = request_of(training={"epochs": 1})
    first, path = train_fold(request), request.run / name
    whole, expected = weights(request.run), path.read_bytes()
    damage(path)
    assert read_result(request.run) is None
    assert train_fold(request).metrics == first.metrics
    assert path.read_bytes() == expected and weights(request.run) == whole
