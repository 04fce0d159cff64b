"""The demo as its users run it: what can be learned from the synthetic corpus is learned, and nothing runs twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.demo_scores import affectory, scores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("protocol", ["official", "cv"])
def test_the_mean_of_three_seeds_of_each_model_beats_the_best_that_one_modality_can_do(
    protocol: str, tmp_path: Path
) -> None:
    for score in scores(tmp_path, protocol, 3):
        assert score.difference > 0, score.line()
        assert score.interval[0] < score.difference < score.interval[1]


def test_the_report_warns_of_an_encoder_that_knows_its_train_rows_and_crossfit_narrows_the_gap(tmp_path: Path) -> None:
    plain = ("--set", "dataset.crossfit=0")
    gaps = {}
    for name, changes in (("plain", plain), ("crossfit", ())):
        affectory(tmp_path, "extract", "--modality", "text", "--features", "hjcag", *changes)
        answer = affectory(tmp_path, "report", *changes)
        gaps[name] = answer["probes"]["hjcag/text"]["gap"]
        fires = [line for line in answer["warnings"] if "text_roberta" in line and "which crossfit avoids" in line]
        assert bool(fires) == (name == "plain"), answer["warnings"]
    assert gaps["crossfit"] < gaps["plain"]


def test_each_model_beats_every_linear_probe_and_a_second_extraction_does_nothing(tmp_path: Path) -> None:
    first = affectory(tmp_path, "extract")
    assert set(first["computed"].values()) >= {600} and not first["failed"]
    trained = affectory(tmp_path, "train", "--model", "hjcag", "--model", "mulg")["models"]
    probes = affectory(tmp_path, "report")["probes"]
    reached = {name: found["test"]["accuracy"] for name, found in probes.items()}
    assert len(reached) == 6 and min(reached.values()) >= 0.4, reached  # .167 by chance, .65 at best
    for answer in trained:
        [fold] = answer["folds"]
        assert fold["metrics"]["accuracy"] > max(reached.values()), f"{answer['model']}: {reached}"
        assert fold["metrics"]["accuracy"] <= 0.78 + 0.1
    again = affectory(tmp_path, "extract")
    assert (again["jobs"], again["calls"], again["computed"]) == (0, {}, {})
