"""Graphs in unusual form: what means nothing is refused by name."""

from __future__ import annotations

import nir
import numpy as np
import pytest

from biril_nm.errors import BirilError, ConfigError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.lowering.passes import paths
from biril_nm.hardware_sim import simulate
from tests.support.nir_graphs import (
    DT,
    chain,
    graph_of,
    grid,
    neurons,
    sink,
    small,
    source,
    spikes,
)

# --- refused ------------------------------------------------------------------------------------

NAN = np.full((4, 6), np.nan)
INF = np.full((4, 6), np.inf)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fc__weight": NAN},
            r"'fc' \(Linear\): weight is not finite in 24 of 24 values; expected finite",
        ),
        ({"fc__weight": INF}, r"'fc' \(Linear\): weight is not finite"),
        ({"fc__weight": None}, r"'fc' \(Linear\): weight is None; expected numbers"),
        (
            {"fc__weight": np.ones((4, 6)) * 1j},
            r"'fc'.*weight is an array of complex128, shape \(4, 6\)",
        ),
        ({"fc__weight": [[1.0], [1.0, 2.0]]}, r"'fc'.*weight is \[\[1.0\], .*expected numbers"),
        ({"fc__weight": np.zeros((0, 6))}, r"'fc' \(Linear\): weight is .*expected numbers"),
        (
            {"fc__weight": np.ones((2, 4, 6))},
            r"'fc' \(Linear\) has weights \(2, 4, 6\) and receives",
        ),
        (
            {"fc__weight": np.full((4, 6), 1e300)},
            r"'n': 'fc' is 2.5e\+299 thresholds.*Reduce it",
        ),
        (
            {"n__v_threshold": np.full(4, 1e-300)},
            r"'n': 'fc' is .* thresholds in one step; expected less",
        ),
        ({"n__v_threshold": "high"}, r"'n' \(IF\): v_threshold is 'high'; expected numbers"),
        (
            {"n__v_threshold": np.array([1, 1, 1, np.inf])},
            r"'n' \(IF\): v_threshold is not finite in 1",
        ),
        (
            {"n__v_threshold": np.ones(3)},
            r"'n' \(IF\) has parameters of shapes \(3,\), \(4,\); expected one shape",
        ),
        ({"n__v_threshold": np.ones((4, 1))}, r"'n' \(IF\) has parameters of shapes"),
        (
            {"n__v_threshold": np.zeros(4)},
            r"'n' \(IF\): the threshold is 0 above v_reset",
        ),
        ({"in__input_type": None}, r"shape of input 'in' is None; expected one or more lengths"),
        (
            {"in__input_type": {"input": np.array([])}},
            r"shape of input 'in' is .*expected one or more",
        ),
        (
            {"in__input_type": {"input": np.array([0])}},
            r"shape of input 'in' is .*; expected whole lengths from 1",
        ),
        (
            {"in__input_type": {"input": np.array([2.5])}},
            r"shape of input 'in' is .*; expected whole lengths from 1",
        ),
        (
            {"in__input_type": {"input": [10**6, 10**6]}},
            r"shape of input 'in'.*at most 16777216 values in all",
        ),
        ({"n__metadata": [1]}, r"node 'n' \(IF\): metadata is a list; expected a dict"),
        (
            {"n__metadata": {"dt": "1 ms"}},
            r"node 'n' \(IF\): metadata 'dt' is '1 ms'; expected the width of a step",
        ),
        ({"n__metadata": {"dt": np.nan}}, r"'dt' is nan; expected the width of a step"),
        ({"n__metadata": {"reset": 3}}, r"node 'n' \(IF\): metadata 'reset' is 3; expected text"),
        ({"n__metadata": {"reset": b"\xff"}}, r"metadata 'reset' is b'.xff'; expected text"),
        (
            {"n__metadata": {"if_integration": "exact"}},
            r"'if_integration' is 'exact'; expected 'per_step' or 'continuous'",
        ),
        (
            {"in__metadata": {"message_bits": 10**9}},
            r"'message_bits' is 1000000000; .*from 0 to 31",
        ),
        (
            {"in__metadata": {"message_bits": [1, 2]}},
            r"node 'in' \(Input\): metadata 'message_bits'",
        ),
        ({"in__metadata": {"scale": 0}}, r"node 'in' \(Input\): metadata 'scale' is 0; .*above 0"),
        ({"fc__metadata": {"lag": 2}}, r"node 'fc' \(Linear\): metadata 'lag' is 2; .*from 0 to 1"),
        ({"fc__metadata": {"dt": 2 * DT}}, r"dt of the graph's nodes is .*; expected one value"),
    ],
)
def test_parameters_and_metadata_without_meaning_are_refused(changes, message):
    with pytest.raises(BirilError, match=message):
        lower(small(**changes), reset="zero")


