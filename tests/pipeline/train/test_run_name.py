"""A run is named by what decides its result: an ablation, another seed or other settings never pass for the model."""

from __future__ import annotations

import json

import pytest

from pipeline.cli.train import trained
from pipeline.report import page
from pipeline.train.run_name import RunName
from tests.small import RECIPE, Small

PLAIN = RunName("hjcag", "official", (), 0)


def of(*changes: str, seed: int = 0) -> RunName:
    return RunName.of("hjcag", "hjcag", "official", changes, seed)


def test_a_run_of_the_recipe_as_it_is_has_the_name_of_its_model() -> None:
    assert of() == PLAIN and (PLAIN.text, PLAIN.stem) == ("hjcag", "hjcag-official")


def test_what_was_changed_and_another_seed_are_in_the_name() -> None:
    name = of("train.hjcag.gated=false", "features.hjcag.audio.feature_set=IS09", seed=7)
    assert name.text == "hjcag (features.hjcag.audio.feature_set=IS09, gated=false, seed 7)"
    stems = {name.stem, PLAIN.stem, of(seed=7).stem, of("train.hjcag.gated=false").stem}
    assert len(stems) == 4 and all(stem.startswith("hjcag-official") for stem in stems)


def test_a_change_that_decides_nothing_of_the_model_is_not_in_the_name_and_the_last_of_two_counts() -> None:
    assert of("train.mulg.layers=1", "features.mulg.audio.n_mfcc=20") == PLAIN
    assert of("train.hjcag.epochs=1", "train.hjcag.epochs=2").changes == ("epochs=2",)
    assert of("train.hjcag.a=1", "train.hjcag.b=2") == of("train.hjcag.b=2", "train.hjcag.a=1")


@pytest.fixture
def sound(extracted: Small) -> Small:
    """The small corpus, of which `gmu` and `majority` read the sound."""
    renamed = RECIPE.replace("[features.sound]", "[features.mulg]").replace("[features.pitch]", "[features.hjcag]")
    extracted.recipe = f"{renamed}[train.gmu]\nepochs = 1\nhidden = 4\n"
    return extracted


def test_an_ablation_and_a_seed_stand_beside_the_model_in_the_report_and_replace_nothing(sound: Small) -> None:
    for changes, seed in (((), 0), (("train.gmu.hidden=5",), 0), ((), 3)):
        trained(sound.session(changes=changes), ["gmu"], seed, extract=True)
    answer = page.write(sound.session())
    kept = [json.loads(path.read_text()) for path in (sound.home / "runs" / sound.name).glob("*.json")]
    assert {run["name"] for run in kept} == {"gmu", "gmu (hidden=5)", "gmu (seed 3)"}
    assert len(answer["models"]) == 3 and not any("train it again" in warning for warning in answer["warnings"])


def test_a_run_of_other_settings_than_the_recipe_now_gives_is_stale_and_in_no_table_of_scores(sound: Small) -> None:
    trained(sound.session(), ["gmu", "majority"], 0, extract=True)
    sound.recipe = sound.recipe.replace("hidden = 4", "hidden = 6")
    answer = page.write(sound.session())
    [warning] = [warning for warning in answer["warnings"] if "train it again" in warning]
    assert warning.startswith("gmu, official was trained on other settings")
    summary = (sound.home / "reports" / f"{sound.name}.html").read_text().partition("Summary of scores")[2]
    table = summary.partition("</table>")[0]
    assert "majority, official" in table and "gmu, official" not in table
