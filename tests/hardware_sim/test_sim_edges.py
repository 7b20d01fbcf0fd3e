"""Edges of the integer ranges: wrap, clip, 32-bit overflow, exponents, convolution modulo, registers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from tests.support.sim_checks import assert_equals_reference


def one_layer(connection, pre, post, message_bits=0, **registers):
    return LoihiGraph(
        {
            "in": Input(pre, message_bits),
            "c": connection,
            "n": Neurons(post, **registers),
            "out": Output(),
        },
        (("in", "c"), ("c", "n"), ("n", "out")),
    )


def payloads(rows, batch=1):
    return np.repeat(np.array(rows)[:, None, :], batch, axis=1)


@pytest.mark.parametrize("a", [131071, 131072, 131073, 393216, 393217, (1 << 25) - 1, 1 << 25])
@pytest.mark.parametrize("sign", [1, -1])
def test_u_wraps_once_and_overflows_32_bits_as_lava_does(a, sign):
    """a << 6 around +-2**23 (2**17 in a), 3 * 2**23 and 2**31."""
    weight = Dense([[2 * sign, 2 * sign]])
    graph = one_layer(weight, (2,), (1,), 30, du=100, dv=50, vth=131071, bias_mant=-5)
    half = a // 2
    spikes = payloads([[half, 0], [0, 0], [half, 1], [0, 0], [1, half]])
    assert_equals_reference(graph, spikes)


@pytest.mark.parametrize(
    ("x", "u"),
    [
        ((1 << 23) - 128, (1 << 23) - 128),
        (1 << 23, 1 << 23),  # outside 24 bit, and left there
        ((1 << 23) + 128, -(1 << 23) + 128),
        (-(1 << 23) + 128, -(1 << 23) + 128),
        (-(1 << 23), 1 << 23),
        (-(1 << 23) - 128, (1 << 23) - 128),
        (1 << 31, 0),  # a << 6 overflows to -2**31, wrapped once: see below
    ],
)
def test_u_at_the_edges_in_closed_form(x, u):
    sign = -1 if x < 0 else 1
    graph = one_layer(Dense([[sign * 2]]), (1,), (1,), 30, vth=131071)
    trace = simulate(graph, payloads([[abs(x) // 128]]), record="u")
    expected = -(1 << 31) + (1 << 24) if x == 1 << 31 else u
    assert int(trace["n"].u[0, 0, 0]) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_v_clips(sign):
    graph = one_layer(
        Dense([[sign * 254]]),
        (1,),
        (1,),
        9,
        du=0,
        dv=0,
        vth=131071,
        bias_mant=sign * 4095,
        bias_exp=7,
    )
    spikes = payloads([[510]] * 12)
    n_spikes = assert_equals_reference(graph, spikes)
    lowest = int(simulate(graph, spikes, record="v")["n"].v.min())
    assert n_spikes > 0 if sign > 0 else lowest == -(1 << 23) + 1  # +2**23 - 1 fires at once


def test_threshold_is_strict():
    graph = one_layer(Dense([[2]]), (1,), (1,), 8, dv=0, vth=10)
    spikes = payloads([[5], [0], [1]])  # v = 640 = vth << 6: no spike; 640 + 128: spike
    trace = simulate(graph, spikes, record="s,v")
    assert trace["n"].s.ravel().tolist() == [0, 0, 1]
    assert trace["n"].v.ravel().tolist() == [640, 640, 0]


@pytest.mark.parametrize("exponent", [-40, -32, -31, -9, -1, 0, 1, 9, 31, 32, 40])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
@pytest.mark.parametrize("delay", [0, 2])
def test_every_exponent_acts_on_the_sum(exponent, kind, delay):
    r = np.random.default_rng(abs(exponent))
    weight = r.integers(-256, 256, (3, 5))
    fields = {"weight_exp": exponent, "delay": delay}
    connection = (
        Dense(weight, **fields)
        if kind == "dense"
        else Sparse(scipy.sparse.csr_matrix(weight), **fields)
    )
    graph = one_layer(connection, (5,), (3,), 24, du=200, dv=30, vth=1, bias_mant=700)
    spikes = r.integers(0, 1 << 24, (6, 2, 5))
    assert assert_equals_reference(graph, spikes) > 0


@pytest.mark.parametrize("delay", [0, 3])
def test_sums_beyond_32_bits_shifted_right(delay):
    """Dense wraps before the shift, DelayDense sums in 64 bits: Lava's own difference."""
    weight = np.full((2, 6), 255)
    connection = Dense(weight, weight_exp=-4, sign_mode="excitatory", delay=delay)
    graph = one_layer(connection, (6,), (2,), 23, du=4095, vth=131071)
    spikes = payloads([[(1 << 23) - 1] * 6, [1 << 22] * 6, [3] * 6, [0] * 6])
    assert_equals_reference(graph, spikes)
    total = 6 * 255 * (1 << 22)
    arriving = simulate(graph, spikes, record="u")["n"].u[1, 0, 0]
    wrapped = (total + (1 << 31)) % (1 << 32) - (1 << 31)
    shifted = (wrapped if delay == 0 else total) >> 4
    x = ((shifted << 6) + (1 << 31)) % (1 << 32) - (1 << 31)
    assert arriving == (x - (1 << 24) if x > 1 << 23 else x + (1 << 24) if x <= -(1 << 23) else x)


