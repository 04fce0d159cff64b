"""The chart of a model's ablations, from runs that were made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.ablation_chart import ablation_chart
from pipeline.report.model_details import calibration_curve
from pipeline.report.models_section import Trained
from pipeline.score import predictions
from pipeline.score.predictions import Predictions
from pipeline.stage import Target
from tests.pages import answer, fold

TARGET = Target("multiclass", ("a", "b"))
TRUTH = [0, 1, 0, 1]
DIALOGUES = {f"u{i}": f"d{i // 2}" for i in range(4)}


def _run(folder: Path, guess: Sequence[int], changes: Sequence[str] = (), seed: int = 0, **more: Any) -> Trained:
    """A run of HJCAG that predicts `guess` for the four test rows, and the same for validation."""
    logits = np.eye(2)[list(guess)]
    folder = folder / f"{seed}{'-'.join(changes)}"
    path = folder / "one" / predictions.FILE
    path.parent.mkdir(parents=True)
    rows = Predictions(list(DIALOGUES), logits, TRUTH, {})
    predictions.write(path, "one", TARGET, {"valid": rows, "test": rows})
    made = fold("one", TARGET, logits, TRUTH, [0, 1]) | {"predictions": str(path)}
    told = answer("hjcag", [made]) | {"changes": list(changes), "seed": seed}
    return Trained(told, folder, 0.0, "hjcag", None, **{"stale": (), **more})


def test_an_ablation_is_compared_with_the_whole_model_by_row_over_the_seeds_of_both(tmp_path: Path) -> None:
    whole = [_run(tmp_path, guess, seed=seed) for seed, guess in enumerate(([0, 1, 0, 1], [0, 1, 0, 0], [1, 0, 1, 0]))]
    without = [_run(tmp_path, [0, 0, 0, 1], ["gated=false"], seed) for seed in (0, 1)]  # not seed 2
    made = ablation_chart(whole[0], [*whole, *without], DIALOGUES)
    assert made is not None
    assert "w/o gate -0.125 from -0.500 to +0.250" in made.alt  # by dialogue: -1/2 and +1/4
    assert "w/o bi-modal joint" not in made.svg


def test_a_run_that_is_stale_or_of_another_setting_is_no_ablation(tmp_path: Path) -> None:
    whole = _run(tmp_path, TRUTH)
    stale = _run(tmp_path, [0, 0, 0, 0], ["gated=false"], stale=("settings",))
    other = _run(tmp_path, [0, 0, 0, 0], ["dropout=0.5"])
    assert ablation_chart(whole, [whole, stale, other], DIALOGUES) is None


def test_ablations_stand_once_beside_the_first_seed_of_the_whole_model(tmp_path: Path) -> None:
    first, second = _run(tmp_path, TRUTH), _run(tmp_path, TRUTH, seed=1)
    without = _run(tmp_path, [0, 0, 0, 0], ["gated=false"])
    runs = [first, second, without]
    assert [ablation_chart(run, runs, DIALOGUES) is not None for run in runs] == [True, False, False]


def test_the_calibration_of_a_run_has_validation_and_test(tmp_path: Path) -> None:
    made = calibration_curve(_run(tmp_path, [0, 0, 0, 1]))
    assert made is not None
    assert "validation: 75% of 4 at 73%. test: 75% of 4 at 73%." in made.alt  # softmax of (1, 0)


def test_a_run_whose_predictions_are_gone_has_no_calibration(tmp_path: Path) -> None:
    run = _run(tmp_path, TRUTH)
    run.predictions[0].unlink()
    assert calibration_curve(run) is None
