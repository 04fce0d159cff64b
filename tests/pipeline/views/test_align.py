import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.recipe import Align
from pipeline.errors import InputError
from pipeline.views.align import align, auto_length

STEPS = st.integers(0, 40)
LENGTHS = st.integers(1, 40)


def track(steps, dim=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, dim)).astype(np.float32) + 10, rng.random(steps) < 0.7


@given(STEPS, LENGTHS, st.sampled_from(["pad", "sample"]), st.integers(0, 9))
def test_every_track_gets_exactly_l_steps_and_whatever_is_not_valid_is_zero(steps, length, mode, seed):
    values, mask = align(*track(steps, seed=seed), mode, length)
    assert values.shape == (length, 3) and mask.shape == (length,) and values.dtype == np.float32
    assert not values[~mask].any()
    assert (values[mask] != 0).all()


@given(STEPS, LENGTHS)
def test_pad_keeps_the_first_steps_in_their_order_and_pads_at_the_end(steps, length):
    values, valid = track(steps)
    out, mask = align(values, valid, "pad", length)
    kept = min(steps, length)
    assert (mask[:kept] == valid[:kept]).all() and not mask[kept:].any()
    assert (out[:kept][valid[:kept]] == values[:kept][valid[:kept]]).all()


@given(st.integers(1, 40), LENGTHS)
def test_sample_takes_the_step_under_the_centre_of_each_of_l_equal_bins(steps, length):
    values = np.arange(1.0, steps + 1)[:, None]
    out, mask = align(values, np.ones(steps, bool), "sample", length)
    centres = [(2 * k + 1) * steps / (2 * length) for k in range(length)]
    assert out[:, 0].tolist() == [int(np.floor(c)) + 1 for c in centres]
    assert mask.all()


@given(LENGTHS, LENGTHS)
def test_sample_of_fewer_steps_repeats_each_and_drops_none(steps, length):
    out, _ = align(np.arange(1.0, steps + 1)[:, None], np.ones(steps, bool), "sample", length)
    assert (np.diff(out[:, 0]) >= 0).all()
    if steps <= length:
        assert set(out[:, 0]) == set(range(1, steps + 1))
    else:
        assert len(set(out[:, 0])) == length


@given(st.integers(1, 40), st.sampled_from(["pad", "sample"]))
def test_a_track_of_l_steps_is_unchanged(steps, mode):
    values, _ = track(steps)
    out, mask = align(values, np.ones(steps, bool), mode, steps)
    assert (out == values).all() and mask.all()


def test_sample_carries_the_mask_of_the_steps_it_takes():
    values, mask = align(np.ones((4, 1)), np.array([True, False, True, False]), "sample", 2)
    assert mask.tolist() == [False, False] and not values.any()  # steps 1 and 3
    assert align(np.ones((4, 1)), np.array([False, True, False, True]), "sample", 2)[1].all()


def test_invalid_steps_are_zero_even_where_they_hold_nan():
    values, mask = align(np.array([[np.nan], [1.0]]), np.array([False, True]), "pad", 3)
    assert values[:, 0].tolist() == [0, 1, 0] and mask.tolist() == [False, True, False]


def test_broadcast_keeps_one_vector_and_leaves_its_repetition_to_the_model():
    values, mask = align(np.ones((1, 5)), np.array([True]), "broadcast", 30)
    assert values.shape == (1, 5) and mask.tolist() == [True]
    assert align(np.ones((0, 5)), np.array([], bool), "broadcast", 30)[1].tolist() == [False]


def test_broadcast_of_several_steps_names_the_line_of_the_recipe():
    with pytest.raises(InputError, match=r'align = \{ mode = "broadcast" \}.*got 2 steps'):
        align(np.ones((2, 5)), np.ones(2, bool), "broadcast", 30)


def test_an_unknown_mode_and_a_length_of_nothing_are_refused():
    with pytest.raises(InputError, match="did you mean sample"):
        Align("smaple", 3)
    with pytest.raises(InputError, match="at least 1"):
        Align("pad", 0)


def test_only_pad_crops_steps():
    steps = np.array([2, 5, 9])
    assert Align("pad", 5).cropped(steps).tolist() == [0, 0, 4]
    assert Align("sample", 5).cropped(steps).tolist() == [0, 0, 0]


def test_the_automatic_length_is_the_99th_percentile_rounded_up_and_at_least_one():
    assert auto_length(list(range(1, 101))) == 100
    assert auto_length([10] * 999 + [5000]) == 10
    assert auto_length([]) == auto_length([0, 0]) == 1


def test_alignment_can_be_read_without_torch():
    code = "import sys, pipeline.views.view; sys.exit(any(m in sys.modules for m in ('torch', 'sklearn')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
