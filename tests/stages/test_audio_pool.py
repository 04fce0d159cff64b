"""The grid that rate-based stages share, and pooling to its steps."""

from __future__ import annotations

import numpy as np
import pytest

from stages._pool import Pool, centres, steps


@pytest.mark.parametrize(("duration_s", "count"), [(0.0, 1), (0.03, 1), (0.119, 1), (0.12, 2), (1.0, 13), (30.0, 375)])
def test_a_clip_has_the_steps_whose_centre_lies_in_it_and_at_least_one(duration_s: float, count: int) -> None:
    assert steps(duration_s, 12.5) == count


def test_steps_stand_at_their_centres() -> None:
    assert np.allclose(centres(3, 12.5), [0.04, 0.12, 0.20])


def test_a_step_pools_the_frames_inside_it() -> None:
    pool = Pool.of(np.array([0.0, 0.4, 0.5, 0.9, 1.2]), 3, 2.0)
    values = np.array([[1.0], [3.0], [10.0], [20.0], [7.0]])
    assert np.allclose(pool.mean(values), [[2.0], [15.0], [7.0]])
    assert np.allclose(pool.stddev(values, np.ones((5, 1))), [[1.0], [5.0], [0.0]])


def test_a_step_without_a_frame_takes_the_nearest() -> None:
    pool = Pool.of(np.array([0.1, 1.9]), 4, 2.0)
    assert pool.mean(np.array([[1.0], [2.0]])).ravel().tolist() == [1.0, 1.0, 2.0, 2.0]


def test_frames_past_the_last_step_are_left_out() -> None:
    assert Pool.of(np.array([0.1, 0.6]), 1, 2.0).mean(np.array([[1.0], [9.0]])).tolist() == [[1.0]]


def test_frames_of_weight_zero_do_not_count_and_a_step_of_none_is_zero() -> None:
    pool = Pool.of(np.array([0.0, 0.1, 0.5, 0.6]), 2, 2.0)
    values, weight = np.array([[5.0], [99.0], [7.0], [8.0]]), np.array([[1], [0], [0], [0]])
    assert pool.mean(values, weight).tolist() == [[5.0], [0.0]]
    assert pool.stddev(values, weight).tolist() == [[0.0], [0.0]]