def test_floor_shift_after_the_sum():
    """Three weights of -2 with exponent -2 give -6 >> 2 = -2, not 3 * (-2 >> 2)."""
    graph = one_layer(Dense([[-2, -2, -2]], weight_exp=-2), (3,), (1,), vth=1)
    assert simulate(graph, np.ones((1, 1, 3), int), record="u")["n"].u.item() == -2 * 64


@pytest.mark.parametrize("scale", [100, 200_000, 1 << 28])
def test_convolution_passes_modulo_24_bits(scale):
    r = np.random.default_rng(scale)
    conv = Conv(r.integers(-scale, scale, (2, 3, 3, 2)), stride=(1, 2), padding=1)
    graph = one_layer(conv, (3, 4, 5), (2, 4, 3), 6, du=4095, dv=100, vth=100)
    assert assert_equals_reference(graph, r.integers(0, 64, (5, 2, 3, 4, 5))) > 0


def test_each_of_two_convolutions_passes_the_modulo_alone():
    wide = Conv(np.full((1, 1, 1, 1), (1 << 23) - 1))
    graph = LoihiGraph(
        {
            "in": Input((1, 2, 2)),
            "c1": wide,
            "c2": Conv(np.full((1, 1, 1, 1), 1 << 23)),
            "n": Neurons((1, 2, 2), vth=131071),
        },
        (("in", "c1"), ("in", "c2"), ("c1", "n"), ("c2", "n")),
    )
    assert_equals_reference(graph, np.ones((2, 1, 1, 2, 2), int))


def test_illegal_registers_run_as_in_lava():
    """Decays beyond 12 bits, a bias beyond 16 and thresholds beyond 25 bits: no check in Lava."""
    r = np.random.default_rng(0)
    for registers in (
        {"du": -1, "dv": 4096, "vth": 50},
        {"du": 4096, "dv": -5, "vth": 50, "bias_mant": 40000},
        {"du": 5000, "dv": 5000, "vth": 1 << 25, "bias_mant": 1 << 20, "bias_exp": 15},
        {"du": r.integers(-9, 9000, 3), "dv": 7, "vth": np.full(3, (1 << 25) + 9), "bias_exp": 33},
    ):
        graph = one_layer(Dense(r.integers(-256, 256, (3, 4))), (4,), (3,), 12, **registers)
        assert_equals_reference(graph, r.integers(0, 1 << 12, (9, 2, 4)))


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "<i2", ">i2", "<u4", ">i4", "<i8", ">i8", ">u8"])
def test_binary_inputs_take_any_integers_that_are_0_or_1(kind):
    graph = one_layer(Dense([[2, 4, 8]]), (3,), (1,), vth=1000, dv=0)
    spikes = np.random.default_rng(0).integers(0, 2, (5, 40, 3))
    expected = simulate(graph, spikes.astype(np.uint8), record="u")["n"].u
    assert np.unique(expected).size > 4
    for given in (spikes.astype(kind), np.asfortranarray(spikes.astype(kind))[:, ::-1][:, ::-1]):
        assert_array_equal(simulate(graph, given, record="u")["n"].u, expected)
    if kind == "?":
        return
    for wrong in {2, 1 << (8 * np.dtype(kind).itemsize - 2), -1 if "i" in kind else 3}:
        bad = spikes.astype(kind)
        bad[4, 39, 2] = wrong
        with pytest.raises(RangeError, match="allows 0 to 1"):
            simulate(graph, bad)


