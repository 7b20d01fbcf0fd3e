"""Energy counts against brute force: one dense matrix per connection, one message per core."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Activity, estimate_energy, map_to_chip, simulate
from biril_nm.hardware_sim.cost.energy import DAVIES_2018
from biril_nm.hardware_sim.cost.fanout import fan_out
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output, Sparse
from tests.support.cores import small_cores, stored_matrix
from tests.support.random_graphs import random_graph, random_spikes

SEEDS = range(12)


def run(seed):
    graph = random_graph(seed)
    inputs = random_spikes(graph, 6, 3, seed + 1)
    if not isinstance(inputs, dict):
        inputs = {"in": inputs}
    return graph, inputs, simulate(graph, inputs, record=("s",))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("nonzero", [False, True])
def test_fan_out_is_exact_at_borders(seed, nonzero):
    graph = random_graph(seed)
    for name in graph.connections:
        found = fan_out(graph, name, nonzero)
        wanted = stored_matrix(graph, name, nonzero).sum(axis=0)
        np.testing.assert_array_equal(found.ravel(), wanted)
        assert found.shape == graph.shape_of(graph.ends[name][0])


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_equal_brute_force(seed):
    graph, inputs, trace = run(seed)
    estimate = estimate_energy(graph, trace, inputs=inputs)
    n_samples = 3
    synops = dict.fromkeys(graph.neurons, 0)
    for name, (source, target) in graph.ends.items():
        events = inputs[source] if source in graph.inputs else trace[source].s
        flat = (np.asarray(events) != 0).reshape(-1, int(np.prod(graph.shape_of(source))))
        synops[target] += int((flat @ stored_matrix(graph, name).T).sum())
    assert sum(synops.values()) > 0
    for name, node in graph.neurons.items():
        layer = estimate.layers[name]
        assert layer.synops == synops[name] / n_samples
        assert layer.updates == node.size * 6
        assert layer.spikes == int(np.asarray(trace[name].s).sum()) / n_samples
    picojoules = 23.6 * estimate.synops + 81 * estimate.updates
    assert estimate.joules == pytest.approx(picojoules * 1e-12, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_messages_and_hops_equal_brute_force(seed):
    graph, inputs, trace = run(seed)
    mapping = map_to_chip(graph, small_cores())
    assert len(mapping.cores) > 1
    estimate = estimate_energy(graph, trace, mapping, inputs=inputs)
    for name in graph.neurons:
        sent = hops_x = hops_y = 0
        home = core_of(graph, mapping, name)
        spikes = np.asarray(trace[name].s).reshape(18, -1).sum(axis=0)
        for connection, (source, target) in graph.ends.items():
            if source != name:
                continue
            blocks = core_of(graph, mapping, target)
            matrix = stored_matrix(graph, connection)
            for pre in np.flatnonzero(spikes):
                posts = np.flatnonzero(matrix[:, pre])
                for core, _ in {blocks[post] for post in posts}:
                    sent += spikes[pre]
                    (x0, y0), (x1, y1) = tile(home[pre][0]), tile(core)
                    hops_x += spikes[pre] * abs(x0 - x1)
                    hops_y += spikes[pre] * abs(y0 - y1)
        layer = estimate.layers[name]
        assert (layer.messages, *layer.hops) == (sent / 3, hops_x / 3, hops_y / 3)


def core_of(graph, mapping, name):
    """(core, block) of each neuron, flat."""
    shape = mapping.splits[name].shape
    found = np.empty(shape, dtype=object)
    for block, part in enumerate(mapping.parts[name]):
        c, y, x = (slice(*bound) for bound in part.bounds)
        for index in np.ndindex(shape):
            if all(s.start <= i < s.stop for i, s in zip(index, (c, y, x))):
                found[index] = (part.core, block)
    return found.ravel()


def tile(core):
    chip, local = divmod(core, 8)
    return (local // 4) % 8 + 8 * chip, local // 4 // 8


def test_loihi_2_is_never_presented_as_measured():
    graph, inputs, trace = run(0)
    assert estimate_energy(graph, trace, inputs=inputs).label.startswith("modelled, Loihi 1")
    other = estimate_energy(graph, trace, chip="loihi2", inputs=inputs)
    assert "Loihi 1 constants" in other.label
    assert "no table of loihi2 is public" in other.summary()
    assert all(source for _, _, source in DAVIES_2018.rows())


def test_what_is_left_out_is_reported():
    graph, inputs, trace = run(1)
    bare = estimate_energy(graph, trace)
    assert any("no input was given" in note for note in bare.notes)
    assert any("no mapping was given" in note for note in bare.notes)
    assert bare.joules < estimate_energy(graph, trace, inputs=inputs).joules
    assert bare.latency_steps == max(graph.latency.values())


def test_a_sum_without_the_first_connections_says_so_wherever_it_is_printed():
    graph, inputs, trace = run(1)
    first = [name for name, (source, _) in graph.ends.items() if source in graph.inputs]
    bare, whole = estimate_energy(graph, trace), estimate_energy(graph, trace, inputs=inputs)
    said = f"without {', '.join(first)}: no input was given (inputs=)"
    assert first and bare.synops < whole.synops
    assert said in bare.label and said in bare.summary()
    assert "without" not in whole.label


def test_activities_add_up_to_one_run():
    graph = tiny()
    r = np.random.default_rng(0)
    inputs = (r.random((5, 8, 4)) < 0.5).astype(np.int32)
    halves = [inputs[:, :3], inputs[:, 3:]]
    parts = [Activity.of(graph, simulate(graph, half), half) for half in halves]
    whole = Activity.of(graph, simulate(graph, inputs), inputs)
    both = parts[0] + parts[1]
    assert both.n_samples == whole.n_samples == 8
    for name in whole.spikes:
        np.testing.assert_array_equal(both.spikes[name], whole.spikes[name])
    assert estimate_energy(graph, both) == estimate_energy(graph, whole)


def test_a_repeated_image_counts_once_per_step():
    graph = tiny()
    image = np.array([[1, 0, 1, 1]], dtype=np.int32)
    repeated = np.broadcast_to(image, (7, 1, 4))
    trace = simulate(graph, repeated)
    found = Activity.of(graph, trace, repeated).spikes["input"]
    np.testing.assert_array_equal(found, [7, 0, 7, 7])


def test_errors_name_the_node_and_the_way_out():
    graph = tiny()
    inputs = np.ones((3, 1, 4), dtype=np.int32)
    with pytest.raises(ConfigError, match=r"no spikes of out; expected .* with record=\('s',\)"):
        estimate_energy(graph, simulate(graph, inputs, record=()), inputs=inputs)
    with pytest.raises(
        ConfigError, match=r"3 of 1; expected the same. Pass the input of the same run"
    ):
        estimate_energy(graph, simulate(graph, inputs), inputs=inputs[:2])
    with pytest.raises(ConfigError, match="mapping is of another graph"):
        estimate_energy(graph, simulate(graph, inputs), map_to_chip(random_graph(0)), inputs=inputs)


def test_inputs_and_activities_that_do_not_match_are_reported():
    graph = tiny()
    inputs = np.ones((3, 1, 4), dtype=np.int32)
    trace = simulate(graph, inputs)
    with pytest.raises(
        ConfigError, match=r"'input' has shape \(3, 1, 5\); expected \(n_steps, batch, 4\)"
    ):
        Activity.of(graph, trace, np.ones((3, 1, 5), dtype=np.int32))
    with pytest.raises(ConfigError, match=r"given for \[\]; the graph's inputs are \['input'\]"):
        Activity.of(graph, trace, {"other": inputs})
    longer = np.ones((4, 1, 4), dtype=np.int32)
    with pytest.raises(ConfigError, match="different networks or sample lengths do not add up"):
        Activity.of(graph, trace, inputs) + Activity.of(graph, simulate(graph, longer), longer)
    with pytest.raises(TypeError, match="unsupported operand"):
        Activity.of(graph, trace, inputs) + 1
    several = random_graph(0, "inputs")
    given = random_spikes(several, 3, 1, 0)
    with pytest.raises(ConfigError, match=r"has 2 inputs \(in, in2\). Pass a dict"):
        Activity.of(several, simulate(several, given), given["in"])


def tiny():
    return LoihiGraph(
        {
            "input": Input((4,)),
            "fc": Dense(np.full((3, 4), 40)),
            "out": Neurons((3,), vth=60),
            "output": Output(),
        },
        (("input", "fc"), ("fc", "out"), ("out", "output")),
    )


def test_convolutions_occur():
    kinds = {type(node) for seed in SEEDS for node in random_graph(seed).connections.values()}
    assert kinds == {Conv, Dense, Sparse}