def test_a_gain_without_end_is_refused():
    lif = neurons("LIF", (4,), r=np.full(4, np.inf))
    with pytest.raises(
        UnsupportedNodeError, match=r"'n' \(LIF\): weight_gain is not finite; .*Write beta = 1"
    ):
        lower(chain((6,), ("fc", nir.Linear(grid((4, 6)))), ("n", lif)), reset="zero")


WIRES = [("in", "fc"), ("fc", "n"), ("n", "out")]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [*WIRES, ("fc", "n")],
            r"edge \('fc', 'n'\) is given twice; expected a set of edges, as in NIR. Remove",
        ),
        (
            [*WIRES, ("n", "x")],
            r"edge \('n', 'x'\) has the unknown ends x; expected two nodes of the graph",
        ),
        ([*WIRES, ("in", "fc", "n")], r"edge .* has 3 ends; expected two nodes of the graph"),
        ([*WIRES, ("n", "in")], r"leads into 'in', an Input; .*Join the nodes themselves"),
        ([*WIRES, ("out", "fc")], r"leads out of 'out', an Output; .*Join the nodes themselves"),
        ([*WIRES, ("in", "out")], r"output 'out' reads from in; expected a neuron"),
        (WIRES[:2], r"output 'out' is not reached by neurons; .*Connect or remove it"),
        (
            [("in", "n"), ("n", "out")],
            r"node 'n' has parameters of shape \(4,\); expected \(6,\)",
        ),
    ],
)
def test_wires_without_meaning_are_refused(edges, message):
    graph = small()
    graph.edges = edges
    with pytest.raises(BirilError, match=message):
        lower(graph, reset="zero")


def test_an_output_cannot_add_neurons_up():
    nodes = {"in": source(4), "n": neurons("IF", (4,)), "m": neurons("IF", (4,)), "out": sink(4)}
    edges = [("in", "n"), ("n", "m"), ("n", "out"), ("m", "out")]
    with pytest.raises(
        UnsupportedNodeError, match=r"output 'out' adds up 'n' and 'm'.*output of its own"
    ):
        lower(graph_of(nodes, edges), reset="zero")


def test_nodes_that_no_input_reaches():
    """Neurons aside stay silent; a bias that comes from nowhere is refused."""
    nodes = {
        **small().nodes,
        "aside": nir.IF(np.array(1.0), np.array(1.0)),
        "end": nir.Linear(grid((2, 4))),
    }
    lowered = lower(graph_of(nodes, [*WIRES, ("n", "end")]), reset="zero")
    x = spikes((6,))
    trace, alone = (simulate(g, x, record=("s",)) for g in (lowered, lower(small(), reset="zero")))
    np.testing.assert_array_equal(trace["n"].s, alone["n"].s)
    assert trace["n"].s.any() and not trace["aside"].s.any()
    assert lowered.neurons["aside"].shape == (1,)
    nodes["a"], nodes["b"] = (nir.Affine(np.eye(3), np.ones(3)) for _ in "ab")
    with pytest.raises(
        UnsupportedNodeError, match=r"'a' \(Affine\) has a bias and no input; expected a source"
    ):
        lower(graph_of(nodes, [*WIRES, ("a", "b"), ("b", "a")]), reset="zero")


