"""Rounding that keeps sums: bounds of each weight and of each group, and what must not move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biril_nm.export.lowering.numbers import balanced_rounding
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


def by_sorting(row, step, low, high):
    """One row by the definition, without tables and heaps."""
    steps, low, high = np.asarray(row) / step, low // step, high // step
    grid = np.zeros(len(steps), np.int64)
    for value in set(steps.tolist()):
        equal = np.flatnonzero(steps == value)
        total = int(np.copysign(np.floor(abs(value * len(equal)) + 0.5), value))
        base, more = divmod(total, len(equal))
        grid[equal] = [base + (i < more) for i in range(len(equal))]
    grid = np.clip(grid, low, high)
    error = steps - grid
    total = error.sum()
    missing = int(np.floor(abs(total) + 0.5))
    sign = 1 if total > 0 else -1
    inside = grid < high if sign > 0 else grid > low
    order = [
        i for i in np.argsort(-sign * error, kind="stable") if inside[i] and sign * error[i] > 0
    ]
    for k, i in enumerate(order[:missing]):
        if sign * error[i] + (abs(total) - k) > 1.0:
            grid[i] += sign
    return grid * step


ROWS = {
    "any": lambda random, n: random.normal(size=n) * 30,
    "few values": lambda random, n: random.choice(random.normal(size=4) * 20, size=n),
    "halves": lambda random, n: np.round(random.normal(size=n) * 9) / 2,
    "tenths": lambda random, n: np.round(random.normal(size=n), 1),
    "zeros of both signs": lambda random, n: random.choice([0.0, -0.0, 7.3, -2.6], size=n),
    "pooled": lambda random, n: np.repeat(random.normal(size=n) * 0.4, 4),
    "small": lambda random, n: np.abs(random.normal(size=n)) * 0.3,
    "saturated": lambda random, n: random.normal(size=n) * 900,
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_rounded_by_the_definition(kind, monkeypatch):
    monkeypatch.setattr(balanced_rounding, "BLOCK", 100)  # some blocks, of some rows each
    random = np.random.default_rng(len(kind))
    for n in (1, 2, 9, 130):
        for step, low, high in ((2, -254, 254), (1, 0, 255), (64, -192, 192)):
            ideal = np.stack([ROWS[kind](random, n) for _ in range(12)])
            got = round_keeping_sums(ideal, step, low, high)
            wanted = [by_sorting(row, step, low, high) for row in ideal]
            np.testing.assert_array_equal(got, wanted)


def test_rows_made_to_share_places_are_sorted():
    """Keys of the table that all begin with zeros, by the inverse of its mixing: none finds a free place."""
    found = []
    for wanted in range(1, 2 * 4096):
        key = wanted  # the last step of splitmix64, its multiplications and the first step, undone
        key ^= key >> 31 ^ key >> 62
        key = key * pow(0x94D049BB133111EB, -1, 1 << 64) % (1 << 64)
        key ^= key >> 27 ^ key >> 54
        key = key * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) % (1 << 64)
        key ^= key >> 30 ^ key >> 60
        value = np.array([key], np.uint64).view(np.float64)[0]
        if np.isfinite(value) and 1e-3 < abs(value) < 1e6:
            found.append(value)
    assert len(found) > 100
    row = np.repeat(found, 3)[: 3 * (len(found) // 3)]
    got = round_keeping_sums(np.stack([row, row]), 1, -(10**7), 10**7)
    np.testing.assert_array_equal(got, [by_sorting(row, 1, -(10**7), 10**7)] * 2)


def test_values_beyond_all_integers_go_to_their_end():
    got = round_keeping_sums(np.array([[1e30, -1e30, 3.0]]), 1, -256, 254)
    assert got.tolist() == [[254, -256, 3]]
