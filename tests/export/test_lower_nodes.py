"""lower on every NIR node: against the float interpreter, and refused with the reason.

Weights and thresholds are multiples of 1/64 on the 8-bit grid, so that only decay rounding is left
between float and integers; nodes without decay must keep every spike.
"""

from __future__ import annotations

import nir
import numpy as np
import pytest
import torch

from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export import lower
from biril_nm.export.lowering import LoweringOptions, ideal_weights, lower_stages
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Sparse
from biril_nm.loihi import WEIGHT_SHIFT
from tests.support.nir_graphs import DT, UNIT, chain, compare, grid, neurons, spikes
from tests.support.nir_interpreter import NirInterpreter


@pytest.mark.parametrize(
    ("kind", "same"), [("IF", 1.0), ("Threshold", 1.0), ("LIF", 0.999), ("CubaLIF", 0.998)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_spiking_nodes(kind, same, bias, tmp_path):
    w, b = grid((8, 10)), np.random.default_rng(3).integers(-20, 60, 8) / UNIT
    linear = nir.Affine(weight=w, bias=b) if bias else nir.Linear(weight=w)
    threshold = 30.0 if kind == "CubaLIF" else 4.0
    graph = chain((10,), ("fc", linear), ("n", neurons(kind, (8,), threshold)))
    write_nir(tmp_path / "x.nir", graph)
    lowered = compare(read_nir(tmp_path / "x.nir"), spikes((10,)), same)
    assert isinstance(lowered.connections["fc"], Dense)
    assert ("n.always_on" in lowered.neurons) is (bias and kind == "CubaLIF")


def test_the_source_of_a_filtered_bias_spikes_at_every_step_and_arrives_at_once():
    linear = nir.Affine(weight=grid((4, 6)), bias=np.array([1.0, 2.0, -1.0, 0.5]))
    body = [("fc1", nir.Linear(weight=grid((6, 5), 2))), ("n1", neurons("IF", (6,)))]
    graph = chain((5,), *body, ("fc2", linear), ("n2", neurons("CubaLIF", (4,), 20.0)))
    lowered = lower(graph, reset="zero")
    trace = simulate(lowered, np.zeros((12, 2, 5), dtype=int), record=("s", "u"))
    assert trace["n2.always_on"].s.all()
    assert np.all(trace["n2"].u[0] != 0)
    scale = lowered.metadata["neurons"]["n2"]["scale"] / 20.0 * 64
    expected = scale * np.array([1.0, 2.0, -1.0, 0.5])
    np.testing.assert_allclose(trace["n2"].u[0, 0], expected, rtol=0.02)


@pytest.mark.parametrize("kind", ["I", "LI", "CubaLI"])
def test_integrators_carry_the_membrane(kind):
    graph = chain((10,), ("fc", nir.Affine(grid((8, 10)), grid(8, 5))), ("n", neurons(kind, (8,))))
    x = spikes((10,))
    for calibration in (None, x):
        lowered = lower(graph, calibration=calibration)
        trace = simulate(lowered, x, record=("v",))
        assert trace.n_spikes["n"] == 0
        scale = lowered.metadata["neurons"]["n"]["scale"] * (1 << WEIGHT_SHIFT)
        floats = NirInterpreter(graph, DT).run(x)["n"]
        error = np.abs(trace["n"].v / scale - floats).max() / np.abs(floats).max()
        assert error < (0.02 if calibration is None else 0.005)


@pytest.mark.parametrize("leak", [0.5, 2.0])
def test_v_reset_is_shifted_to_zero(leak):
    one = np.ones(8)
    lif = neurons("LIF", (8,), v_leak=leak * one, v_reset=0.5 * one, v_threshold=4.5 * one)
    graph = chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", lif))
    lowered = lower(graph, reset="zero")
    assert "v of 'n' is counted from its v_reset, and starts there" in lowered.metadata["notes"]
    assert int(lowered.neurons["n"].vth) == round(lowered.metadata["neurons"]["n"]["scale"])
    x = spikes((10,))
    run = NirInterpreter(graph, DT)
    run.state["n"] = {"v": torch.full((3, 8), 0.5, dtype=torch.float64)}
    floats = run.run(x)["n"]
    ours = simulate(lowered, x, record=("s",))["n"].s
    assert 0 < ours.mean() < 1
    assert (ours == floats).mean() > 0.998
    assert np.any(lowered.neurons["n"].bias_mant) == (leak != 0.5)


def test_convolutions_pooling_and_flatten_in_both_orders():
    conv = nir.Conv2d((7, 9), grid((4, 2, 3, 3)), (2, 1), (1, 0), (1, 2), 1, np.zeros(4))
    pool = nir.AvgPool2d(np.array([1, 2]), np.array([1, 2]), np.array([0, 0]))
    first = nir.Flatten({"input": np.array([4, 4, 5])}, 0, -1)
    graph = chain(
        (2, 7, 9),
        ("conv", conv),
        ("n1", neurons("IF", (4, 4, 5))),
        ("flat", first),
        ("fc", nir.Linear(grid((6, 80), 2))),
        ("n2", neurons("IF", (6,))),
    )
    lowered = compare(graph, spikes((2, 7, 9)))
    assert isinstance(lowered.connections["conv"], Conv)
    pooled = nir.Flatten({"input": np.array([4, 4, 2])}, 0, -1)
    graph = chain(
        (2, 7, 9),
        ("conv", conv),
        ("n1", neurons("IF", (4, 4, 5))),
        ("pool", pool),
        ("flat", pooled),
        ("fc", nir.Linear(grid((6, 32), 2))),
        ("n2", neurons("IF", (6,))),
    )
    lowered = compare(graph, spikes((2, 7, 9)))
    assert lowered.connections["pool+fc"].weight.shape == (6, 80)


def test_flatten_of_some_dimensions_and_neurons_behind_it():
    flat = nir.Flatten({"input": np.array([2, 3, 4])}, 1, 2)
    graph = chain(
        (2, 3, 4),
        ("scale", nir.Scale(grid((2, 3, 4)))),
        ("flat", flat),
        ("n", neurons("IF", (2, 12), 2.0)),
    )
    lowered = compare(graph, spikes((2, 3, 4), p=0.5))
    assert isinstance(lowered.connections["scale"], Sparse)


def test_conv1d_scale_sumpool_and_parameters_per_neuron():
    conv = nir.Conv1d(20, grid((4, 1, 3)), 2, 1, 1, 2, np.array([0.5, 0, 0.25, 0.125]))
    conv.input_type = {"input": np.array([2, 20])}
    levels = 2.0 ** np.random.default_rng(0).integers(0, 3, (4, 10))
    body = [("conv", conv), ("scale", nir.Scale(levels)), ("n", neurons("IF", (4, 10), levels))]
    lowered = compare(chain((2, 20), *body, type_check=False), spikes((2, 20)))
    assert lowered.neurons["n"].vth.shape == ()
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    conv2 = nir.Conv2d((3, 3), grid((3, 2, 3, 3)), (1, 1), (0, 0), (1, 1), 1, np.zeros(3))
    body = [("pool", pool), ("conv", conv2), ("n", neurons("IF", (3, 1, 1), 20.0))]
    compare(chain((2, 7, 7), *body), spikes((2, 7, 7)))


def test_thresholds_and_taus_per_neuron_have_registers_per_neuron():
    one = np.linspace(0.5, 2, 8)
    lif = neurons("LIF", (8,), tau=np.linspace(5, 50, 8) * DT, v_threshold=one * 3)
    # Each row has a grid of its own.
    lowered = compare(
        chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", lif)), spikes((10,)), 0.94
    )
    assert lowered.neurons["n"].dv.shape == (8,)


def test_delays_split_by_length():
    steps = np.array([0, 2, 2, 5, 0, 1, 1, 7, 0, 2])
    graph = chain(
        (10,),
        ("delay", nir.Delay(steps * DT)),
        ("fc", nir.Linear(grid((8, 10)))),
        ("n", neurons("IF", (8,))),
    )
    lowered = lower(graph, reset="zero")
    assert {c.delay for c in lowered.connections.values()} == {0, 1, 2, 5, 7}
    x = spikes((10,))
    late = np.zeros_like(x)
    for i, k in enumerate(steps):
        late[k:, :, i] = x[: len(x) - k, :, i]
    whole = chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", neurons("IF", (8,))))
    floats = NirInterpreter(whole, DT).run(late)["n"]
    np.testing.assert_array_equal(simulate(lowered, x, record=("s",))["n"].s, floats)


def test_delays_are_rounded_and_reported_and_limited():
    body = [("fc", nir.Linear(grid((8, 10)))), ("n", neurons("IF", (8,)))]
    graph = chain((10,), ("delay", nir.Delay(np.full(10, 2.4 * DT))), *body)
    notes = lower(graph, reset="zero").metadata["notes"]
    assert any("delays of 'delay' are 2.40 to 2.40 steps, rounded" in note for note in notes)
    with pytest.raises(RangeError, match=r"delay"):
        lower(chain((10,), ("delay", nir.Delay(np.full(10, 70 * DT))), *body), reset="zero")
    with pytest.raises(
        UnsupportedNodeError, match="'delay' .Delay.: delay is -0.001 s; expected 0"
    ):
        lower(chain((10,), ("delay", nir.Delay(np.full(10, -DT))), *body), reset="zero")
    behind = [("fc", nir.Affine(grid((10, 10)), grid(10))), ("delay", nir.Delay(np.full(10, DT)))]
    with pytest.raises(
        UnsupportedNodeError, match="bias in front of a Delay.*Put the Delay in front"
    ):
        lower(chain((10,), *behind, ("n", neurons("IF", (10,)))), reset="zero")


def test_a_delay_of_its_own_is_not_balanced_away():
    graph = nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([6])}),
            "a": nir.Linear(grid((8, 6))),
            "n1": neurons("IF", (8,)),
            "b": nir.Linear(grid((4, 8), 2)),
            "late": nir.Delay(np.full(8, 3 * DT)),
            "c": nir.Linear(grid((4, 8), 3)),
            "n2": neurons("IF", (4,)),
            "output": nir.Output({"output": np.array([4])}),
        },
        [("input", "a"), ("a", "n1"), ("n1", "b"), ("b", "n2"), ("n1", "late"), ("late", "c"),
         ("c", "n2"), ("n2", "output")],
        metadata={"dt": DT},
    )  # fmt: skip
    lowered = compare(graph, spikes((6,)))
    assert {n: c.delay for n, c in lowered.connections.items()} == {"a": 0, "b": 0, "late+c": 3}