def test_a_node_must_send_the_same_shape_to_all():
    nodes = {"a": source(2, 3), "b": source(3, 2), "s": nir.Scale(np.array(1.0)),
             "n": nir.IF(np.array(1.0), np.array(1.0)), "out": sink(6)}  # fmt: skip
    edges = [("a", "s"), ("b", "s"), ("s", "n"), ("n", "out")]
    with pytest.raises(
        ConfigError, match=r"'s' \(Scale\) sends shape \(3, 2\) for one source; expected \(2, 3\)"
    ):
        lower(graph_of(nodes, edges), reset="zero")


def test_names_that_meet_when_graphs_dissolve_are_refused():
    inner = graph_of({"input": source(4), "n": neurons("IF", (4,)), "output": sink(4)})
    nodes = {"in": source(4), "a": inner, "a.n": neurons("IF", (4,)), "out": sink(4)}
    with pytest.raises(ConfigError, match=r"'a.n' is the name of two nodes; .*Rename one"):
        lower(graph_of(nodes), reset="zero")
    with pytest.raises(
        ConfigError,
        match=r"edge \('n', 'gone'\) has the unknown ends gone; .* graph 'a'",
    ):
        inner.edges.append(("n", "gone"))
        lower(graph_of(nodes), reset="zero")


def test_endless_nesting_is_refused():
    inner = graph_of({"input": source(4), "n": neurons("IF", (4,)), "output": sink(4)})
    inner.nodes["inner"] = inner
    with pytest.raises(
        ConfigError,
        match=r"nested graphs at 'a.inner.* is 33; expected at most 32. Dissolve the inner",
    ):
        lower(graph_of({"in": source(4), "a": inner, "out": sink(4)}), reset="zero")


def test_more_ways_than_can_be_followed_are_refused(monkeypatch):
    monkeypatch.setattr(paths, "MAX_STEPS", 500)
    nodes, edges, at = {"in": source(4)}, [], "in"
    for i in range(40):
        for name in "abc":
            nodes[f"{name}{i}"] = nir.Scale(np.full(4, 0.5))
        edges += [(at, f"a{i}"), (at, f"b{i}"), (f"a{i}", f"c{i}"), (f"b{i}", f"c{i}")]
        at = f"c{i}"
    nodes |= {"n": neurons("IF", (4,)), "out": sink(4)}
    edges += [(at, "n"), ("n", "out")]
    with pytest.raises(UnsupportedNodeError, match=r"paths from 'in' .* is above 500.*Put neurons"):
        lower(graph_of(nodes, edges), reset="zero")


def test_a_loop_through_delays_of_several_lengths_is_no_neuron():
    nodes = {"in": source(4), "a": nir.Scale(np.ones(4)), "d": nir.Delay(np.arange(4) * DT),
             "n": neurons("IF", (4,)), "out": sink(4)}  # fmt: skip
    edges = [("in", "a"), ("a", "d"), ("d", "a"), ("d", "n"), ("n", "out")]
    with pytest.raises(
        UnsupportedNodeError, match=r"the loop a -> d\[0\] has no neuron; expected one"
    ):
        lower(graph_of(nodes, edges), reset="zero")


@pytest.mark.parametrize("dt", [0.0, -1e-3, np.nan, np.inf])
def test_a_step_has_a_finite_width(dt):
    graph = small()
    graph.metadata = {}
    with pytest.raises(ConfigError, match=r"dt_s is .*; expected (a number|the width of a step)"):
        lower(graph, dt_s=dt, reset="zero")


def test_steps_that_agree_up_to_float32_are_one():
    graph = small(n__metadata={"dt": np.float32(DT)}, fc__metadata={"dt": np.array(DT)})
    assert lower(graph, dt_s=DT, reset="zero").metadata["dt_s"] == pytest.approx(DT)
