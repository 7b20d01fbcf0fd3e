"""The simulator against the scalar reference: every s, u, v, in node time and in chip time."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import simulate
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hardware_sim.engine.program import compile_graph
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Sparse
from tests.support.random_graphs import random_graph, random_spikes, with_programs
from tests.support.reference import run_chip, to_node_time
from tests.support.sim_checks import assert_equals_reference

WIRINGS = ("plain", "residual", "self", "loop", "inputs")


@pytest.mark.parametrize("wiring", WIRINGS)
def test_random_graphs_equal_the_reference(wiring):
    n_spikes = 0
    for seed in range(16):
        graph = random_graph([seed, len(wiring)], wiring)
        r = np.random.default_rng(seed)
        spikes = random_spikes(graph, int(r.integers(1, 9)), int(r.integers(1, 4)), seed)
        n_spikes += assert_equals_reference(graph, spikes)
    assert n_spikes > 100


@pytest.mark.parametrize(
    ("types", "message_bits"), [("int16", 0), ("int32", 0), ("int16", 4), ("int32", 4)]
)
def test_other_types_of_weights_and_sums_equal_the_reference(types, message_bits):
    """Each kind of connection in wider types than it needs; binary spikes also by the short step."""
    r = np.random.default_rng(message_bits)
    nodes = {
        "in": Input((2, 4, 5), message_bits),
        "dense": Dense(r.integers(-30, 50, (36, 40)), delay=1),
        "sparse": Sparse(scipy.sparse.csr_matrix(r.integers(-30, 50, (36, 40)))),
        "conv": Conv(r.integers(-30, 50, (3, 2, 3, 3)), padding=(1, 0), groups=1, weight_exp=1),
        "n": Neurons((3, 4, 3), vth=300, dv=60, du=1000, bias_mant=r.integers(-9, 9, (3, 4, 3))),
        "fc": Dense(r.integers(-90, 99, (5, 36)), weight_exp=-1),
        "last": Neurons((5,), vth=60),
    }
    edges = [("in", name) for name in ("dense", "sparse", "conv")]
    edges += [(name, "n") for name in ("dense", "sparse", "conv")]
    graph = LoihiGraph(nodes, (*edges, ("n", "fc"), ("fc", "last")))
    values = r.integers(0, 1 << max(message_bits, 1), (5, 2, 2, 4, 5))
    links = compile_graph(graph, Paths(types=types)).incoming.values()
    assert {link.weights.values.dtype.name for node in links for link in node} == {types}
    assert assert_equals_reference(graph, values) > 20


@pytest.mark.parametrize("wiring", WIRINGS)
def test_batch_of_16_on_two_threads_equals_the_reference(wiring):
    graph = random_graph([5, 77], wiring)
    spikes = random_spikes(graph, 5, 16, 1)
    assert assert_equals_reference(graph, spikes, n_threads=2) > 0


@pytest.mark.parametrize("wiring", WIRINGS)
def test_batch_of_16_equals_16_batches_of_1(wiring):
    graph = random_graph([3, 21], wiring)
    spikes = random_spikes(graph, 6, 16, 3)
    arrays = spikes if isinstance(spikes, dict) else {"in": spikes}
    together = simulate(graph, arrays, record="s,u,v")
    for b in range(16):
        alone = simulate(graph, {k: x[:, b : b + 1] for k, x in arrays.items()}, record="s,u,v")
        for name in graph.neurons:
            for variable, array in alone[name].variables().items():
                assert_array_equal(array[:, 0], getattr(together[name], variable)[:, b])


@pytest.mark.parametrize("register", ["du", "dv", "vth", "bias_mant"])
def test_negative_twin_one_register_off_by_one_differs(register):
    """A comparison that cannot fail proves nothing: one register + 1 must show at that node."""
    r = np.random.default_rng(0)
    neurons = Neurons((32,), du=500, dv=200, vth=40, bias_mant=3, bias_exp=4)
    graph = LoihiGraph(
        {"in": Input((8,)), "c1": Dense(r.integers(-20, 40, (32, 8))), "n1": neurons},
        (("in", "c1"), ("c1", "n1")),
    )
    twin = graph.with_node("n1", **{register: getattr(neurons, register) + 1})
    spikes = r.integers(0, 2, (12, 3, 8))
    expected = to_node_time(graph, run_chip(graph, spikes), 12, 3)
    trace = simulate(twin, spikes, record="s,u,v")
    assert expected["n1"]["s"].sum() > 0
    with pytest.raises(AssertionError):
        for variable in ("s", "u", "v"):
            assert_array_equal(getattr(trace["n1"], variable), expected["n1"][variable])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(300))
def test_many_random_graphs_equal_the_reference(seed):
    graph = random_graph([seed, 1000])
    graph = with_programs(graph, seed) if seed % 2 else graph
    assert_equals_reference(graph, random_spikes(graph, 1 + seed % 11, 1 + seed % 3, seed))
