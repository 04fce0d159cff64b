"""Attention maps: their means, which utterances are surely wrong, and their pictures."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.report.attention import PARTS, in_parts, mean_maps, pooled, said, side, whole_words, wrongness
from pipeline.report.attention_pictures import (
    FOLDER,
    Heat,
    Side,
    file_name,
    read_pictures,
    write_heats,
    write_index,
    write_shares,
)
from pipeline.score.predictions import Predictions
from pipeline.stage import Target
from pipeline.views.step_marks import StepMarks

CLASSES = Target("multiclass", ("a", "b"))


def _predictions(logits: list[list[float]], labels: list[object]) -> Predictions:
    return Predictions([f"u{i}" for i in range(len(labels))], np.array(logits), labels, {})  # type: ignore[arg-type]


# --- means -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "source"), [(1, 1), (5, 7), (40, 3), (2 * PARTS, PARTS)])
def test_a_map_in_parts_has_rows_of_sum_1_whatever_its_steps_are(steps: int, source: int) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(source), steps)
    parts = in_parts(weights)
    assert parts.shape == (PARTS, PARTS)
    np.testing.assert_allclose(parts.sum(axis=1), 1.0)


def test_a_map_in_parts_keeps_where_the_weights_are() -> None:
    weights = np.zeros((2, 2 * PARTS))
    weights[0, 5], weights[1, 2 * PARTS - 1] = 1.0, 1.0  # the third part of the source, and the last one
    expected = np.zeros((PARTS, PARTS))
    expected[: PARTS // 2, 2], expected[PARTS // 2 :, -1] = 1.0, 1.0
    np.testing.assert_allclose(in_parts(weights), expected, atol=1e-12)


def test_the_mean_of_a_pair_is_over_the_utterances_that_have_it() -> None:
    one, two = np.full((PARTS, PARTS), 0.25), np.full((PARTS, PARTS), 0.75)
    found = mean_maps([{"a->b": one, "b->a": one}, {"a->b": two}, {}])
    np.testing.assert_allclose(found["a->b"], 0.5)
    np.testing.assert_allclose(found["b->a"], 0.25)


# --- what is wrong ---------------------------------------------------------------------------------------------


def test_a_row_is_as_wrong_as_its_wrong_prediction_is_sure() -> None:
    sure, unsure = float(np.log(9)), float(np.log(3 / 2))
    rows = _predictions([[sure, 0], [unsure, 0], [sure, 0]], [1, 1, 0])
    np.testing.assert_allclose(wrongness(rows, CLASSES), [0.9, 0.6, 0.0])
    assert said(rows, 0, CLASSES) == "is b, predicted a with 90%"


def test_a_number_is_as_wrong_as_its_error() -> None:
    rows = _predictions([[1.0], [-2.0]], [0.5, 1.0])
    np.testing.assert_allclose(wrongness(rows, Target("regression", ())), [0.5, 3.0])
    assert said(rows, 1, Target("regression", ())) == "is 1.00, predicted -2.00"


def test_a_row_of_several_heads_is_as_wrong_as_its_worst_head() -> None:
    target, sure = Target("multilabel", ("a", "b")), float(np.log(9))
    rows = _predictions([[0, sure, sure, 0], [0, sure, 0, sure]], [(1, 1), (1, 1)])
    np.testing.assert_allclose(wrongness(rows, target), [0.9, 0.0])
    assert said(rows, 0, target) == "is a and b, predicted a"


def test_the_predictions_of_folds_are_pooled_in_their_order() -> None:
    gates = {"text": np.array([0.5])}
    folds = [Predictions([name], np.array([[1.0, 0.0]]), [label], gates) for name, label in (("x", 0), ("y", 1))]
    found = pooled(folds)
    assert (list(found.ids), list(found.labels)) == (["x", "y"], [0, 1])
    assert found.logits.shape == (2, 2) and found.gates["text"].tolist() == [0.5, 0.5]


# --- sides -----------------------------------------------------------------------------------------------------


def test_a_step_is_called_by_its_word_or_its_second_or_else_its_number() -> None:
    steps = np.array([0, 2])
    assert side("text", steps, StepMarks(words=["so", "it", "goes"])) == Side("text, words", ["so", "goes"])
    times = StepMarks(np.array([0.04, 0.12, 0.2], np.float32))
    assert side("audio", steps, times) == Side("audio, s", ["0.04", "0.20"])
    for unknown in (None, StepMarks(), StepMarks(words=["so"])):
        assert side("text", steps, unknown) == Side("text, step", ["1", "3"])


def test_pieces_are_joined_to_their_word_by_the_mean_of_a_target_and_the_sum_of_a_source() -> None:
    said = Side("text, words", ["<s>", "un", "", "so"])
    weights = np.array([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.2, 0.1, 0.4, 0.3], [0.25, 0.25, 0.5, 0.0]])
    joined = whole_words(Heat("text → text", weights, said, said))
    assert joined.target == joined.source == Side("text, words", ["<s>", "un", "so"])
    np.testing.assert_allclose(joined.weights, [[0.1, 0.5, 0.4], [0.3, 0.5, 0.2], [0.25, 0.75, 0.0]])
    whole = Heat("a → b", weights[:, :2], Side("b, s", list("abcd")), Side("a, s", list("ab")))
    np.testing.assert_allclose(whole_words(whole).weights, whole.weights)


# --- files -----------------------------------------------------------------------------------------------------


def _heat() -> Heat:
    weights = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    return Heat("text → audio", weights, Side("audio, s", ["0.04", "0.12", "0.20"]), Side("text, words", ["so", "so"]))


def test_a_picture_has_the_weights_as_csv_and_the_steps_on_its_axes(tmp_path: Path) -> None:
    picture = write_heats(tmp_path / "valid-u1", "A caption", [_heat()], columns=1, side_in=3)
    rows = list(csv.DictReader((tmp_path / "valid-u1.csv").read_text().splitlines()))
    assert len(rows) == 6
    assert [float(row["weight"]) for row in rows] == [0.25, 0.75, 1.0, 0.0, 0.5, 0.5]
    assert rows[1] == dict(
        map="text → audio", target_step="1", target="0.04", source_step="2", source="so", weight="0.75"
    )
    svg = (tmp_path / "valid-u1.svg").read_text()
    assert all(f">{label}<" in svg for label in ("0.12", "so", "audio, s", "text, words", "0.000 to 1.000"))
    opacities = [float(value) for value in re.findall(r"fill: #3b6ea5; fill-opacity: ([\d.]+)", svg)]
    assert opacities == pytest.approx([0.25, 0.75, 0.5, 0.5], abs=0.01)  # 0 is not drawn, and 1 states no opacity
    assert (tmp_path / "valid-u1.png").read_bytes().startswith(b"\x89PNG")
    assert picture.alt == "Heat maps. text → audio: 3 by 2 steps, most from 0.12 to so."


def test_the_report_shows_what_is_inline_in_its_own_colours_and_links_everything(tmp_path: Path) -> None:
    folder, reports = tmp_path / "runs" / "a run" / FOLDER, tmp_path / "reports"
    shown = write_heats(folder / "valid-mean", "Means", [_heat()], columns=1, side_in=2, inline=True)
    linked = write_heats(folder / "valid-u1", "One", [_heat()], columns=1, side_in=2)
    gates = write_shares(folder / "valid-gates", "Gates", {"all": {"text": 0.25, "audio": 0.75}})
    write_index(folder, "valid", [shown, linked, gates])
    (folder / "test.json").write_text("[{")
    found = read_pictures(tmp_path / "runs" / "a run", reports)
    assert [one.caption for one in found] == ["Means", "One", "Gates"]
    assert found[1].chart is None
    assert found[1].links["CSV"] == "../runs/a%20run/maps/valid-u1.csv"
    for one in (found[0], found[2]):
        assert one.chart is not None and "var(--series-1)" in one.chart.svg
        assert set(re.findall(r"#[0-9a-f]{6}", one.chart.svg)) <= {"#000000"}
    assert found[2].chart.alt == "Stacked bars. all text 0.25, all audio 0.75."


def test_an_utterance_of_any_name_has_a_file_in_the_folder() -> None:
    assert file_name("../a b/Ses01:F") == "_a_b_Ses01_F" and file_name("Ses01F_impro01_F000") == "Ses01F_impro01_F000"
