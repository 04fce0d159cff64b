"""The models that `tests.bench.training` compares with are the same models, written without our layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.training import ASKED, SIZES, Rivals


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_a_model_has_the_logits_of_the_one_that_is_written_by_hand(name: str, tmp_path: Path) -> None:
    assert Rivals.of(name, tmp_path, rows=6, valid=2).differ() <= ASKED
