"""Rules of training as three-factor rules of the chip: integer updates against the float rules."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError
from biril_nm.onchip.three_factor import (
    filter_rule,
    signed_factors,
    three_factor_update,
    update_cosine,
)

STEPS, N_PRE, N_POST, CLASSES, SAMPLE = 160, 40, 24, 5, 16
LEAST, EXP = 0.95, -5


def spikes(r, rate=0.15):
    return (r.random((STEPS, N_PRE)) < rate * r.random(N_PRE)).astype(np.int32)


def filtered(x, alpha):
    ex = np.zeros(x.shape)
    for t, row in enumerate(x):
        ex[t] = row + (alpha * ex[t - 1] if t else 0)
    return ex


def cosine_on_chip(q, x, alpha, room):
    """Cosine of ``sum_t q_t ex_t`` with what the chip learns from the same factors."""
    rule = filter_rule(alpha, rate=0.15, exp=EXP, seed=5)
    learned = three_factor_update(x, *signed_factors(q, room * np.abs(q).max()), rule)
    assert np.abs(learned).max() < 255  # nothing saturated
    assert np.count_nonzero(learned) > learned.size / 2
    return update_cosine(q.T @ filtered(x, alpha), learned), learned


def projected(r, target):
    """M = B^T target for each sample, gated by spikes of the neurons, in each step."""
    b = r.normal(size=(CLASSES, N_POST))
    return target @ b * (r.random((STEPS, N_POST)) < 0.3)


def labels(r):
    return np.repeat(np.eye(CLASSES)[r.integers(0, CLASSES, STEPS // SAMPLE)], SAMPLE, axis=0)


def brp(r):
    return projected(r, labels(r))


def dfa(r):
    return projected(r, labels(r) - r.random((STEPS, CLASSES)) / 2)


def es_d_rtrl(r, alpha=0.8, leak=0.9):
    """q = l ef of leaky integrate-and-fire neurons: ``ef <- alpha D ef + (1 - alpha) f``."""
    u, ef, q = np.zeros(N_POST), np.zeros(N_POST), []
    w = r.normal(size=(N_POST, N_PRE)) / 3
    for x in spikes(r):
        psi = (np.abs(u - 1) < 0.5).astype(float)
        u = leak * u * (u < 1) + w @ x
        ef = alpha * leak * (1 - psi) * ef + (1 - alpha)
        q.append(r.normal(size=N_POST) * ef * np.maximum(0, 1 - np.abs(u - 1)))
    return np.array(q)


@pytest.mark.parametrize(
    ("factor", "alpha", "room"),
    [(brp, 0.9, 8), (dfa, 0.9, 8), (es_d_rtrl, 0.8, 1), (es_d_rtrl, 0.9, 1)],
)
def test_the_chip_learns_in_the_direction_of_the_float_rule(factor, alpha, room):
    r = np.random.default_rng(3)
    q, x = factor(r), spikes(r)
    found, learned = cosine_on_chip(q, x, alpha, room)
    assert found >= LEAST
    rule = filter_rule(alpha, 0.15, EXP, seed=5)
    swapped = three_factor_update(x, *signed_factors(-q, room * np.abs(q).max()), rule)
    assert update_cosine(learned, swapped) < -LEAST
    other = q[::-1].T @ filtered(x, alpha)
    assert update_cosine(other, learned) < LEAST


def test_the_pre_trace_is_the_filter():
    rule = filter_rule(0.8, 0.15)
    assert rule.trace("x1").tau == pytest.approx(4.48, abs=0.01)
    assert rule.trace("x1").impulse * 0.15 / (1 - 0.8) <= 127
    x = np.zeros((3, 1), np.int32)
    x[0] = 1
    y2 = np.zeros((3, 1), np.int32)
    y2[0] = 127  # meets the trace that holds the spike of its own step
    assert three_factor_update(x, y2, 0 * y2, filter_rule(0.8, 1.0, exp=0))[0, 0] > 0
    y2[:] = [[0], [0], [127]]
    late = three_factor_update(
        x[::-1].copy(), y2[::-1].copy(), 0 * y2, filter_rule(0.8, 1.0, exp=0)
    )
    assert late[0, 0] == 0  # before the spike there is no trace


def test_signed_factors_are_two_of_seven_bits():
    y2, y3 = signed_factors([-1.0, 0.0, 0.5, 1.0])
    assert_array_equal(y2 - y3, [-127, 0, 64, 127])
    assert min(y2.min(), y3.min()) == 0
    y2, y3 = signed_factors([3.0, -0.5], top=1.0)
    assert_array_equal(y2 - y3, [127, -64])


def test_what_cannot_be_a_filter_or_an_angle_is_refused():
    with pytest.raises(
        ConfigError, match="alpha is 1 and rate 0.5; expected alpha between 0 and 1"
    ):
        filter_rule(1.0, 0.5)
    with pytest.raises(ConfigError, match="x1 has room for no impulse"):
        filter_rule(0.999, 1.0)
    with pytest.raises(ConfigError, match="top is 0.0; expected a number above 0"):
        signed_factors([1.0], top=0.0)
    with pytest.raises(ConfigError, match="expected equal shapes, and none of them 0"):
        update_cosine([1.0], [0.0])
