"""The number of cores that any placement takes: never too large, and reached by simple layers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from biril_nm.hardware_sim import map_to_chip
from biril_nm.hardware_sim.mapping.neighbours import places_reached
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi.cores import LOIHI1_LIMITS, LOIHI2_LIMITS, Limit
from tests.support.cores import small_cores, stored_matrix
from tests.support.random_graphs import random_graph

TIGHT = replace(
    small_cores(),
    neurons=Limit(20, "test"),
    synapse_bits=Limit(4096, "test"),
    axons_in=Limit(60, "test"),
    axons_out=Limit(20, "test"),
)
FEW_AXONS = replace(TIGHT, axons_in=Limit(12, "test"), population_axons=False, kernels_once=True)


def chain(node, pre, post):
    nodes = {"in": Input(pre), "c": node, "n": Neurons(post, vth=100), "out": Output()}
    return LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))


@pytest.mark.parametrize("limits", [LOIHI1_LIMITS, LOIHI2_LIMITS, TIGHT, FEW_AXONS])
def test_no_placement_takes_fewer_cores(limits):
    reached = above_one = 0
    for seed in range(25):
        found = map_to_chip(random_graph(seed), limits)
        assert 1 <= found.least_cores <= len(found.cores)
        assert all(cores <= len(found.cores) for cores in found.least.network.values())
        for name, parts in found.parts.items():
            used = len({part.core for part in parts})
            assert all(cores <= used for cores in found.least.populations[name].values())
        reached += found.least_cores == len(found.cores)
        above_one += found.least_cores > 1
    assert reached and (above_one or limits in (LOIHI1_LIMITS, LOIHI2_LIMITS))


@pytest.mark.parametrize("seed", range(30))
def test_input_axons_allow_no_larger_subset_than_the_bound_says(seed):
    """Any subset of neurons counts, so the largest one that is found by adding the cheapest neuron next."""
    graph = random_graph(seed)
    least = map_to_chip(graph, FEW_AXONS).least
    for name, node in graph.neurons.items():
        stored = np.hstack([stored_matrix(graph, c) > 0 for c in graph.incoming(name)])
        if stored.sum(axis=1).max() > FEW_AXONS.axons_in.value:
            continue  # a limit that one neuron breaks does not count
        for start in range(node.size):
            chosen, left = [start], set(range(node.size)) - {start}
            while left:
                have = stored[chosen].any(axis=0)
                best = min(left, key=lambda n, have=have: (stored[n] & ~have).sum())
                if (have | stored[best]).sum() > FEW_AXONS.axons_in.value:
                    break
                chosen.append(best)
                left.remove(best)
            assert least.populations[name]["axons_in"] <= -(-node.size // len(chosen))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (4, 2, 1), (2, 3, 0), (5, 2, 2)]
)
def test_no_places_reach_fewer_sources_than_the_bound_says(kernel, stride, padding):
    """All sets of up to four places, at the border and in the middle."""
    weight = np.full((1, 1, kernel, kernel), 2)
    node = Conv(weight, stride=stride, padding=padding)
    side = (10 + 2 * padding - kernel) // stride + 1
    source, target = (1, 10, 10), (1, min(side, 5), min(side, 5))
    nodes = {"in": Input(source), "c": node, "n": Neurons((1, side, side), vth=9), "out": Output()}
    graph = LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))
    found = places_reached(node, source, (1, side, side))
    stored = stored_matrix(graph, "c").reshape(side, side, 100) > 0
    inner = np.logical_and.outer(*found.inner)
    assert (inner == (stored.sum(axis=2) == kernel * kernel)).all()
    places = [(y, x) for y in range(target[1]) for x in range(target[2])]
    for m in range(1, 5):
        for chosen in combinations(places, m):
            reached = int(np.any([stored[at] for at in chosen], axis=0).sum())
            assert found.reached[m] <= reached
            if all(inner[at] for at in chosen):
                assert found.within[m] <= reached


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize(("pre", "post"), [(784, 4096), (4000, 1000), (9, 5000), (1000, 77)])
def test_a_dense_layer_takes_no_more_than_the_least(chip, pre, post):
    found = map_to_chip(chain(Dense(np.full((post, pre), 2)), (pre,), (post,)), chip)
    assert found.fits
    assert found.least_cores == found.least.populations["n"]["all"] == len(found.cores)
    assert "at least" not in found.summary()


def test_each_limit_has_a_number_of_its_own():
    """4096 inputs: memory decides; 2 inputs: the number of neurons."""
    many = map_to_chip(chain(Dense(np.full((1000, 4096), 2)), (4096,), (1000,)), "loihi2").least
    assert many.network["synapse_bits"] > many.network["axons_in"] > many.network["neurons"] == 1
    few = map_to_chip(chain(Dense(np.full((9000, 2), 2)), (2,), (9000,)), "loihi2").least
    assert few.network == {"neurons": 3, "synapse_bits": 1, "axons_in": 1, "axons_out": 0}


def test_what_another_placement_might_not_need_is_printed():
    """Kernels of 256 channels that two cores hold, and axons of all places."""
    graph = chain(Conv(np.full((256, 200, 3, 3), 2), padding=1), (200, 16, 16), (256, 16, 16))
    found = map_to_chip(graph, "loihi2")
    assert 1 < found.least_cores < len(found.cores)
    text = f"{len(found.cores)} of 128 cores (at least {found.least_cores})"
    assert text in found.summary()
    ((_, cores, *_),) = found.rows()
    assert cores == f"{len(found.cores)} (at least {found.least.populations['n']['all']})"
