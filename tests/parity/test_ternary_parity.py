"""Ternary neurons against Lava's TernaryLIF (lava-nc 0.10.0, fixed_pt): every s, u and v.

Random graphs of any wiring, exponent, sign mode and delay, also with registers that no chip holds; several
samples in one stream, and rests between them where branches differ in length.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording import VARIABLES
from tests.support.lava_runs import any_integers
from tests.support.random_graphs import random_graph, random_spikes, with_ternary_neurons
from tests.support.sim_paths import assert_every_path_gives

pytestmark = pytest.mark.lava
WIRINGS = ("plain", "residual", "self", "loop", "inputs")


def side_by_side(seed: int):
    """A graph of each wiring, all in one, and its input; every population of some is ternary."""
    nodes, edges, spikes = {}, [], {}
    for wiring in WIRINGS:
        part = with_ternary_neurons(random_graph([seed, 17], wiring), seed)
        given = random_spikes(part, 8, 2, seed)
        named = given if isinstance(given, dict) else {"in": given}
        nodes |= {f"{wiring}.{name}": node for name, node in part.nodes.items()}
        edges += [(f"{wiring}.{a}", f"{wiring}.{b}") for a, b in part.edges]
        spikes |= {f"{wiring}.{name}": values for name, values in named.items()}
    return LoihiGraph(nodes, tuple(edges)), spikes


def compare(seeds, every_path=False):
    """Integers compared, and how often each spike was seen."""
    count, twins, seen = 0, 0, {-1: 0, 1: 0}
    for seed in seeds:
        graph, spikes = side_by_side(seed)
        with any_integers():
            lava = run_lava(graph, spikes, record=VARIABLES)
        sim = simulate(graph, spikes, record=VARIABLES)
        for theirs, ours in ((lava, sim), (lava.chip_time(), sim.chip_time())):
            for name in graph.neurons:
                for variable in VARIABLES:
                    a, b = getattr(theirs[name], variable), getattr(ours[name], variable)
                    assert_array_equal(a, b, f"{seed}: {name}.{variable}")
                    count += a.size
        assert lava.n_spikes == sim.n_spikes
        if every_path:
            assert_every_path_gives(graph, spikes, lava)
        ternary = [name for name, node in graph.neurons.items() if node.model == "ternary_lif"]
        for payload in seen:
            seen[payload] += sum(int((np.asarray(sim[n].s) == payload).sum()) for n in ternary)
        twin = graph
        for name in ternary:
            twin = twin.with_node(name, vth_lo=graph.neurons[name].vth_lo + 1)
        changed = simulate(twin, spikes, record=VARIABLES)
        twins += any((np.asarray(changed[n].v) != np.asarray(lava[n].v)).any() for n in ternary)
    assert twins > 0, "lower thresholds that are off by one change nothing"
    return count, seen


def test_random_graphs_equal_lava():
    count, seen = compare(range(1))
    assert count > 1_500
    assert min(seen.values()) > 10


@pytest.mark.slow
def test_100_random_graphs_equal_lava():
    count, seen = compare(range(100, 120), every_path=True)
    assert count > 40_000
    assert min(seen.values()) > 500
