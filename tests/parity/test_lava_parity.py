"""hardware_sim and Lava (lava-nc 0.10.0, fixed_pt) agree in every s, u and v."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, LoihiGraph, Sparse
from biril_nm.recording import Recording
from tests.support.lava_cases import CASES, make

pytestmark = pytest.mark.lava
VARIABLES = ("s", "u", "v")


@cache
def on_lava(name: str) -> Recording:
    return run_lava(*make(name))


def compare(lava: Recording, sim: Recording) -> int:
    """Number of integers compared, in node time and chip time."""
    count = 0
    for left, right in ((lava, sim), (lava.chip_time(), sim.chip_time())):
        assert list(left) == list(right)
        for node in left:
            for variable in VARIABLES:
                a, b = getattr(left[node], variable), getattr(right[node], variable)
                assert_array_equal(a, b, err_msg=f"{node}.{variable}")
                count += a.size
    for node in sim.n_spikes:
        assert lava.n_spikes[node] == sim.n_spikes[node]
        assert_array_equal(lava.v_last[node], sim.v_last[node], err_msg=node)
    return count


# What each of these adds is in another case or in test_random_graphs.py as well.
SLOW = (
    "dense_if_without_bias",
    "sparse_graded",
    "samples_shorter_than_latency",
    "one_step_samples",
)
EACH = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in CASES]
)


@EACH
def test_every_state_equals_the_simulator(name: str) -> None:
    graph, spikes = make(name)
    lava = on_lava(name)
    n_steps, batch = lava.meta["n_steps"], lava.meta["batch"]
    n_rows = len(next(iter(lava.chip_time().values())).s)
    count = compare(lava, simulate(graph, spikes, record=VARIABLES))
    neurons = sum(node.size for node in graph.neurons.values())
    assert count == len(VARIABLES) * neurons * (n_steps * batch + n_rows)
    assert n_rows == (batch - 1) * graph.sample_period(n_steps) + n_steps + max(
        graph.latency.values()
    )
    assert all(lava.n_spikes.values()), lava.n_spikes


def changed_nodes(graph: LoihiGraph, spikes: object, lava: Recording) -> list[str]:
    sim = simulate(graph, spikes, record=VARIABLES)
    return [
        node
        for node in lava
        if any(
            not np.array_equal(getattr(lava[node], key), getattr(sim[node], key))
            for key in VARIABLES
        )
    ]


@EACH
def test_a_bias_off_by_one_is_seen_at_its_node(name: str) -> None:
    """Negative twin: one register changed by 1 makes the comparison fail, naming that node."""
    graph, spikes = make(name)
    lava = on_lava(name)
    for node_name, node in graph.neurons.items():
        twin = graph.with_node(node_name, bias_mant=node.bias_mant + 1)
        found = changed_nodes(twin, spikes, lava)
        assert node_name in found
        if not graph.timing.max_slack:  # nothing flows back
            assert all(graph.latency[n] >= graph.latency[node_name] for n in found)


@pytest.mark.parametrize(
    ("name", "node", "register", "step"),
    [
        ("cuba_with_registers_per_neuron", "block.lif1", "du", -1),
        ("cuba_with_registers_per_neuron", "block.lif1", "dv", -1),
        ("cuba_with_registers_per_neuron", "lif2", "du", 1),
        ("dense_lif_with_bias_batch_16", "lif1", "dv", 1),
        ("conv_net_batch_16", "lif1", "dv", 1),
        ("recurrent_loops", "lif2", "du", 1),
        ("residual_of_unequal_length", "lif1", "dv", 1),
        ("one_neuron", "n", "vth", -1),
        ("dense_graded_input", "lif1", "dv", -1),
    ],
)
def test_other_registers_off_by_one_are_seen(
    name: str, node: str, register: str, step: int
) -> None:
    graph, spikes = make(name)
    value = np.maximum(getattr(graph.nodes[node], register) + step, 0)
    twin = graph.with_node(node, **{register: value})
    assert node in changed_nodes(twin, spikes, on_lava(name))


@EACH
def test_one_weight_off_by_one_step_is_seen_at_its_target(name: str) -> None:
    graph, spikes = make(name)
    lava = on_lava(name)
    for connection, node in graph.connections.items():
        weight = node.weight.copy()
        values = weight.data if isinstance(node, Sparse) else weight
        step = 1 if isinstance(node, Conv) else 2 ** (8 - node.weight_bits + 1)
        values[...] = np.where(values > 0, values - step, values + step)
        twin = graph.with_node(connection, weight=weight)
        assert graph.ends[connection][1] in changed_nodes(twin, spikes, lava), connection
