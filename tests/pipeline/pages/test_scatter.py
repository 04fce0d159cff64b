"""A spread of thousands of dimensions is a picture of bounded size that hides no extreme value."""

from __future__ import annotations

import re

import numpy as np

from pipeline.pages.scatter import COLUMNS, _columns, levels, scatter, spread


def quantiles(dims):
    values = np.random.default_rng(0).normal(size=(200, dims))
    values[0, dims // 3] = 1e4
    return np.quantile(values, levels(), axis=0)


def test_dimensions_that_share_a_column_show_the_widest_of_their_bands():
    many = quantiles(2000)
    few = _columns(many)
    assert few.shape == (7, COLUMNS) and few[-1].max() == many[-1].max() == 1e4 and few[0].min() == many[0].min()
    assert (np.diff(few, axis=0) >= 0).all()
    assert np.array_equal(_columns(many[:, :COLUMNS]), many[:, :COLUMNS])


def test_a_picture_of_many_dimensions_is_hardly_larger_than_one_of_few():
    small, large = (len(str(spread("", quantiles(dims), "value").svg)) for dims in (COLUMNS, 4096))
    assert large < 1.3 * small < 200_000


def test_every_point_is_drawn_in_few_bytes():
    points = np.random.default_rng(0).normal(size=(400, 2))
    chart = str(scatter("", points, {"label": ["a", "b"] * 200}).svg)
    dots = [path for path in re.findall(r' d="([^"]*)"', chart) if path.count("M") > 100]
    assert sum(path.count("M") for path in dots) == 400 and len(chart) < 40_000


def test_numbers_in_the_words_of_a_chart_stay_whole():
    chart = scatter("", np.eye(2), {"label": ["0.123456", "b"]})
    assert ">0.123456<" in str(chart.svg)
