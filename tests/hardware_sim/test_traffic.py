"""Fewer hops: the same cores in other places, better than chance and than any single exchange."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Activity, estimate_energy, map_to_chip, simulate
from biril_nm.hardware_sim.mapping import messages
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi.cores import Limit
from tests.support.cores import small_cores
from tests.support.random_graphs import random_graph, random_spikes


def board(cores=64, columns=4):
    """Small cores, one on each tile."""
    return replace(
        small_cores(), cores=Limit(cores, "test"), cores_per_tile=1, mesh_columns=columns
    )


def rings(n_rings=6, n_layers=4, size=6):
    """Loops of layers that know nothing of each other, layer by layer in the order of latency."""
    nodes, edges = {"in": Input((1,))}, []
    for layer in range(n_layers):
        for ring in range(n_rings):
            name = f"n{ring}_{layer}"
            nodes[name] = Neurons((size,), vth=5)
            source = "in" if layer == 0 else f"n{ring}_{layer - 1}"
            width = 1 if layer == 0 else size
            nodes[f"c{ring}_{layer}"] = Dense(np.full((size, width), 10))
            edges += [(source, f"c{ring}_{layer}"), (f"c{ring}_{layer}", name)]
    nodes["out"] = Output()
    edges.append((f"n0_{n_layers - 1}", "out"))
    return LoihiGraph(nodes, tuple(edges))


def counts(graph, placement, spikes=None):
    """(messages, hops) if every neuron spikes once, or as often as ``spikes`` says."""
    spikes = spikes or {name: np.ones(node.shape, int) for name, node in graph.neurons.items()}
    found = [messages(graph, placement, name, spikes[name]) for name in graph.neurons]
    return sum(m.sent for m in found), sum(m.hops_x + m.hops_y for m in found)


def exchanged(placement, a, b):
    """The placement with two cores in each other's places."""
    swap = {a: b, b: a}
    parts = {
        name: tuple(part._replace(core=swap.get(part.core, part.core)) for part in blocks)
        for name, blocks in placement.parts.items()
    }
    return replace(placement, parts=parts)


def content(placement):
    """What the cores hold, wherever they are."""
    return sorted(
        sorted((part.node, part.bounds) for part in core.parts) for core in placement.cores
    )


@pytest.mark.parametrize("graph", [rings(), *(random_graph(seed) for seed in range(6))])
def test_no_exchange_of_two_cores_saves_hops(graph):
    before = map_to_chip(graph, board())
    after = map_to_chip(graph, board(), optimise="traffic")
    assert content(after) == content(before) and after.rows() == before.rows()
    assert [core.index for core in after.cores] == list(range(len(before.cores)))
    assert all(part.core == core.index for core in after.cores for part in core.parts)
    for name, blocks in after.parts.items():
        assert [part.bounds for part in blocks] == list(after.splits[name].all_bounds())
    (sent, hops), (sent_before, hops_before) = counts(graph, after), counts(graph, before)
    assert sent == sent_before and hops <= hops_before
    for a, b in combinations(range(min(len(after.cores), 16)), 2):
        assert counts(graph, exchanged(after, a, b))[1] >= hops


def test_what_belongs_together_comes_together():
    graph = rings()
    hops_before = counts(graph, map_to_chip(graph, board()))[1]
    assert counts(graph, map_to_chip(graph, board(), optimise="traffic"))[1] < 0.75 * hops_before


def test_spikes_of_a_run_count_and_make_the_energy_less():
    graph = rings()
    spikes = random_spikes(graph, 8, 3, seed=1)
    trace = simulate(graph, spikes, record=("s",))
    activity = Activity.of(graph, trace, spikes)
    busy = map_to_chip(graph, board(), optimise="traffic", spikes=activity.spikes)
    plain = map_to_chip(graph, board())
    joules = [
        estimate_energy(graph, activity, mapping=each, chip="loihi1").joules
        for each in (plain, busy)
    ]
    assert counts(graph, busy, activity.spikes)[1] < counts(graph, plain, activity.spikes)[1]
    assert joules[1] < joules[0]


def test_without_time_nothing_moves(monkeypatch):
    graph = rings()
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)  # a coarse clock between two ticks
    assert map_to_chip(graph, board(), optimise="traffic", seconds=0) == map_to_chip(graph, board())


def test_wrong_wishes_are_refused():
    graph = rings(2)
    with pytest.raises(ConfigError, match="optimise"):
        map_to_chip(graph, optimise="hops")
    with pytest.raises(ConfigError, match=r"seconds is -1.*expected a time limit"):
        map_to_chip(graph, optimise="traffic", seconds=-1.0)
    for wrong in (np.ones(5, int), np.full(6, 0.5)):
        with pytest.raises(ConfigError, match=r"spikes of 'n0_0' are .*expected whole numbers"):
            map_to_chip(graph, optimise="traffic", spikes={"n0_0": wrong})