def test_several_inputs_and_outputs_nested_graphs_and_calibration_by_name():
    inner = chain((6,), ("fc", nir.Linear(grid((5, 6)))), ("n", neurons("IF", (5,))))
    nodes = {
        "x": nir.Input({"input": np.array([6])}),
        "y": nir.Input({"input": np.array([3])}),
        "block": inner,
        "fy": nir.Linear(grid((5, 3), 2)),
        "fb": nir.Linear(grid((5, 5), 3)),
        "n2": neurons("IF", (5,)),
        "out1": nir.Output({"output": np.array([5])}),
        "out2": nir.Output({"output": np.array([5])}),
    }
    edges = [("x", "block"), ("block", "out1"), ("block", "fb"), ("fb", "n2"), ("y", "fy"),
             ("fy", "n2"), ("n2", "out2")]  # fmt: skip
    graph = nir.NIRGraph(nodes, edges, metadata={"dt": DT}, type_check=False)
    x = {"x": spikes((6,)), "y": spikes((3,), seed=2)}
    lowered = lower(graph, reset="zero", calibration=x)
    assert lowered.outputs == {"out1": "block.n", "out2": "n2"}
    assert lowered.connections["fy"].delay == 1
    trace = simulate(lowered, x, record=("s",))
    first = NirInterpreter(inner, DT).run(x["x"])["n"]
    np.testing.assert_array_equal(trace["block.n"].s, first)
    with pytest.raises(
        ConfigError,
        match=r"calibration: the graph has 2 inputs \(x, y\). Pass a dict",
    ):
        lower(graph, reset="zero", calibration=x["x"])