def test_no_input_spikes_and_a_node_without_connections():
    graph = LoihiGraph(
        {
            "in": Input((2,)),
            "c": Dense([[2, 2]]),
            "n": Neurons((1,), vth=5),
            "alone": Neurons((2,), vth=1, bias_mant=100),
        },
        (("in", "c"), ("c", "n")),
    )
    trace = simulate(graph, np.zeros((4, 2, 2), int))
    assert trace.n_spikes == {"n": 0, "alone": 16}
    assert_equals_reference(graph, np.zeros((4, 2, 2), int))


def test_deep_net_with_samples_shorter_than_its_latency():
    """Latency beyond the sample period: several samples are in flight at once."""
    nodes, edges, source = {"in": Input((3,))}, [], "in"
    r = np.random.default_rng(4)
    for i in range(7):
        nodes[f"c{i}"] = Dense(r.integers(-60, 120, (3, 3)))
        nodes[f"n{i}"] = Neurons((3,), vth=40, dv=100, bias_mant=300)
        edges += [(source, f"c{i}"), (f"c{i}", f"n{i}")]
        source = f"n{i}"
    graph = LoihiGraph(nodes, tuple(edges))
    assert assert_equals_reference(graph, r.integers(0, 2, (3, 5, 3))) > 0


def test_conv_that_lava_cannot_run_is_refused():
    conv = Conv(np.ones((1, 1, 1, 1)), weight_exp=-1)
    with pytest.raises(ConfigError, match=r"Conv 'c' has weight_exp -1.*shift the kernel"):
        simulate(one_layer(conv, (1, 1, 1), (1, 1, 1), vth=1), np.ones((1, 1, 1, 1, 1), int))
    conv = Conv(np.full((1, 1, 1, 1), 1 << 20), weight_exp=12)
    with pytest.raises(RangeError, match=r"Conv 'c'.*32 bits.*smaller weights"):
        simulate(one_layer(conv, (1, 1, 1), (1, 1, 1), vth=1), np.ones((1, 1, 1, 1, 1), int))
    conv = Conv(np.full((1, 1, 1, 1), 1 << 30))
    with pytest.raises(RangeError, match=r"Conv 'c'.*2\*\*53.*message_bits"):
        simulate(one_layer(conv, (1, 1, 1), (1, 1, 1), 30, vth=1), np.ones((1, 1, 1, 1, 1), int))


@pytest.mark.parametrize("delay", [1, 3])
def test_a_constant_image_behind_a_delay_arrives_once_in_a_run_of_many_blocks(delay, monkeypatch):
    """The delay counts from the first step of the sample, not from that of each block of steps."""
    monkeypatch.setattr("biril_nm.hardware_sim.engine.blocks.SCRATCH_BYTES", 1)
    nodes = {"in": Input((2,)), "near": Dense([[2, 4]]), "far": Dense([[6, 8]], delay=delay)}
    nodes |= {"x": Input((1,)), "x_in": Dense([[2]]), "n": Neurons((1,), vth=1000)}
    edges = [
        ("in", "near"),
        ("near", "n"),
        ("in", "far"),
        ("far", "n"),
        ("x", "x_in"),
        ("x_in", "n"),
    ]
    graph = LoihiGraph(nodes, tuple(edges))
    image = np.broadcast_to(np.ones((1, 1, 2), np.uint8), (9, 1, 2))
    spikes = {"in": image, "x": np.ones((9, 1, 1), np.uint8)}
    wanted = simulate(graph, {**spikes, "in": image.copy()}, record="v")["n"].v
    assert_array_equal(simulate(graph, spikes, record="v")["n"].v, wanted)
    assert wanted[-1, 0, 0] == 64 * (9 * 8 + (9 - delay) * 14)
