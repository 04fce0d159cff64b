"""`affectory sweep`: every trial is a run, validation chooses, and the winner is a recipe that repeats its score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.cli.test_commands import affectory, options  # noqa: F401 - a fixture
from tests.pipeline.cli.test_compare import trained_when
from tests.small import RECIPE, Small

RENAMED = "# kept as it is\n" + RECIPE.replace("[features.sound]", "[features.mulg]") + "[train.gmu]\nepochs = 1\n"
OVER = ("--over", "train.gmu.hidden=2,4", "--over", "train.gmu.learning_rate=1e-3..1e-1", "--trials", "3")


@pytest.fixture
def swept(extracted: Small, affectory: Any) -> tuple[Small, dict[str, Any]]:  # noqa: F811
    extracted.recipe = RENAMED
    code, out, err = affectory("sweep", *given(extracted, *OVER))
    assert code == 0, err
    return extracted, json.loads(out)


def given(small: Small, *more: str) -> tuple[str, ...]:
    return options(small, "--model", "gmu", "--workers", "0", "--json", *more)


def test_trials_are_in_the_order_of_validation_and_kept_as_runs_that_the_report_does_not_list(swept):
    small, answer = swept
    valid = [float(row["valid"]) for row in answer["trials"]]
    assert len(valid) == 3 and valid == sorted(valid, reverse=True)
    runs = small.home / "runs" / small.name
    assert {row["run"] for row in answer["trials"]} == {path.parent.name for path in runs.glob("*/run.json")}
    assert len(list(runs.glob("*.json"))) == 1, "only the winner is the newest run of its name"
    [winner] = answer["runs"]
    assert Path(winner).name == answer["trials"][0]["run"]


def test_the_winners_recipe_gives_its_score_again_and_extracts_nothing(swept, affectory):  # noqa: F811
    small, answer = swept
    recipe = Path(answer["recipe"])
    assert recipe.name == small.path.name and recipe.read_text().startswith("# kept as it is\n")
    shards = sorted((small.home / "cache/actions").rglob("*.json"))
    code, out, err = affectory("train", "--dataset", str(recipe), "--model", "gmu", "--workers", "0", "--json")
    assert code == 0, err
    [run] = answer["runs"]
    assert json.loads(out)["metrics"] == json.loads((Path(run) / "run.json").read_text())["metrics"]
    assert sorted((small.home / "cache/actions").rglob("*.json")) == shards


def test_a_larger_sweep_trains_only_what_is_new(swept, affectory):  # noqa: F811
    small, answer = swept
    before = trained_when(small)
    code, out, err = affectory("sweep", *given(small, *OVER[:-1], "5"))
    assert code == 0, err
    after = trained_when(small)
    assert len(after) == 5 and before.items() <= after.items()
    assert {row["run"] for row in answer["trials"]} < {row["run"] for row in json.loads(out)["trials"]}


def test_settings_of_features_are_searched_too_and_are_in_the_winners_recipe(extracted: Small, affectory):  # noqa: F811
    extracted.recipe = RENAMED
    over = ("--over", "features.mulg.audio.n_mfcc=4,5", "--seeds", "2")
    code, out, err = affectory("sweep", *given(extracted, *over))
    assert code == 0, err
    answer = json.loads(out)
    assert [set(row) for row in answer["trials"]] == [{"features.mulg.audio.n_mfcc", "valid", "run"}] * 2
    assert all("±" in row["valid"] for row in answer["trials"]) and len(answer["runs"]) == 2
    best = answer["winner"]["features.mulg.audio.n_mfcc"]
    assert f"n_mfcc = {best}," in Path(answer["recipe"]).read_text()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--over", "train.gmu.hiden=2"), "gmu.hiden: no such setting: did you mean hidden"),
        (("--over", "train.mulg.hidden=2"), "--over train.mulg.hidden: gmu does not read it"),
        (("--over", "dataset.labels=six,four"), "only settings of [train.*] and [features.*] can be searched"),
        (("--over", "train.gmu.hidden=2", "--score", "acuracy"), "--score acuracy: did you mean accuracy"),
        (("--over", "train.gmu.dropout=0.1..0.5"), "say how many --trials to draw"),
    ],
)
def test_what_cannot_be_swept_is_refused(extracted: Small, affectory, more, message):  # noqa: F811
    extracted.recipe = RENAMED
    code, _, err = affectory("sweep", *given(extracted, *more))
    assert code == 2 and message in " ".join(err.split())
