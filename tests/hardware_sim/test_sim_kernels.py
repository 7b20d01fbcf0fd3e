"""Compiled loops against the integer helpers and against explicit sums."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.compartments import CUBA_LIF
from biril_nm.hardware_sim.engine.components import execution_order
from biril_nm.hardware_sim.engine.conv_tables import ConvForm, conv_tables
from biril_nm.hardware_sim.engine.layout import internal_order
from biril_nm.hardware_sim.engine.program import compile_graph
from biril_nm.hardware_sim.kernels.lanes import FEW, LANES, MASK
from biril_nm.hardware_sim.kernels.loops import advance
from biril_nm.hardware_sim.kernels.models import model_registers
from biril_nm.hardware_sim.kernels.records import Cells, Clock, Node, Probes, Registers
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, conv_output_shape
from biril_nm.loihi.fixed_point import decay_toward_zero, wrap_state

LIMIT = 1 << 23
NO_MORE = np.empty((1, 0, 0), np.int64)  # CUBA-LIF has no state beyond u and v
NOTHING = Probes(
    np.empty((0, 0, 0), np.uint8),
    np.empty((0, 0, 0), np.int32),
    np.empty((0, 0, 0), np.int32),
)


def one_step(a, u, v, du, dv, bias, vth, declared, shared):
    """One step of the kernel from a given state."""
    n = len(u)
    registers = [np.asarray(x, np.int32) for x in (4096 - du - 1, 4096 - dv, bias, vth)]
    registers = [r.reshape(1) if shared else np.broadcast_to(r, n).copy() for r in registers]
    s = np.zeros((1, 1, -(-n // MASK) * MASK), np.uint8)
    u, v = np.array([u], np.int32), np.array([v], np.int32)
    a = np.array(a, np.int32).reshape(1, 1, n)
    record = Registers(*registers)
    if declared:
        record = model_registers(CUBA_LIF, np.stack(registers).astype(np.int64))
    node = Node(Cells(s, 0, u, v, NO_MORE), record, NOTHING, Clock(0, 0, 0, 0, 0))
    count = advance(a, 0, 1, node)
    assert count == s.sum()
    return s[0, 0, :n], u[0], v[0]


@pytest.mark.parametrize("form", ["shared", "each", "declared"])
@pytest.mark.parametrize("du", [0, 1, 999, 4094, 4095])
@pytest.mark.parametrize("dv", [0, 1, 2047, 4096])
def test_every_form_of_the_step_equals_the_integer_helpers(form, du, dv):
    r = np.random.default_rng(du + dv)
    edges = np.array([0, 1, 4095, 4096, 4097, LIMIT - 1, LIMIT])
    u = np.concatenate([edges, -edges[:-1], r.integers(-LIMIT, LIMIT, 200)])
    v = np.clip(r.permutation(u), -LIMIT + 1, LIMIT - 1)
    a = r.integers(-(1 << 18), 1 << 18, u.size) * (r.random(u.size) < 0.7)
    bias, vth = -777, 30_000 << 6
    s, u_next, v_next = one_step(a, u, v, du, dv, bias, vth, form == "declared", form == "shared")
    x = wrap_state(decay_toward_zero(u, du + 1) + (a << 6))
    y = np.clip(decay_toward_zero(v, dv) + x + bias, -LIMIT + 1, LIMIT - 1)
    assert_array_equal(u_next, x)
    assert_array_equal(s, y > vth)
    assert_array_equal(v_next, np.where(y > vth, 0, y))
    assert 0 < s.sum() < s.size


def test_clearing_and_gate():
    """Period 4, phase 1: cleared at 1, 5, ...; with 2 active steps silent at 0, 3, 4, 7, ..."""
    for active, expected in ((0, [1, 1, 2, 3, 4, 1, 2, 3, 4]), (2, [0, 1, 2, 0, 0, 1, 2, 0, 0])):
        v_rows = np.zeros((1, 9, 1), np.int32)
        s = np.zeros((1, 9, MASK), np.uint8)
        u, v = np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32)
        registers = Registers(*(np.array([x], np.int32) for x in (0, 4096, 1, 99)))
        a, probes = np.zeros((1, 9, 1), np.int32), NOTHING._replace(v=v_rows)
        advance(
            a, 0, 9, Node(Cells(s, 0, u, v, NO_MORE), registers, probes, Clock(0, 0, 4, 1, active))
        )
        assert v_rows.ravel().tolist() == expected


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_sums_of_neurons_without_memory_need_no_u(shared, left, kind):
    """The short form equals the general one as long as the input stays inside 24 bits."""
    r = np.random.default_rng(left)
    n, dv, limit = 150, 300, (1 << 17) >> left
    sums = np.clip(r.integers(-limit + 1, limit, n), np.iinfo(kind).min, np.iinfo(kind).max)
    v = np.concatenate([[0, LIMIT - 1, -LIMIT + 1, 4095, -4096], r.integers(-LIMIT, LIMIT, n - 5)])
    v = np.clip(v, -LIMIT + 1, LIMIT - 1)
    bias, vth = (np.full(n, x) if shared else r.integers(-x, x, n) for x in (777, 300_000))
    s = np.zeros((1, 1, -(-n // MASK) * MASK), np.uint8)
    state = np.array([v], np.int32)
    registers = [np.zeros(1), np.full(1, 4096 - dv), bias[:1] if shared else bias]
    registers = [np.asarray(x, np.int32) for x in (*registers, vth[:1] if shared else vth)]
    cells, clock = Cells(s, 0, np.empty((1, 0), np.int32), state, NO_MORE), Clock(0, 0, 0, 0, 0)
    a = (sums << left).astype(np.int32).reshape(1, 1, n)
    count = advance(a, 0, 1, Node(cells, Registers(*registers), NOTHING, clock))
    y = decay_toward_zero(v, dv) + (sums << left + 6) + bias
    y = np.clip(y, -LIMIT + 1, LIMIT - 1)
    assert_array_equal(s[0, 0, :n], y > vth)
    assert_array_equal(state[0], np.where(y > vth, 0, y))
    assert 0 < count == s.sum() < n


@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channel_first", [False, True])
def test_conv_tables_hold_every_synapse_once(stride, dilation, groups, channel_first):
    r = np.random.default_rng(0)
    weight = r.integers(1, 1 << 20, (4, 4 // groups, 2, 3))
    node = Conv(weight, stride, (1, 2), dilation, groups)
    pre = (4, 5, 8)
    post = conv_output_shape(node, pre)
    weights, n_sums = conv_tables(node, weight.astype(np.int64), pre, post, ConvForm(channel_first))
    values, pixels, steps, order = weights
    found = np.zeros((int(np.prod(pre)), int(np.prod(post))), dtype=np.int64)
    divisor, factor, shift, first, kernel, group_in, n_group = order
    assert (divisor, first) == ((40, 1) if channel_first else (4, 0))
    for j in range(len(found)):
        assert j * factor >> shift == j // divisor
        c, pixel = divmod(j, divisor) if channel_first else divmod(j, divisor)[::-1]
        o, w, lines, runs, whole, small, length = (int(x) for x in pixels[pixel])
        assert whole % LANES == 0 == small % FEW and whole <= small <= length < small + FEW
        o, w = o + (c // group_in * n_group if n_group else 0), w + c * kernel
        sums = np.zeros(n_sums, np.int64)
        for line in range(lines):
            for run in range(runs):
                to, at = o + line * steps[0] + run * steps[2], w + line * steps[1] + run * steps[3]
                assert to + length <= n_sums and at + length <= values.size
                sums[to : to + length] += values[at : at + length]
        assert not sums[found.shape[1] :].any()
        found[j] = sums[: found.shape[1]]
    expected = np.zeros((*pre, *post), dtype=np.int64)
    for o, oy, ox in np.ndindex(*post):
        for i, ky, kx in np.ndindex(*weight.shape[1:]):
            y = oy * stride[0] - 1 + ky * dilation[0]
            x = ox * stride[1] - 2 + kx * dilation[1]
            if 0 <= y < pre[1] and 0 <= x < pre[2]:
                c = o // (4 // groups) * (4 // groups) + i
                expected[c, y, x, o, oy, ox] = weight[o, i, ky, kx]
    sources = np.arange(len(found)) if channel_first else internal_order(pre)
    expected = expected.reshape(found.shape)[sources][:, internal_order(post)]
    assert_array_equal(found, expected)
    if groups == 1 and dilation == (1, 1):
        assert pixels["runs"].max() == 1


def test_execution_order_puts_sources_first_and_joins_loops():
    nodes = {"in": Input((1,))}
    edges = []
    for source, target in [("in", "a"), ("a", "b"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "d")]:
        nodes[f"{source}{target}"] = Dense([[2]])
        nodes.setdefault(target, Neurons((1,), vth=1))
        edges += [(source, f"{source}{target}"), (f"{source}{target}", target)]
    order = execution_order(LoihiGraph(nodes, tuple(edges)))
    assert [(set(c.names), c.looped) for c in order] == [
        ({"a"}, False),
        ({"b", "c"}, True),
        ({"d"}, True),
    ]
    assert order[1].names == ("b", "c")


def test_deep_graph_is_ordered_without_recursion():
    nodes, edges = (
        {"in": Input((1,)), "n0": Neurons((1,), vth=1), "c": Dense([[2]])},
        [("in", "c"), ("c", "n0")],
    )
    for i in range(1500):
        nodes[f"c{i}"], nodes[f"n{i + 1}"] = Dense([[2]]), Neurons((1,), vth=1)
        edges += [(f"n{i}", f"c{i}"), (f"c{i}", f"n{i + 1}")]
    order = execution_order(LoihiGraph(nodes, tuple(edges)))
    assert [c.names[0] for c in order] == [f"n{i}" for i in range(1501)]


def test_graph_is_compiled_once_and_forgotten_with_it():
    graph = LoihiGraph(
        {"in": Input((1,)), "c": Dense([[2]]), "n": Neurons((1,), vth=1)}, (("in", "c"), ("c", "n"))
    )
    program = compile_graph(graph)
    assert compile_graph(graph) is program
    assert compile_graph(graph.with_node("n", vth=2)) is not program


def test_internal_order_is_channels_last():
    order = internal_order((2, 2, 3))
    assert order.tolist() == [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]
    assert internal_order((4,)).tolist() == [0, 1, 2, 3]
