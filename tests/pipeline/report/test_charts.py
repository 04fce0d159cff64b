"""Charts and cells of the report: colours, descriptions, and how numbers are written."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pipeline.pages.charts import Difference, curves, differences, grouped, histogram, reliability
from pipeline.pages.table import cell, size
from pipeline.score.calibration import Calibration


def test_charts_take_their_colours_from_the_page() -> None:
    made = grouped("Counts", ["a", "b"], {"train": [1, 2], "test": [3, 4]}, "utterances")
    assert "var(--series-2)" in made.svg
    assert set(re.findall(r"#[0-9a-f]{6}", made.svg)) <= {"#000000"}
    assert made.alt == "Bar chart. train: a 1, b 2; test: a 3, b 4."


def test_many_curves_show_the_first_and_say_how_many_there_are() -> None:
    made = curves("Losses", {f"f{i}": {"train": [2.0, 1.0]} for i in range(20)}, {"f0": 1})
    assert made.caption == "Losses The first 12 of 20."
    assert "f0: train from 2 to 1, kept epoch 2." in made.alt


def test_a_place_without_a_panel_is_empty() -> None:
    made = curves("Losses", {f"f{i}": {"train": [2.0, 1.0]} for i in range(4)}, {})
    assert len(re.findall(r'id="chart-\d+-axes_\d+"', made.svg)) == 4


def test_a_histogram_of_equal_values_has_a_bar() -> None:
    assert "from 2 to 2, median 2" in histogram("Words", [2.0, 2.0], "words").alt


@pytest.mark.parametrize(("count", "text"), [(999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e13, "30.0 TB")])
def test_bytes_have_the_largest_unit_that_fits(count: float, text: str) -> None:
    assert size(count).text == text


def test_what_is_not_known_is_a_dash_and_not_a_zero() -> None:
    assert (cell(None).text, cell(0).text, cell(-0.5).text) == ("–", "0", "−0.5000")


def test_a_reliability_diagram_tells_the_error_of_each_part() -> None:
    bins = Calibration(np.array([0.55, 0.95]), np.array([0.5, 0.8]), np.array([10, 30]))
    made = reliability("Calibration", {"test": bins})
    assert f"test, error {0.25 * 0.05 + 0.75 * 0.15:.3f}" in made.svg
    assert made.alt == "Reliability diagram. test: 50% of 10 at 55%, 80% of 30 at 95%."


def test_a_difference_is_drawn_with_the_ends_of_its_interval() -> None:
    made = differences("Ablations", [Difference("w/o gate", -0.05, -0.08, 0.01)], "accuracy")
    assert made.alt == "Bar chart of accuracy. w/o gate -0.050 from -0.080 to +0.010."
    assert "w/o gate" in made.svg


def test_an_interval_that_leaves_out_its_mean_is_drawn():
    assert "svg" in str(differences("Models", [Difference("gmu", 0.1, 0.2, 0.3)], "accuracy"))
