"""`affectory evaluate`: a trained run under conditions, on its own corpus and on another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.train import trained as train
from pipeline.pages.charts import Chart
from pipeline.pages.table import Sheet
from pipeline.plan.session import Session
from pipeline.report import models_section
from pipeline.report.page import write
from pipeline.report.robustness import robustness
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.small import RECIPE, Small, left_as_it_was

BOTH = RECIPE.replace("words.text", "mulg.text").replace("features.sound", "features.mulg").replace("pitch", "hjcag")
SETTINGS = "\n[train.gmu]\nepochs = 2\nhidden = 4\n"
HERE = ("--workers", "0", "--json")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def trained_once(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small corpus with `gmu`, which reads fitted text and MFCCs, and `linear`, which reads IS09 alone."""
    made = tmp_path_factory.mktemp("evaluated")
    small = Small(demo_root, made / "home", made / "small.toml", BOTH + SETTINGS)
    small.take(extracted_home)
    train(small.session(features=("mulg", "hjcag")), ["gmu", "linear"], 0, "cpu", extract=True)
    return small


@pytest.fixture
def trained(trained_once: Small, affectory: Call, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:  # noqa: F811
    """The same, with recipe and home as the training left them."""
    monkeypatch.setenv("AFFECTORY_HOME", str(trained_once.home))
    trained_once.path.write_text(trained_once.recipe)
    with left_as_it_was(trained_once.home):
        yield replace(trained_once)


@pytest.fixture
def evaluate(trained: Small, affectory: Call) -> Callable[..., dict[str, Any]]:  # noqa: F811
    """Evaluates a run, and returns the answer."""

    def call(*arguments: str) -> dict[str, Any]:
        code, out, err = affectory("evaluate", *arguments, *HERE)
        assert code == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    return call


def own_scores(small: Small, name: str) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((small.home / "runs" / small.name / f"{name}-official.json").read_text())
    return scores["metrics"]


def rows_kept(small: Small) -> int:
    return sum(len(json.loads(path.read_text())["rows"]) for path in (small.home / "cache/actions").glob("*/*.json"))


def test_with_everything_kept_the_scores_are_those_of_the_training_to_the_last_digit(trained, evaluate):
    for model in ("gmu", "linear"):
        [kept] = evaluate(model)["conditions"]
        assert kept["metrics"] == own_scores(trained, model)
        assert kept["condition"] == "everything kept" and kept["less"]["accuracy"] == [0.0, 0.0, 0.0]


def test_a_model_without_its_only_modality_scores_as_the_majority(evaluate):
    answer = evaluate("linear", "--without", "each")["conditions"]
    assert [entry["condition"] for entry in answer] == ["everything kept", "without audio"]
    pooled = answer[1]["metrics"]["pooled"]
    assert pooled["accuracy"] == pooled["majority_accuracy"]
    difference = pooled["accuracy"] - answer[0]["metrics"]["pooled"]["accuracy"]
    assert answer[1]["less"]["accuracy"][0] == pytest.approx(difference)


def test_each_option_is_a_condition_and_later_calls_are_kept_beside_earlier_ones(trained, evaluate):
    first = evaluate("gmu", "--without", "each", "--without", "audio=0.5", "--modalities", "text")
    names = [entry["condition"] for entry in first["conditions"]]
    assert names == ["everything kept", "without text", "without audio", "without audio in 50% of rows"]
    second = evaluate("gmu", "--modalities", "audio", "--without", "text=0.25")
    kept = [entry["condition"] for entry in json.loads(Path(second["file"]).read_text())["conditions"]]
    assert kept == [*names, "without text in 25% of rows"]
    alone = second["conditions"][2]
    assert alone["condition"] == "without text" and alone["metrics"] == first["conditions"][1]["metrics"]


def test_another_part_of_the_fold_is_scored_as_in_training(trained, evaluate):
    [kept] = evaluate("gmu", "--split", "valid")["conditions"]
    answer = json.loads((trained.home / "runs" / trained.name / "gmu-official.json").read_text())
    assert kept["metrics"]["pooled"]["accuracy"] == answer["folds"][0]["valid"]["accuracy"]
    assert kept["rows"] == answer["folds"][0]["counts"]["valid"]


# --- noise -----------------------------------------------------------------------------------------------------


def test_noise_makes_new_rows_of_the_scored_utterances_alone_once_and_leaves_the_clean_ones(trained, evaluate):
    before, last = rows_kept(trained), (trained.home / "last.json").read_text()
    clean, noisy = evaluate("linear", "--noise-db", "0")["conditions"]
    assert noisy["condition"] == "white noise at 0 dB" and noisy["metrics"] != clean["metrics"]
    made = rows_kept(trained) - before
    assert made == noisy["rows"] == 12
    assert evaluate("linear", "--noise-db", "0")["conditions"] == [clean, noisy]
    assert rows_kept(trained) - before == made
    assert (trained.home / "last.json").read_text() == last


def test_a_folder_of_sounds_is_noise_that_its_bytes_and_not_its_place_decide(trained, evaluate, tmp_path):
    sounds, moved = tmp_path / "sounds", tmp_path / "moved"
    sounds.mkdir()
    shutil.copy(next(trained.root.rglob("*.wav")), sounds / "a.wav")
    first = evaluate("linear", "--noise-db", "0", "--noise", str(sounds))["conditions"][1]
    assert first["condition"] == "sounds of sounds at 0 dB"
    sounds.rename(moved)
    before = rows_kept(trained)
    again = evaluate("linear", "--noise-db", "0", "--noise", str(moved))["conditions"][1]
    assert again["metrics"] == first["metrics"] and rows_kept(trained) == before


# --- the report ------------------------------------------------------------------------------------------------


def test_the_report_has_a_table_of_the_conditions_and_a_curve_by_share(trained, evaluate):
    shares = ("--without", "audio=0.5", "--without", "audio", "--without", "text")
    answer = evaluate("gmu", *shares)["conditions"]
    session = trained.session()
    [run] = [run for run in models_section.trained(session) if run.answer["model"] == "gmu"]
    sheet, chart = robustness(run)
    assert isinstance(sheet, Sheet) and isinstance(chart, Chart)
    scores = [entry["metrics"]["pooled"]["accuracy"] for entry in answer]
    assert [row[2].text for row in sheet.rows] == [f"{score:.4f}" for score in scores]
    kept, half, none, no_text = scores
    curves = (
        f"audio: {kept:.3f} at 0, {half:.3f} at 0.5, {none:.3f} at 1",
        f"text: {kept:.3f} at 0, {no_text:.3f} at 1",
    )
    assert "; ".join(curves) in chart.alt
    page = Path(page_of(session)).read_text()
    assert "without audio in 50% of rows" in page and "share of rows without it" in page


def page_of(session: Session) -> str:
    return str(write(session)["report"])


# --- other corpora ---------------------------------------------------------------------------------------------


def test_on_another_corpus_of_the_same_content_the_scores_are_the_same(trained, evaluate, tmp_path):
    other = Small(trained.root, trained.home, tmp_path / "other.toml", RECIPE)
    other.path.write_text(other.recipe)
    answer = evaluate("linear", "--dataset", str(other.path), "--root", str(other.root))["conditions"]
    assert answer[0]["metrics"] == own_scores(trained, "linear")
    assert json.loads((trained.home / "last.json").read_text())["dataset"] == str(trained.path)


def test_a_corpus_that_the_models_features_were_not_fitted_on_is_refused(trained, affectory, tmp_path):  # noqa: F811
    other = Small(trained.root, trained.home, tmp_path / "other.toml", RECIPE)
    other.path.write_text(other.recipe)
    code, _, err = affectory("evaluate", "gmu", "--dataset", str(other.path), "--root", str(other.root), *HERE)
    assert code == 2 and "text_cnn, text_word2vec: a fit on other would be another one" in err


def test_a_corpus_with_other_labels_is_refused(trained, affectory, tmp_path):  # noqa: F811
    other = Small(trained.root, trained.home, tmp_path / "other.toml", RECIPE.replace('"six"', '"four"'))
    other.path.write_text(other.recipe)
    code, _, err = affectory("evaluate", "linear", "--dataset", str(other.path), "--root", str(other.root), *HERE)
    assert code == 2 and "linear of small predicts a multiclass of" in err


# --- what has changed since ------------------------------------------------------------------------------------


def test_after_the_recipe_has_changed_the_runs_own_columns_are_read_until_they_are_gone(
    trained,
    evaluate,
    affectory,  # noqa: F811
):
    trained.path.write_text(trained.path.read_text().replace("IS09", "IS10"))
    assert evaluate("linear")["conditions"][0]["metrics"] == own_scores(trained, "linear")
    shutil.rmtree(trained.home / "views")
    code, _, err = affectory("evaluate", "linear", *HERE)
    assert code == 2 and "the recipe gives other features now than linear of small learned from" in err


def test_a_view_that_is_gone_is_built_again(trained, evaluate):
    shutil.rmtree(trained.home / "views")
    assert evaluate("gmu")["conditions"][0]["metrics"] == own_scores(trained, "gmu")


def test_other_labels_than_the_run_was_trained_on_are_refused(trained, affectory):  # noqa: F811
    trained.path.write_text(trained.path.read_text().replace('"six"', '"four"'))
    code, _, err = affectory("evaluate", "linear", *HERE)
    assert code == 2 and "predicts a multiclass of" in err


# --- names -----------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_its_name_the_beginning_of_its_folder_and_its_path(trained, evaluate):
    [folder] = (trained.home / "runs" / trained.name).glob("gmu-official-seed0-*")
    for name in ("gmu", folder.name, folder.name[:20], str(folder)):
        assert evaluate(name)["run"] == str(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gmuu"], "no run 'gmuu'"),
        (["linear", "--without", "text"], "this model reads no 'text'"),
        (["gmu", "--without", "audio=2"], "--without audio=2: the share of the rows must be above 0 and at most 1"),
        (["gmu", "--modalities", "text audio"], "--modalities names all that this model reads"),
        (["gmu", "--noise", "sounds"], "add --noise-db"),
        (["gmu", "--protocol", "cv"], "--protocol is for another dataset"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(trained, affectory, arguments, message):  # noqa: F811
    code, _, err = affectory("evaluate", *arguments, *HERE)
    assert code == 2 and message in " ".join(err.split())