def recurrent(loop, lag=True, kind="IF", size=8):
    """Input -> fc -> n with a loop of one connection."""
    loop.metadata = {"lag": 1} if lag else {}
    return nir.NIRGraph(
        {
            "input": nir.Input({"input": np.array([6])}),
            "fc": nir.Affine(grid((size, 6)), grid(size, 4) / 8),
            "n": neurons(kind, (size,), 30.0 if "Cuba" in kind else 4.0),
            "loop": loop,
            "output": nir.Output({"output": np.array([size])}),
        },
        [("input", "fc"), ("fc", "n"), ("n", "loop"), ("loop", "n"), ("n", "output")],
        metadata={"dt": DT},
    )


@pytest.mark.parametrize("lag", [True, False])
def test_a_loop_of_one_connection_takes_one_step(lag):
    loop = nir.Affine(grid((8, 8), 3, -60, 40), grid(8, 5) / 4)
    loop = loop if lag else nir.Linear(loop.weight)  # unmarked loops send nothing at the first step
    lowered = compare(recurrent(loop, lag), spikes((6,)))
    assert lowered.timing.slack["loop"] == 1
    compare(recurrent(nir.Scale(grid(8, 3)), lag), spikes((6,)))
    compare(recurrent(nir.Linear(grid((8, 8), 3, -60, 40)), lag, "CubaLIF"), spikes((6,)), 0.98)


