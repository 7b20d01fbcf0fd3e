"""Integer helpers: exhaustive where small, at the edges and by Hypothesis elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError
from biril_nm.loihi import LOIHI1, SignMode
from biril_nm.loihi.fixed_point import (
    bias_registers,
    decay_toward_zero,
    decay_u_register,
    decay_v_register,
    prepare_weights,
    round_half_away,
    shift_arithmetic,
    sign_mode_of,
    weight_limits,
    weight_step,
    wrap_state,
)

LIMIT = 1 << 23
UNTIMED = settings(deadline=None)  # a busy machine stalls for longer than an example may take
EDGES = sorted(
    {s * (n + d) for n in (0, 1, 4095, 4096, LIMIT, 3 * LIMIT) for d in (-1, 0, 1) for s in (1, -1)}
)


@pytest.mark.parametrize("decay", [0, 1, 2, 400, 2048, 4095, 4096])
def test_decay_rounds_toward_zero(decay):
    for x in EDGES:
        size = abs(x) * (4096 - decay) // 4096
        assert int(decay_toward_zero(x, decay)) == (size if x >= 0 else -size)


def test_decay_of_every_register_keeps_sign_and_symmetry():
    decays = np.arange(4097)
    for x in (1, 4095, 4096, LIMIT - 1, LIMIT):
        positive = decay_toward_zero(x, decays)
        assert_array_equal(decay_toward_zero(-x, decays), -positive)
        assert (np.diff(positive) <= 0).all()
        assert positive[0] == x
        assert positive[-1] == 0


def test_wrap_happens_once_and_is_asymmetric():
    cases = {
        LIMIT - 1: LIMIT - 1,
        LIMIT: LIMIT,
        LIMIT + 1: -LIMIT + 1,
        -LIMIT + 1: -LIMIT + 1,
        -LIMIT: LIMIT,
        -LIMIT - 1: LIMIT - 1,
        3 * LIMIT + 1: LIMIT + 1,  # one wrap is not enough, and no second one follows
        -3 * LIMIT - 1: -LIMIT - 1,
    }
    assert_array_equal(wrap_state(list(cases)), list(cases.values()))


@UNTIMED
@given(st.integers(-3 * LIMIT + 1, 3 * LIMIT))
def test_wrap_keeps_the_value_modulo_24_bits(x):
    wrapped = int(wrap_state(x))
    assert (wrapped - x) % (1 << 24) == 0
    assert -LIMIT < wrapped <= LIMIT


@UNTIMED
@given(st.integers(-(1 << 40), 1 << 40), st.integers(-20, 20))
def test_shift_floors(x, exponent):
    expected = x * 2**exponent if exponent > 0 else x // 2**-exponent
    assert int(shift_arithmetic(x, exponent)) == expected


@pytest.mark.parametrize(
    ("mode", "bits", "given_weights", "expected"),
    [
        (
            "mixed",
            8,
            [-300, -3, -2, -1, 0, 1, 2, 3, 255, 300],
            [-256, -4, -2, -2, 0, 0, 2, 2, 254, 254],
        ),
        ("mixed", 4, [-300, -3, -1, 0, 3, 255], [-256, -32, -32, 0, 0, 224]),
        ("excitatory", 8, [-5, 0, 1, 3, 255, 300], [0, 0, 1, 3, 255, 255]),
        ("excitatory", 1, [127, 128, 255], [0, 128, 128]),
        ("inhibitory", 8, [-300, -3, 0, 5], [-255, -3, 0, 0]),
        ("inhibitory", 4, [-31, -16, -15], [-16, -16, 0]),
    ],
)
def test_weight_preparation_as_in_lava(mode, bits, given_weights, expected):
    assert_array_equal(prepare_weights(given_weights, bits, SignMode(mode)), expected)


@pytest.mark.parametrize("mode", list(SignMode))
@pytest.mark.parametrize("bits", range(1, 9))
def test_preparation_of_every_weight_by_lavas_shifts(mode, bits):
    weights = np.arange(-400, 401)
    low, high = weight_limits(mode)
    n = 8 - bits + (mode is SignMode.MIXED)
    clipped = np.clip(weights, low, high)
    expected = -((-clipped >> n) << n) if mode is SignMode.INHIBITORY else (clipped >> n) << n
    prepared = prepare_weights(weights, bits, mode)
    assert_array_equal(prepared, expected)
    assert_array_equal(prepare_weights(prepared, bits, mode), prepared)
    assert (prepared % weight_step(bits, mode) == 0).all()


def test_preparation_matches_installed_lava():
    utils = pytest.importorskip(
        "lava.utils.weightutils", reason="install the extra: biril-nm[lava]"
    )
    weights = np.arange(-400, 401).reshape(1, -1)
    for mode in SignMode:
        lava_mode = utils.SignMode[mode.name]
        for bits in range(1, 9):
            clipped = utils.clip_weights(weights, lava_mode, num_bits=8)
            expected = utils.truncate_weights(clipped, lava_mode, bits)
            assert_array_equal(prepare_weights(weights, bits, mode), expected)


def test_sign_mode_is_chosen_as_lava_does():
    assert sign_mode_of([0, 0]) is SignMode.EXCITATORY
    assert sign_mode_of([0, 3]) is SignMode.EXCITATORY
    assert sign_mode_of([0, -3]) is SignMode.INHIBITORY
    assert sign_mode_of([1, -1]) is SignMode.MIXED
    assert sign_mode_of([]) is SignMode.EXCITATORY


def test_weight_bits_out_of_range_are_refused():
    with pytest.raises(RangeError, match="weight_bits is 9; expected 1 to 8"):
        prepare_weights([1], 9, SignMode.MIXED)


@UNTIMED
@given(st.floats(-1e6, 1e6))
def test_halves_round_away_from_zero(x):
    rounded = int(round_half_away(x))
    assert abs(rounded - x) <= 0.5
    assert int(round_half_away(-x)) == -rounded
    assert [int(round_half_away(h)) for h in (0.5, 1.5, -0.5, -2.5)] == [1, 2, -1, -3]


def test_decay_registers_of_fractions():
    assert [decay_v_register(f) for f in (0.0, 0.1, 0.5, 1.0)] == [0, 410, 2048, 4096]
    assert [decay_u_register(f) for f in (1 / 4096, 0.5, 1.0)] == [0, 2047, 4095]
    for fraction in (-0.1, 1.1, float("inf")):
        with pytest.raises(RangeError, match="smaller dt_s"):
            decay_v_register(fraction)
    with pytest.raises(ConfigError, match="fraction is nan; expected a number"):
        decay_v_register(float("nan"))
    with pytest.raises(RangeError, match="shorter tau_syn or a longer dt_s"):
        decay_u_register(1e-5)


@settings(UNTIMED, max_examples=50)
@given(st.lists(st.floats(-500_000, 500_000), min_size=1, max_size=5))
def test_bias_registers_take_the_smallest_exponent(bias):
    mantissa, exponent = bias_registers(bias, LOIHI1.bias_mant_max, LOIHI1.bias_exp_max)
    assert np.abs(mantissa).max() <= LOIHI1.bias_mant_max
    assert np.abs(mantissa * 2.0**exponent - bias).max() <= 2.0 ** (exponent - 1)
    if exponent:
        assert np.floor(max(map(abs, bias)) / 2 ** (exponent - 1) + 0.5) > LOIHI1.bias_mant_max


def test_bias_too_large_is_refused():
    with pytest.raises(RangeError, match=r"exceeds 4095 \* 2\*\*7"):
        bias_registers([600_000], LOIHI1.bias_mant_max, LOIHI1.bias_exp_max)
