"""`affectory maps`: the pictures of a trained run, beside what its model gives."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cache.home import Home
from pipeline.cli.evaluate import opened
from pipeline.errors import InputError
from pipeline.report import attention
from pipeline.report.attention_pictures import FOLDER, Picture, read_pictures
from pipeline.score import predictions
from pipeline.train import train_models
from pipeline.train.evaluate import Evaluation
from pipeline.train.trained_run import find
from tests.pipeline.cli.test_commands import affectory  # noqa: F401 - a fixture
from tests.pipeline.cli.test_evaluate import BOTH
from tests.small import Small

SETTINGS = """
[train.mulg]
epochs = 1
width = 4
hidden = 4
heads = 2
[train.gmu]
epochs = 1
hidden = 4
"""


@pytest.fixture(scope="module")
def trained(demo_root: Path, extracted_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small corpus with `mulg`, which has attention, `gmu`, which has gates, and `linear`, which has neither."""
    made = tmp_path_factory.mktemp("maps")
    small = Small(demo_root, made / "home", made / "small.toml", BOTH + SETTINGS)
    small.take(extracted_home)
    session = small.session()
    runs = [train_models.prepare(session, name, 0) for name in ("mulg", "gmu", "linear")]
    train_models.train(session, runs)
    for run in runs:
        train_models.answer(session, run, {})
    return small


def evaluation(small: Small, name: str, part: Any = "valid") -> Evaluation:
    home = Home(small.home)
    return opened(home, find(home.runs, name), part, ("", "", ""), {}, extract=False)


def table(small: Small, run: Evaluation, picture: Picture) -> list[dict[str, str]]:
    return list(csv.DictReader((run.run.folder / FOLDER / f"{picture.name}.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def drawn(trained: Small) -> tuple[Evaluation, list[Picture]]:
    """The pictures of `mulg` on validation."""
    run = evaluation(trained, "mulg")
    return run, attention.draw(run, [], 2)


def surest(run: Evaluation) -> list[str]:
    """The validation rows by the confidence of their wrong prediction, from the file that training left."""
    rows = predictions.read(Path(run.run.folds[0].predictions), "valid")
    sure = np.exp(rows.logits) / np.exp(rows.logits).sum(axis=1, keepdims=True)
    wrong = {i: p.max() for i, p, label in zip(rows.ids, sure, rows.labels, strict=True) if p.argmax() != label}
    return sorted(wrong, key=lambda i: -wrong[i])


def test_unless_asked_otherwise_the_validation_rows_that_are_most_surely_wrong_are_drawn(drawn):
    run, pictures = drawn
    names = [picture.name for picture in pictures]
    assert names == [*(f"valid-{i}" for i in surest(run)[:2]), "valid-mean", "valid-by-class"]


def test_the_map_of_an_utterance_is_its_models_attention_over_its_valid_steps(trained, drawn):
    run, pictures = drawn
    [result] = run.run.folds
    model, dataset = run.opened(result)
    model.maps = True
    for name in surest(run)[:2]:
        [picture] = [one for one in pictures if one.name == f"valid-{name}"]
        batch = dataset.gather(torch.tensor([dataset.view.ids.index(name)]))
        with torch.inference_mode():
            maps = model(batch.values, batch.masks).attention
        rows = table(trained, run, picture)
        assert {row["map"] for row in rows} == {"text → audio", "audio → text"}
        given = maps["text->audio"][0][batch.masks["audio"][0]][:, batch.masks["text"][0]]
        shown = [float(row["weight"]) for row in rows if row["map"] == "text → audio"]
        assert shown == pytest.approx(given.flatten().tolist(), abs=1e-5)


def test_the_steps_of_a_map_are_the_words_said_and_the_seconds_of_the_sound(trained, drawn):
    run, pictures = drawn
    name = surest(run)[0]
    [row] = [row for row in run.session.corpus.manifest.rows if row.id == name]
    [picture] = [one for one in pictures if one.name == f"valid-{name}"]
    rows = [one for one in table(trained, run, picture) if one["map"] == "text → audio"]
    said = re.findall(r"[a-z']+", row.text.lower())
    words = list(dict.fromkeys((int(one["source_step"]), one["source"]) for one in rows))
    assert words and all(word in said for _, word in words)
    seconds = list(dict.fromkeys(float(one["target"]) for one in rows))
    assert np.diff(seconds) == pytest.approx(0.08, abs=0.0101)  # 12.5 Hz, with two decimals


def test_the_mean_map_is_that_of_all_rows_of_the_part(trained, drawn):
    run, pictures = drawn
    [mean] = [one for one in pictures if one.name == "valid-mean"]
    weights = [float(row["weight"]) for row in table(trained, run, mean) if row["map"] == "audio → text"]
    model, dataset = run.opened(run.run.folds[0])
    rows = dataset.view.rows(run.ids(run.run.folds[0]))
    maps = [found.maps for found in attention.attention(model, dataset, rows[dataset.usable[rows]])]
    expected = np.mean([attention.in_parts(one["audio->text"]) for one in maps if "audio->text" in one], axis=0)
    assert weights == pytest.approx(expected.ravel().tolist(), abs=1e-5)
    assert model.maps is False


def test_a_model_with_gates_alone_has_their_mean_shares_by_class(trained):
    run = evaluation(trained, "gmu")
    pictures = attention.draw(run, [], 4)
    [gates] = [one for one in pictures if one.name == "valid-gates"]
    rows = predictions.read(Path(run.run.folds[0].predictions), "valid")
    shown = {(one["class"], one["modality"]): float(one["share"]) for one in table(trained, run, gates)}
    expected = predictions.mean_gates(rows, run.run.target)
    assert shown == pytest.approx({(c, m): share for c, of in expected.items() for m, share in of.items()}, abs=1e-6)


def test_what_cannot_be_drawn_is_refused(trained):
    run = evaluation(trained, "mulg")
    test = run.session.corpus.folds[0].test[0]
    with pytest.raises(InputError, match=f"{test}: not among the valid rows of mulg"):
        attention.draw(run, [test], 4)
    with pytest.raises(InputError, match="neither attention between modalities nor gates"):
        attention.draw(evaluation(trained, "linear"), [], 4)


def test_the_command_draws_a_chosen_test_row_as_svg_png_and_csv(
    trained: Small,
    affectory: Callable[..., tuple[int, str, str]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("AFFECTORY_HOME", str(trained.home))
    name = evaluation(trained, "mulg", "test").session.corpus.folds[0].test[3]
    code, out, err = affectory("maps", "mulg", "--utterance", name, "--split", "test", "--json")
    assert code == 0, err
    files = [Path(file) for file in json.loads(out)["files"]]
    assert [file.stem for file in files] == [f"test-{name}", "test-mean", "test-by-class"]
    assert all(file.with_suffix(ending).stat().st_size for file in files for ending in (".svg", ".png", ".csv"))
    shown = read_pictures(files[0].parents[1], trained.home / "reports")
    assert "Mean attention of the test rows of mulg of small" in {one.caption.partition(". ")[0] for one in shown}
