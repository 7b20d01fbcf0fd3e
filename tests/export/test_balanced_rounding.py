"""Rounding that keeps sums: bounds of each weight and of each group, and what must not move."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from biril_nm.export.lowering.numbers.balanced_rounding import round_keeping_sums


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([1, 2, 32]),
    st.floats(0.1, 1.0),
)
def test_weights_and_sums_stay_within_a_step(seed, groups, n, step, share):
    ideal = np.random.default_rng(seed).uniform(-240 * share, 240 * share, (groups, n))
    high = 254 // step * step
    got = round_keeping_sums(ideal, step, -high, high)
    assert np.all(got % step == 0)
    assert np.abs(got).max(initial=0) <= high
    assert np.abs(got - ideal).max(initial=0) < step
    assert np.all(np.abs((got - ideal).sum(axis=1)) <= step + 1e-9)
    nearest = np.clip(np.rint(ideal / step) * step, -high, high)
    cost = [np.sum((w - ideal) ** 2, 1) + np.sum(w - ideal, 1) ** 2 for w in (got, nearest)]
    assert np.all(cost[0] <= cost[1] + 1e-6)


def test_sums_of_many_weights_stay_within_half_a_step():
    ideal = np.random.default_rng(3).uniform(-200, 200, (50, 400))
    got = round_keeping_sums(ideal, 2, -254, 254)
    assert np.all(np.abs((got - ideal).sum(axis=1)) <= 1.0 + 0.02)


def test_few_weights_are_rounded_to_the_nearest_where_a_move_would_cost_more():
    got = round_keeping_sums(np.array([[10.3, 20.2, 30.2], [10.4, 20.4, 30.3]]), 1, -255, 255)
    np.testing.assert_array_equal(got, [[10, 20, 30], [11, 20, 30]])


def test_grid_points_do_not_move():
    grid = 2 * np.random.default_rng(0).integers(-127, 128, (5, 30))
    np.testing.assert_array_equal(round_keeping_sums(grid.astype(float), 2, -254, 254), grid)


def test_saturated_weights_are_clipped_and_left_there():
    got = round_keeping_sums(np.array([[900.0, -3.0, 0.4, 0.4]]), 2, -254, 254)
    assert got[0, 0] == 254
    assert np.all(np.abs(got[0, 1:] - [-3.0, 0.4, 0.4]) < 2)


def test_common_input_sees_a_smaller_error_than_with_nearest_rounding():
    ideal = np.random.default_rng(1).normal(0, 30, (400, 9))
    nearest = np.rint(ideal / 2) * 2
    balanced = round_keeping_sums(ideal, 2, -254, 254)
    spread = lambda w: np.std((w - ideal).sum(axis=1))  # noqa: E731
    assert spread(balanced) < 0.5 * spread(nearest)


def test_equal_weights_share_their_rounding():
    ideal = np.repeat([[3.5, -7.3, 0.6]], 4, axis=1)
    got = round_keeping_sums(ideal, 1, -255, 255)
    for value in (3.5, -7.3, 0.6):
        same = got[ideal == value]
        assert same.max() - same.min() <= 2
        assert abs(same.sum() - 4 * value) <= 1.5
    assert abs(got.sum() - ideal.sum()) <= 0.5
