"""NIR nodes that lower refuses, each with the reason and the way out."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import lower
from tests.support.nir_graphs import DT, chain, grid, neurons, spikes


def test_integrators_without_a_leak_in_the_middle_are_refused():
    body = [("fc", nir.Linear(grid((8, 10)))), ("sum", neurons("I", (8,)))]
    graph = chain((10,), *body, ("fc2", nir.Linear(grid((4, 8)))), ("n", neurons("IF", (4,))))
    with pytest.raises(
        UnsupportedNodeError, match=r"(?s)between layers of neurons.*'sum' \(I\) adds up for ever"
    ):
        lower(graph, reset="zero")


def test_a_nested_graph_with_two_inputs_is_refused():
    inner = nir.NIRGraph(
        {"a": nir.Input({"input": np.array([2])}), "b": nir.Input({"input": np.array([2])}),
         "n": neurons("IF", (2,)), "o": nir.Output({"output": np.array([2])})},
        [("a", "n"), ("b", "n"), ("n", "o")],
    )  # fmt: skip
    nodes = {
        "i": nir.Input({"input": np.array([2])}),
        "g": inner,
        "o": nir.Output({"output": np.array([2])}),
    }
    graph = nir.NIRGraph(nodes, [("i", "g"), ("g", "o")], type_check=False)
    with pytest.raises(UnsupportedNodeError, match="nested graph 'g' has 2 inputs and 1 outputs"):
        lower(graph, dt_s=DT, reset="zero")


def test_a_loop_without_a_neuron_is_refused():
    nodes = {
        "input": nir.Input({"input": np.array([4])}),
        "a": nir.Linear(np.eye(4)),
        "b": nir.Linear(np.eye(4)),
        "n": neurons("IF", (4,)),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "a"), ("a", "b"), ("b", "a"), ("b", "n"), ("n", "output")]
    with pytest.raises(
        UnsupportedNodeError, match="the loop a -> b.*has no neuron; expected one or more"
    ):
        lower(nir.NIRGraph(nodes, edges), dt_s=DT, reset="zero")


def test_a_reset_that_drops_input_needs_a_program():
    body = neurons("CubaLIF", (8,))
    body.metadata = {"reset": "zero", "reset_delay": 1, "reset_drops_input": 1}
    graph = chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", body))
    with pytest.raises(
        UnsupportedNodeError,
        match="'n'.*reset is 'zero, one step late, with loss of that step's input'; expected 'zero', the "
        "reset of 'loihi1'. Lower for loihi2, train with",
    ):
        lower(graph, chip="loihi1")
    assert lower(graph).neurons["n"].model == "cuba_lif_zero_delayed_lossy"
    forced = lower(graph, chip="loihi1", reset="force-zero")
    assert "with loss of that step's input in" in forced.metadata["reset"]["n"]["from"]
    body.metadata["reset_drops_input"] = 0
    assert lower(graph).neurons["n"].model == "cuba_lif"  # whose spikes are the same


def test_unknown_nodes_are_named_with_what_is_supported():
    class Softmax(nir.NIRNode):
        def __init__(self):
            self.input_type = self.output_type = {"input": np.array([4])}
            self.metadata = {}

    nodes = {"input": nir.Input({"input": np.array([4])}), "s": Softmax(), "n": neurons("IF", (4,)),
             "output": nir.Output({"output": np.array([4])})}  # fmt: skip
    edges = [("input", "s"), ("s", "n"), ("n", "output")]
    with pytest.raises(UnsupportedNodeError, match=r"'s' \(Softmax\).*expected Affine, AvgPool2d"):
        lower(nir.NIRGraph(nodes, edges, type_check=False), dt_s=DT, reset="zero")


def single(node, shape, size):
    """Input -> node -> IF, without nir's own type check."""
    nodes = {
        "input": nir.Input({"input": np.array(shape)}),
        "x": node,
        "n": neurons("IF", size),
        "output": nir.Output({"output": np.array(size)}),
    }
    edges = [("input", "x"), ("x", "n"), ("n", "output")]
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)


CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "bias": np.zeros(2)}


@pytest.mark.parametrize(
    ("node", "shape", "message"),
    [
        (
            nir.Linear(np.ones((2, 3))),
            (4,),
            r"'x' \(Linear\) has weights \(2, 3\) and receives shape",
        ),
        (
            nir.Conv2d(None, np.ones((2, 3, 1, 1)), **CONV),
            (2, 4, 4),
            r"'x' \(Conv2d\).*expected \(3, H",
        ),
        (
            nir.Conv2d(None, np.ones((2, 3, 1, 1)), **CONV),
            (3, 4),
            r"'x' \(Conv2d\).*receives shape",
        ),
        (
            nir.Conv2d(None, np.ones((2, 1, 2, 2)), **{**CONV, "padding": "same"}),
            (1, 4, 4),
            "'x': padding is 'same' with kernel .2, 2. and stride .1 1.; expected the same padding",
        ),
        (
            nir.Conv2d(None, np.ones((2, 1, 2, 2)), **{**CONV, "stride": (1, 2, 3)}),
            (1, 4, 4),
            r"'x' \(Conv2d\): stride is \(1, 2, 3\); expected 1 or 2 integers",
        ),
        (
            nir.Conv1d(None, np.ones((2, 3, 1)), 1, 0, 1, 1, np.zeros(2)),
            (2, 4),
            r"'x' \(Conv1d\) has weights",
        ),
        (
            nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
            (4,),
            r"'x' \(AvgPool2d\) receives shape \(4,\); expected \(C, H, W\)",
        ),
        (nir.Linear(np.ones((3, 4))), (4,), r"'n' has parameters of shape \(2,\); expected \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_reported(node, shape, message):
    with pytest.raises((ConfigError, UnsupportedNodeError), match=message):
        lower(single(node, shape, (2,)), reset="zero")


def test_time_constants_must_be_positive_and_graphs_complete():
    lif = neurons("LIF", (2,), tau=np.array([0.02, -1.0]))
    graph = chain((2,), ("fc", nir.Linear(np.eye(2))), ("n", lif))
    with pytest.raises(UnsupportedNodeError, match="'n': tau is -1.0 s; expected more than 0 s"):
        lower(graph, reset="zero")
    nodes = {"input": nir.Input({"input": np.array([2])}), "fc": nir.Linear(np.eye(2)),
             "output": nir.Output({"output": np.array([2])})}  # fmt: skip
    linear = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")])
    with pytest.raises(UnsupportedNodeError, match="1 inputs and 0 neuron nodes; expected one or"):
        lower(linear, dt_s=DT)


def test_steps_of_several_calibration_inputs_must_agree():
    graph = chain((4,), ("fc", nir.Linear(grid((3, 4)))), ("n", neurons("IF", (3,))))
    graph.nodes["y"] = nir.Input({"input": np.array([2])})
    graph.nodes["fy"] = nir.Linear(grid((3, 2)))
    graph.edges += [("y", "fy"), ("fy", "n")]
    x = {"input": spikes((4,)), "y": spikes((2,), n_steps=7)}
    with pytest.raises(ConfigError, match="inputs differ in"):
        lower(graph, reset="zero", calibration=x)


def test_a_branch_that_no_delay_can_meet_is_refused():
    nodes = {"input": nir.Input({"input": np.array([2])})}
    names = [f"n{i}" for i in range(65)]
    for name in names:
        nodes[name] = neurons("IF", (2,), 0.5)
    nodes["output"] = nir.Output({"output": np.array([2])})
    edges = [*pairwise(["input", *names, "output"]), ("input", names[-1])]
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT})
    with pytest.raises(UnsupportedNodeError, match="is 64 steps.*expected at most 62"):
        lower(graph, reset="zero")
