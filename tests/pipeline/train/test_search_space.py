"""The space of a sweep: which values are tried, and which trials are drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.train.search_space import Choice, Range, parse, trials


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("train.m.a=1,2", Choice("train.m.a", (1, 2))),
        ("train.m.a=[0.1, 2e-3]", Choice("train.m.a", (0.1, 0.002))),
        ("train.m.a=true,false", Choice("train.m.a", (True, False))),
        ("train.m.pool=own,union", Choice("train.m.pool", ("own", "union"))),
        (
            'train.m.modalities=[["text"], ["text", "audio"]]',
            Choice("train.m.modalities", (["text"], ["text", "audio"])),
        ),
        ("train.m.a=1e-5..1e-2", Range("train.m.a", 1e-5, 1e-2)),
        ("train.m.a=16..64", Range("train.m.a", 16, 64)),
        ("features.m.audio.n_mfcc=13", Choice("features.m.audio.n_mfcc", (13,))),
    ],
)
def test_values_are_those_of_toml_a_range_or_plain_words(text, axis):
    assert parse(text) == axis


@pytest.mark.parametrize(
    "text", ["train.m.a", "train.m.a=", "dataset.labels=six,four", "train.m.a=2..1", "train.m.a=-..1"]
)
def test_what_is_no_axis_is_refused(text):
    with pytest.raises(InputError, match="--over"):
        parse(text)


def test_without_a_count_every_combination_is_tried_once():
    tried = trials([Choice("a", (1, 2)), Choice("b", ("x", "y", "z"))], 0, 0)
    assert len(tried) == 6 and len({(trial["a"], trial["b"]) for trial in tried}) == 6
    assert trials([Choice("a", (1, 2))], 5, 0) == [{"a": 1}, {"a": 2}]


def test_a_range_needs_a_count_and_no_setting_is_named_twice():
    with pytest.raises(InputError, match="--trials"):
        trials([Range("a", 0.1, 0.5)], 0, 0)
    with pytest.raises(InputError, match="a twice"):
        trials([Choice("a", (1,)), Choice("a", (2,))], 0, 0)


@given(st.integers(1, 30), st.integers(0, 2**32))
def test_drawn_trials_differ_lie_in_the_space_and_are_a_beginning_of_more(count, seed):
    axes = [Choice("a", tuple(range(10))), Range("b", 1e-5, 1e-1), Range("c", 3, 5)]
    drawn = trials(axes, count, seed)
    assert len(drawn) == count == len({repr(trial) for trial in drawn})
    assert all(trial["a"] in range(10) and 1e-5 <= trial["b"] <= 1e-1 and trial["c"] in (3, 4, 5) for trial in drawn)
    assert trials(axes, count + 5, seed)[:count] == drawn


def test_a_range_of_orders_of_magnitude_is_drawn_from_by_its_logarithm():
    below = sum(trial["a"] < 1e-3 for trial in trials([Range("a", 1e-5, 1e-1)], 400, 1))
    assert 160 < below < 240
    below = sum(trial["a"] < 0.3 for trial in trials([Range("a", 0.1, 0.5)], 200, 1))
    assert 60 < below < 140
