"""A text that is valid at few steps has its say in HJCAG if each modality is pooled over its own steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench.dilution import Cell, cells, lines
from tests.structure import dilution


def test_texts_have_as_many_tokens_as_asked_and_audio_is_one_vector() -> None:
    made = dilution(0, rows=300, tokens=(4, 6))
    assert {len(track.values) for track in made.tracks["text"]} == {4, 5, 6}
    assert {len(track.values) for track in made.tracks["audio"]} == {1}
    assert {len(track.values) for track in made.tracks["visual"]} == {30}


def test_a_cell_tells_the_share_of_text_of_a_model_with_a_gate() -> None:
    assert str(Cell([0.5, 0.6], [0.1, 0.2])) == "0.550 (0.15)"
    assert str(Cell([0.5], [])) == "0.500"


def test_linear_models_come_near_the_best_whatever_the_length_of_text(tmp_path: Path) -> None:
    best, *solved = cells(lines([]), (4, 14), 1, tmp_path)
    assert len(solved) == 2
    assert all(0 <= best.accuracies[0] - cell.accuracies[0] < 0.05 for cell in solved)


@pytest.mark.slow
def test_the_share_of_text_is_bounded_by_its_steps_only_if_all_modalities_are_pooled_after_the_gate(
    tmp_path: Path,
) -> None:
    _, _, _, own, union, _ = cells(lines([1e-3]), (4, 14), 1, tmp_path)
    made = dilution(0)
    steps = np.mean([len(track.values) for track in made.tracks["text"]])
    assert union.shares[0] <= steps / 30 + 0.01 < own.shares[0]
