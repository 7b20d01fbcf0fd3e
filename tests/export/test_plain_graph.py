"""Graphs in unusual form: what is legal lowers and behaves as NIR says, the rest is refused by name."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import torch

from biril_nm.errors import BirilError, ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages
from biril_nm.hardware_sim import simulate
from tests.support.nir_graphs import DT, chain, compare, grid, neurons, spikes


def graph_of(nodes, edges=None, **metadata):
    edges = list(pairwise(nodes)) if edges is None else edges
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT, **metadata}, type_check=False)


def source(*shape, **metadata):
    return nir.Input({"input": np.array(shape)}, metadata=metadata)


def sink(*shape):
    return nir.Output({"output": np.array(shape)})


def small(**changes):
    """Input (6,) -> Linear -> IF (4,) -> Output, with attributes of nodes replaced: ``n__r=...``."""
    nodes = {"in": source(6), "fc": nir.Linear(grid((4, 6))), "n": neurons("IF", (4,))}
    graph = graph_of({**nodes, "out": sink(4)})
    for key, value in changes.items():
        name, field = key.split("__")
        setattr(graph.nodes[name], field, value)
    return graph


def single(node, shape, neuron=None):
    """Input -> node -> neurons with shared parameters."""
    neuron = neuron or nir.IF(r=np.array(1.0), v_threshold=np.array(4.0))
    return graph_of({"in": source(*shape), "x": node, "n": neuron, "out": sink(1)})


# --- legal --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "container",
    [
        torch.from_numpy,
        lambda a: torch.from_numpy(a).float().requires_grad_(),
        lambda a: a.tolist(),
        lambda a: a.astype(np.float32),
        np.asfortranarray,
        lambda a: a.astype(">f8"),
    ],
)
def test_parameters_of_any_container(container):
    graph = small()
    wanted = lower(graph, reset="zero")
    graph.nodes["fc"].weight = container(np.asarray(graph.nodes["fc"].weight))
    graph.nodes["n"].v_threshold = container(np.asarray(graph.nodes["n"].v_threshold))
    assert lower(graph, reset="zero") == wanted


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float16, bool])
def test_small_integers_are_kept_exactly(dtype):
    """Weights that are multiples of one unit lose nothing, so ties at the threshold stay ties."""
    w = np.random.default_rng(2).integers(0, 2, (5, 6)).astype(dtype)
    w = w if dtype in (bool, np.uint16) else w * np.array([[1], [-1], [2], [1], [-3]], dtype=dtype)
    neuron = nir.IF(r=np.ones(5, dtype=np.int64), v_threshold=np.full(5, 2))
    graph = chain((6,), ("fc", nir.Linear(w)), ("n", neuron))
    x = spikes((6,))
    lowered = lower(graph, reset="zero")
    assert lowered.metadata["quantisation"]["fc"]["max_error"] < 1e-9
    v, expected = np.zeros((3, 5)), []
    for step in x:
        v = v + step @ w.T.astype(int)
        expected.append(v > 2)
        v = np.where(v > 2, 0, v)
    ours = simulate(lowered, x, record=("s",))["n"].s
    np.testing.assert_array_equal(ours, np.stack(expected))
    assert 0 < ours.mean() < 1


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (3, 4, 5)])
def test_parameters_shared_by_all_by_channel_or_by_none(shape):
    conv = nir.Conv2d(None, grid((3, 2, 3, 3)), 1, 0, 1, 1, np.zeros(3))
    lif = nir.LIF(
        tau=np.full(shape, 20 * DT),
        r=np.full(shape, 20.0),
        v_leak=np.zeros(shape),
        v_threshold=np.full(shape, 4.0),
    )
    lowered = compare(single(conv, (2, 6, 7), lif), spikes((2, 6, 7)), 0.99)
    assert lowered.neurons["n"].shape == (3, 4, 5)
    assert lowered.neurons["n"].dv.shape == ()


def test_parameters_of_one_node_may_be_partly_shared():
    graph = small(n__v_threshold=np.array([4.0, 8.0, 4.0, 2.0]), n__r=np.array(1.0))
    lowered = compare(graph, spikes((6,)), 0.95)
    assert lowered.neurons["n"].shape == (4,)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", -20.0),
        ("tau", DT),
        ("v_leak", 1.5),
        ("v_leak", -1.5),
    ],
)
def test_lif_parameters_in_all_their_range(field, value):
    lif = neurons("LIF", (8,), 3.0, **{field: np.full(8, value)})
    if field == "tau":
        lif.r = np.ones(8)
    compare(chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", lif)), spikes((10,)), 0.99)


def test_negative_input_weight_of_cuba():
    cuba = neurons("CubaLIF", (8,), 20.0, w_in=np.full(8, -4.0))
    compare(chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", cuba)), spikes((10,)), 0.99)


def test_infinite_time_constants():
    """tau and r both infinite are an integrator; tau alone is a neuron that hears nothing."""
    inf = np.full(8, np.inf)
    body = ("fc", nir.Linear(grid((8, 10))))
    both = lower(chain((10,), body, ("n", neurons("LIF", (8,), tau=inf, r=inf))), reset="zero")
    plain = lower(chain((10,), body, ("n", neurons("IF", (8,)))), reset="zero")
    np.testing.assert_array_equal(both.connections["fc"].weight, plain.connections["fc"].weight)
    assert int(both.neurons["n"].dv) == 0
    deaf = lower(chain((10,), body, ("n", neurons("LIF", (8,), tau=inf))), reset="zero")
    assert not np.any(deaf.connections["fc"].weight)
    with pytest.raises(
        RangeError, match="node 'n': synaptic decay 0 per step is below the smallest"
    ):
        lower(chain((10,), body, ("n", neurons("CubaLIF", (8,), tau_syn=inf))), reset="zero")


def test_two_levels_of_nesting_with_the_same_names_inside():
    def block(inner, size):
        nodes = {
            "input": source(size),
            "fc": inner,
            "n": neurons("IF", (size,)),
            "output": sink(size),
        }
        return nir.NIRGraph(nodes, list(pairwise(nodes)), type_check=False)

    deep = block(block(nir.Linear(grid((6, 6), 1)), 6), 6)
    graph = graph_of({"in": source(6), "fc": deep, "out": sink(6)})
    lowered = compare(graph, spikes((6,)))
    assert set(lowered.neurons) == {"fc.fc.n", "fc.n"}
    assert set(lowered.connections) == {"fc.fc.fc", "fc.fc.n_to_fc.n"}


def test_neurons_without_weights_in_between_and_at_the_input():
    nodes = {"in": source(5), "a": neurons("IF", (5,), 1.5), "b": neurons("IF", (5,), 0.5)}
    lowered = compare(graph_of({**nodes, "out": sink(5)}), spikes((5,), p=0.6))
    assert set(lowered.connections) == {"in_to_a", "a_to_b"}


def test_paths_that_differ_in_nameless_nodes_alone_are_both_kept():
    """A neuron that reaches a layer directly and through Flatten counts twice."""
    nodes = {"in": source(5), "flat": nir.Flatten({"input": np.array([5])}, 0, -1),
             "fc": nir.Linear(grid((4, 5))), "n": neurons("IF", (4,), 8.0), "out": sink(4)}  # fmt: skip
    edges = [("in", "flat"), ("in", "fc"), ("flat", "fc"), ("fc", "n"), ("n", "out")]
    lowered = compare(graph_of(nodes, edges), spikes((5,)))
    assert set(lowered.connections) == {"fc@in@n", "fc@in@n#2"}


def test_names_that_lowering_gives_may_be_taken():
    """Layers called as lowering would call its own: nothing is overwritten."""
    affine = nir.Affine(grid((5, 4)), grid(5, 3) / 8)
    nodes = {
        "in": source(4),
        "fc": affine,
        "n": neurons("CubaLIF", (5,), 20.0),
        "a": nir.Linear(grid((5, 5), 1)),
        "b": nir.Scale(np.ones(5)),
        "a+b": neurons("IF", (5,)),
        "fc2": nir.Linear(grid((5, 5), 2)),
        "n.always_on": neurons("IF", (5,)),
        "n.bias": nir.Linear(grid((5, 5), 4)),
        "a.plus": neurons("IF", (5,)),
        "out": sink(5),
    }
    lowered = compare(graph_of(nodes), spikes((4,), p=0.6), 0.95, split_mixed=True)
    assert {"n", "a+b", "n.always_on", "n.always_on#2", "a.plus"} == set(lowered.neurons)
    assert {"a+b@n@a+b.plus", "n.bias.plus", "n.bias#2.plus"} <= set(lowered.connections)
    stages = lower_stages(graph_of(nodes), LoweringOptions(reset="zero", split_mixed=True))
    assert set(ideal_weights(stages)) == set(lowered.connections)


def test_an_integrator_of_the_read_out_never_replaces_a_layer():
    nodes = {"in": source(4), "fc": nir.Linear(grid((5, 4))), "fc.sum": neurons("IF", (5,)),
             "out": sink(5), "out2": sink(5)}  # fmt: skip
    edges = [("in", "fc"), ("fc", "fc.sum"), ("fc.sum", "out"), ("fc", "out2")]
    lowered = lower(graph_of(nodes, edges), reset="zero", readout="accumulate")
    assert lowered.outputs == {"out": "fc.sum", "out2": "fc.sum#2"}


def test_delay_for_each_neuron_scale_for_each_channel_and_long_chains():
    scale = nir.Scale(np.array([1.0, 0.5]).reshape(2, 1, 1))
    compare(single(scale, (2, 3, 4), neurons("IF", (2, 3, 4), 1.2)), spikes((2, 3, 4), p=0.5))
    nodes = {"in": source(4), **{f"s{i}": nir.Scale(np.ones(4)) for i in range(1500)}}
    lowered = lower(graph_of({**nodes, "n": neurons("IF", (4,)), "out": sink(4)}), reset="zero")
    assert len(lowered.connections) == 1


def test_repeated_pooling_with_overlap_gaps_and_odd_sizes():
    def pool(kind, k, s, p):
        return kind(np.array([k, k]), np.array([s, s]), np.array([p, p]))

    nodes = {"in": source(2, 9, 9), "n": neurons("IF", (2, 9, 9), 0.5),
             "p": pool(nir.SumPool2d, 3, 2, 1), "q": pool(nir.SumPool2d, 2, 3, 0),
             "m": neurons("IF", (2, 2, 2), 5.5), "out": sink(2, 2, 2)}  # fmt: skip
    compare(graph_of(nodes), spikes((2, 9, 9)))
    conv = nir.Conv2d(None, grid((3, 2, 1, 1)), 1, 0, 1, 1, grid(3, 5) / 8)
    nodes = {"in": source(2, 7, 7), "n": neurons("IF", (2, 7, 7), 0.5), "c": conv,
             "p": pool(nir.AvgPool2d, 2, 2, 0), "m": neurons("IF", (3, 3, 3), 4.0),
             "out": sink(3, 3, 3)}  # fmt: skip
    compare(graph_of(nodes), spikes((2, 7, 7)), 0.99)  # a bias through pooling


@pytest.mark.parametrize("padding", ["same", b"same", "valid"])
def test_padding_in_words(padding):
    """As the same convolution with padding in numbers."""
    geometry = {"stride": 1, "dilation": (2, 1), "groups": 1, "bias": np.zeros(4)}
    words = nir.Conv2d(None, grid((4, 2, 3, 5)), padding=0, **geometry)
    words.padding = padding
    numbers = (0, 0) if padding == "valid" else (2, 2)
    plain = nir.Conv2d(None, grid((4, 2, 3, 5)), padding=numbers, **geometry)
    a, b = (lower(single(conv, (2, 9, 9)), reset="zero") for conv in (words, plain))
    assert a.connections == b.connections
    assert a.neurons == b.neurons


def test_very_small_connections_are_told():
    graph = small(fc__weight=np.full((4, 6), 1e-12))
    lowered = lower(graph, reset="zero")
    assert lowered.metadata["notes"] == [
        "all 24 weights of 'fc' are rounded to 0: they are too small beside the threshold or the other "
        "connections of 'n'"
    ]
    assert lower(small(fc__weight=np.zeros((4, 6))), reset="zero").metadata["notes"] == []


# --- refused ------------------------------------------------------------------------------------

NAN, INF = np.full((4, 6), np.nan), np.full((4, 6), np.inf)


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
            r"node 'n' \(IF\): metadata 'dt' is '1 ms'; expected a number",
        ),
        ({"n__metadata": {"dt": np.nan}}, r"'dt' is nan; expected a number above 0"),
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


def conv2d(weight=None, **changes):
    weight = np.ones((4, 2, 3, 3)) if weight is None else weight
    geometry = {
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": np.zeros(4),
        **changes,
    }
    return nir.Conv2d(None, weight, **geometry)


def pool(k=2, s=2, p=0):
    return nir.SumPool2d(*(np.broadcast_to(value, 2) for value in (k, s, p)))


def worded(field):
    node = conv2d()
    setattr(node, field, "many")
    return node


def strided_same():
    node = conv2d(stride=2)
    node.padding = "same"
    return node


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (conv2d(stride=0), (2, 7, 7), r"'x': stride is .*expected 1 or 2 integers from 1"),
        (
            conv2d(stride=1.5),
            (2, 7, 7),
            r"'x' \(Conv2d\): stride is 1.5; expected 1 or 2 integers",
        ),
        (conv2d(padding=-1), (2, 7, 7), r"'x': padding is .*integers from 0"),
        (
            conv2d(padding=10**7),
            (2, 7, 7),
            r"'x' sends shape \(4, .*expected at most 16777216",
        ),
        (conv2d(dilation=4), (2, 7, 7), r"'x': kernel \(3, 3\) is larger than its input \(7, 7\)"),
        (conv2d(groups=0), (2, 7, 7), r"'x' \(Conv2d\) has weights .* in 0 groups; .*divide out"),
        (
            conv2d(groups=[1, 2]),
            (2, 7, 7),
            r"'x' \(Conv2d\): groups is \[1, 2\]; expected 1 integer",
        ),
        (
            conv2d(np.ones((4, 2, 3))),
            (2, 7, 7),
            r"'x' \(Conv2d\) has weights \(4, 2, 3\).*4 dimensions",
        ),
        (
            conv2d(bias=np.ones(3)),
            (2, 7, 7),
            r"'x' \(Conv2d\) has a bias of shape \(3,\); .*\(4,\)",
        ),
        (
            strided_same(),
            (2, 7, 7),
            r"'x': padding is 'same' .* stride .2 2.; expected the same padding on both sides",
        ),
        (worded("groups"), (2, 7, 7), r"'x' \(Conv2d\): groups is 'many'; expected 1 integer"),
        (
            worded("stride"),
            (2, 7, 7),
            r"'x' \(Conv2d\): stride is 'many'; expected 1 or 2 integers",
        ),
        (worded("padding"), (2, 7, 7), r"'x': padding is 'many' with kernel"),
        (pool(9), (2, 7, 7), r"'x': kernel \(9, 9\) is larger than its input"),
        (pool(2, 0), (2, 7, 7), r"'x': stride is .*integers from 1"),
        (
            pool(2.5),
            (2, 7, 7),
            r"'x' \(SumPool2d\): kernel_size is .*2.5.*expected 1 or 2 integers",
        ),
        (
            nir.Affine(np.ones((4, 5)), np.ones(5)),
            (5,),
            r"'x' \(Affine\) has a bias of shape \(5,\)",
        ),
        (
            nir.Scale(np.ones(3)),
            (4,),
            r"'x' \(Scale\) has values of shape \(3,\); expected \(",
        ),
        (
            nir.Scale(np.ones(4)),
            (2, 4),
            r"'x' \(Scale\) has values of shape \(4,\); expected \(2, 4\)",
        ),
        (
            nir.Delay(np.ones(3)),
            (4,),
            r"'x' \(Delay\) has values of shape \(3,\); expected \(",
        ),
        (
            nir.Delay(np.array(1e300)),
            (4,),
            r"'x' \(Delay\): delay is .* steps; expected 0 to 62",
        ),
        (nir.Delay(np.array(np.nan)), (4,), r"'x' \(Delay\): delay is not finite"),
        (
            nir.Flatten({"input": None}, 1, 0),
            (2, 3),
            r"'x' \(Flatten\) joins dimensions 1 to 0 of shape",
        ),
        (
            nir.Flatten({"input": None}, 0, 5),
            (2, 3),
            r"'x' \(Flatten\) joins dimensions 0 to 5 of shape",
        ),
        (nir.Flatten({"input": None}, -9, 1), (2, 3), r"'x' \(Flatten\) joins dimensions -9 to 1"),
    ],
)
def test_geometry_that_does_not_fit_is_refused(node, shape, message):
    with pytest.raises((ConfigError, UnsupportedNodeError, RangeError), match=message):
        lower(single(node, shape), reset="zero")


def test_a_convolution_too_large_to_be_unrolled_is_refused():
    conv = conv2d(np.ones((64, 64, 7, 7)), padding=3, bias=np.zeros(64))
    levels = np.linspace(1, 2, 64 * 32 * 32).reshape(64, 32, 32)
    graph = single(conv, (64, 32, 32), nir.IF(r=np.ones_like(levels), v_threshold=levels))
    with pytest.raises(
        RangeError, match=r"node 'x': the convolution from .* needs 205520896 weights"
    ):
        lower(graph, reset="zero")


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


def test_more_ways_than_can_be_followed_are_refused():
    nodes, edges, at = {"in": source(4)}, [], "in"
    for i in range(40):
        for name in "abc":
            nodes[f"{name}{i}"] = nir.Scale(np.full(4, 0.5))
        edges += [(at, f"a{i}"), (at, f"b{i}"), (f"a{i}", f"c{i}"), (f"b{i}", f"c{i}")]
        at = f"c{i}"
    nodes |= {"n": neurons("IF", (4,)), "out": sink(4)}
    edges += [(at, "n"), ("n", "out")]
    with pytest.raises(
        UnsupportedNodeError, match=r"paths from 'in' .* is above 20000.*Put neurons"
    ):
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
    with pytest.raises(
        ConfigError, match=r"dt_s is .*; expected a finite number of seconds above 0"
    ):
        lower(graph, dt_s=dt, reset="zero")


def test_steps_that_agree_up_to_float32_are_one():
    graph = small(n__metadata={"dt": np.float32(DT)}, fc__metadata={"dt": np.array(DT)})
    assert lower(graph, dt_s=DT, reset="zero").metadata["dt_s"] == pytest.approx(DT)


@pytest.mark.parametrize(
    "told",
    [
        {"zeros_before": "x"},
        {"zeros_before": [0, 0], "kernel": [9, 9], "padding": [1, 1]},
        {"zeros_before": [0, 0], "kernel": [3, 3], "padding": [2, 2]},
        {"zeros_before": [[0]], "kernel": [3, 3], "padding": [0, 0]},
    ],
)
def test_tampered_notes_about_zeros_change_nothing(told):
    conv = conv2d(grid((4, 2, 3, 3)))
    conv.input_shape = (7, 7)
    plain = lower(single(conv, (2, 7, 7)), reset="zero")
    conv.metadata = told
    assert lower(single(conv, (2, 7, 7)), reset="zero").connections == plain.connections