def two_layer_loop(lag):
    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "a": nir.Linear(grid((8, 6))),
        "n1": neurons("IF", (8,)),
        "b": nir.Linear(grid((4, 8), 2)),
        "n2": neurons("IF", (4,)),
        "back": nir.Linear(grid((8, 4), 3), metadata={"lag": 1} if lag else {}),
        "output": nir.Output({"output": np.array([4])}),
    }
    edges = [("input", "a"), ("a", "n1"), ("n1", "b"), ("b", "n2"), ("n2", "back"), ("back", "n1"),
             ("n2", "output")]  # fmt: skip
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT})


def test_longer_loops_take_as_many_steps_as_connections():
    with pytest.raises(UnsupportedNodeError, match="'back' take 2 steps on chip.*expected 1 step"):
        lower(two_layer_loop(True), reset="zero")
    lowered = lower(two_layer_loop(False), reset="zero")
    assert (
        "spikes return through 'back' after 2 steps, one for each connection of the loop"
        in (lowered.metadata["notes"])
    )


def test_a_linear_end_is_summed_on_request_or_as_the_file_says():
    body = [("fc1", nir.Linear(grid((8, 10)))), ("n", neurons("IF", (8,)))]
    graph = chain((10,), *body, ("fc2", nir.Affine(grid((4, 8), 2), grid(4, 3))))
    with pytest.raises(
        UnsupportedNodeError, match="fc2; expected a neuron. Pass readout='accumulate'"
    ):
        lower(graph, reset="zero")
    with pytest.raises(ConfigError, match="readout is 'sum'; expected 'accumulate'"):
        lower(graph, reset="zero", readout="sum")
    x = spikes((10,))
    lowered = lower(graph, reset="zero", readout="accumulate", calibration=x)
    assert lowered.outputs == {"output": "fc2.sum"}
    trace = simulate(lowered, x, record=("v",))
    scale = lowered.metadata["neurons"]["fc2.sum"]["scale"] * 64
    floats = NirInterpreter(graph, DT).run(x)["fc2"].sum(axis=0)
    np.testing.assert_allclose(
        trace.v_last["fc2.sum"] / scale, floats, atol=0.02 * np.abs(floats).max()
    )
    graph.nodes["output"].metadata = {"readout": "mean"}
    stages = lower_stages(graph, LoweringOptions(reset="zero", calibration=x))
    assert stages.graph.outputs == lowered.outputs
    assert set(ideal_weights(stages)) == set(stages.graph.connections)


def test_continuous_integration_takes_dt():
    lif = neurons("IF", (8,), r=np.ones(8) / DT)
    lif.metadata = {"if_integration": "continuous"}
    plain = chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", neurons("IF", (8,))))
    graph = chain((10,), ("fc", nir.Linear(grid((8, 10)))), ("n", lif))
    a, b = lower(graph, reset="zero"), lower(plain, reset="zero")
    np.testing.assert_array_equal(a.connections["fc"].weight, b.connections["fc"].weight)
