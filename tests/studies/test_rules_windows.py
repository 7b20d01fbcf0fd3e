"""What each rule does, run by the integer simulator: sign, size, fixed point."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.learning.rule import LearningRule
from biril_nm.learning.rules import (
    DELTA,
    OFFSET,
    OJA,
    PAIR,
    PROP,
    REWARD_STDP,
    RULES,
    THREE_FACTOR,
    pair_rule,
    three_factor_rule,
)
from biril_nm.loihi import SignMode
from biril_nm.studies.learning_window import Protocol, measure_window

BEFORE = np.array([1, 2, 5, 10, 20])  # pre before post
AFTER = -BEFORE
# traces lose up to one unit by rounding at each step, means over 32 runs carry noise
NOISE = 0.35


def window(rule: LearningRule, lags: object, **protocol: object) -> np.ndarray:
    return measure_window(rule, list(lags), Protocol(**protocol))  # type: ignore[arg-type, call-overload]


def test_every_rule_has_a_name_of_its_own_and_is_explained() -> None:
    assert set(RULES) == {
        "offset", "pair", "oja", "prop", "reward_stdp", "delta", "three_factor",
    }  # fmt: skip
    for rule in RULES.values():
        assert rule.name in rule.explain()


def test_pair_is_equation_3() -> None:
    np.testing.assert_allclose(window(PAIR, BEFORE), 4 * np.exp(-BEFORE / 8), atol=NOISE)
    np.testing.assert_allclose(window(PAIR, AFTER), -2 * np.exp(AFTER / 16), atol=NOISE)
    np.testing.assert_allclose(window(PAIR, [0]), 4 - 2, atol=NOISE)  # both sides count


@pytest.mark.parametrize(
    ("a_plus", "a_minus", "tau_plus", "tau_minus"),
    [(8, -3, 1.44, 99.5), (3.3, -0.7, 5, 5), (20, 0, 10, 10), (0, -12.5, 10, 3)],
)
def test_pair_rule_has_the_constants_asked_for(
    a_plus: float, a_minus: float, tau_plus: float, tau_minus: float
) -> None:
    rule = pair_rule(a_plus, a_minus, tau_plus, tau_minus)
    first, second = rule.dw
    assert first.coefficient * rule.trace("x1").impulse == pytest.approx(a_plus, rel=0.01)
    assert second.coefficient * rule.trace("y1").impulse == pytest.approx(a_minus, rel=0.01)
    lags = np.array([1, 3, 6])
    atol = NOISE + 0.03 * max(a_plus, -a_minus)
    np.testing.assert_allclose(window(rule, lags), a_plus * np.exp(-lags / tau_plus), atol=atol)
    np.testing.assert_allclose(window(rule, -lags), a_minus * np.exp(-lags / tau_minus), atol=atol)


def test_pair_rule_refuses_what_the_chip_cannot_hold() -> None:
    with pytest.raises(ConfigError, match="a_plus >= 0 >= a_minus"):
        pair_rule(1, 1, 2, 100)
    with pytest.raises(ConfigError, match=r"a_plus is 0\.01 weight units; expected .* 0\.125"):
        pair_rule(0.01, -1, 2, 100)
    with pytest.raises(ConfigError, match="a_minus is 1e"):
        pair_rule(1, -1e6, 2, 100)


def test_offset_is_a_vote_on_recent_pre_spikes() -> None:
    up = window(OFFSET, range(5))
    down = window(OFFSET, [*range(7, 30, 5), *range(-10, 0)])
    assert (up > 0.3).all()
    assert (down < -0.3).all()
    np.testing.assert_allclose(window(OFFSET, [0, -5]), [127 / 16 - 4, -4], atol=0.1)


def coincidences(rule: LearningRule, shares: np.ndarray, weight: int, n_steps: int) -> np.ndarray:
    """Weights along a run in which a share of the post spikes has a pre spike in the same step."""
    random = np.random.default_rng(0)
    nodes = {
        "pre": Input((len(shares),)),
        "drive": Input((1,)),
        "wake": Dense(np.array([[254]]), weight_exp=6, sign_mode=SignMode.EXCITATORY),
        "plastic": Dense(
            np.full((1, len(shares)), weight), sign_mode=SignMode.EXCITATORY, rule=rule
        ),
        "post": Neurons((1,), vth=8000, dv=4095),
        "out": Output(),
    }
    edges = (
        ("pre", "plastic"), ("plastic", "post"), ("drive", "wake"), ("wake", "post"), ("post", "out"),
    )  # fmt: skip
    drive = np.zeros((n_steps, 1, 1), dtype=np.int32)
    drive[::50] = 1
    pre = np.zeros((n_steps, 1, len(shares)), dtype=np.int32)
    pre[1:] = (random.random((n_steps - 1, 1, len(shares))) < shares) * drive[:-1]
    trace = simulate(LoihiGraph(nodes, edges), {"pre": pre, "drive": drive}, "s,w", learn=True)
    assert trace.n_spikes["post"] == drive.sum()
    return trace.connections["plastic"].w[:, 0].astype(float)


def test_oja_settles_at_twice_the_trace_seen_by_the_post_spike() -> None:
    shares = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    weights = coincidences(OJA, shares, weight=128, n_steps=40_000)
    settled = weights[10_000:].mean(axis=0)
    np.testing.assert_allclose(settled, np.minimum(2 * 127 * shares, 255), atol=12)


def test_prop_is_proportional_to_the_weight_and_keeps_its_sign() -> None:
    half, full = (window(PROP, [1, 5, -1, -5], weight=w) for w in (64, 128))
    np.testing.assert_allclose(full, 2 * half, atol=2 * NOISE)
    assert (full[:2] > 1).all()
    assert (full[2:] < -1).all()
    inhibitory = window(PROP, [1, -1], weight=-128, sign_mode=SignMode.INHIBITORY)
    np.testing.assert_allclose(inhibitory, [-full[0], -full[2]], atol=2 * NOISE)
    assert (window(PROP, [1, -1], weight=0) == 0).all()


def test_without_reward_there_is_eligibility_but_no_change() -> None:
    assert (window(REWARD_STDP, [*BEFORE, *AFTER]) == 0).all()


def test_reward_makes_the_pair_rule_and_punishment_its_mirror() -> None:
    lags = [1, 5, -1, -5]
    reward = window(REWARD_STDP, lags, third=(127, 0), third_delay=2)
    punishment = window(REWARD_STDP, lags, third=(0, 127), third_delay=2)
    np.testing.assert_allclose(reward, -punishment, atol=NOISE)
    assert (reward[:2] > 0.5).all()
    assert (reward[2:] < -0.5).all()
    later = window(REWARD_STDP, lags, third=(127, 0), third_delay=22)
    # the tag loses 1/16 per step: (15/16)**20 = 0.275
    np.testing.assert_allclose(later, 0.275 * reward, atol=NOISE)


def test_delta_needs_an_error_and_agreement_changes_nothing() -> None:
    lags = [0, 1, 4, -2]
    x1 = np.array([16, 16 * np.exp(-1 / 3), 16 * np.exp(-4 / 3), 0])
    missing = window(DELTA, lags, third=(1, 0))
    np.testing.assert_allclose(missing, x1 / 16, atol=0.2)
    assert (missing[:3] > 0).all()
    np.testing.assert_allclose(window(DELTA, lags, third=(0, 1)), -x1 / 16, atol=0.3)
    assert (window(DELTA, lags, third=(1, 1)) == 0).all()


@pytest.mark.parametrize("error", [1, 40, 127])
def test_three_factor_is_the_product_of_trace_and_signed_factor(error: int) -> None:
    exact = three_factor_rule(exp=-4, tau=0, impulse=64)  # the trace holds one step: 0 or 64
    for third, sign in (((error, 0), 1), ((0, error), -1)):
        change = window(exact, [0, 1], third=third)
        np.testing.assert_allclose(change, [sign * 2**-7 * 64 * error, 0], atol=0.15)
    np.testing.assert_allclose(
        window(THREE_FACTOR, [0], third=(error, 0)), 2**-7 * 16 * error, atol=0.15
    )


def test_measuring_needs_something_to_measure() -> None:
    with pytest.raises(ConfigError, match="0 lags and 32 repeats"):
        measure_window(PAIR, [])
