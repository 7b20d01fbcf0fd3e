"""Graphs in unusual form that are legal lower and behave as NIR says."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import torch

from biril_nm.errors import RangeError
from biril_nm.export import lower
from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages
from biril_nm.hardware_sim import simulate
from tests.support.nir_graphs import (
    DT,
    chain,
    compare,
    graph_of,
    grid,
    neurons,
    single,
    sink,
    small,
    source,
    spikes,
)

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


def test_very_small_connections_are_reported():
    graph = small(fc__weight=np.full((4, 6), 1e-12))
    lowered = lower(graph, reset="zero")
    assert lowered.metadata["notes"] == [
        "all 24 weights of 'fc' are rounded to 0: they are too small beside the threshold or the other "
        "connections of 'n'"
    ]
    assert lower(small(fc__weight=np.zeros((4, 6))), reset="zero").metadata["notes"] == []
