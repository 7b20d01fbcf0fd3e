"""Mapping, energy and metrics of random graphs against counting synapse by synapse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from biril_nm.hardware_sim import estimate_energy, map_to_chip, neurobench_metrics, simulate
from biril_nm.loihi.cores import LOIHI1_LIMITS, LOIHI2_LIMITS, Limit
from tests.support.chip_reference import operations, part_demand, traffic
from tests.support.random_graphs import random_graph, random_spikes

N_STEPS, BATCH = 4, 2
TIGHT = {
    "cores": 8,
    "neurons": 6,
    "synapse_bits": 4096,
    "axons_in": 60,
    "axons_out": 20,
    "neuron_groups": 2,
}
SMALL = {name: Limit(value, "test") for name, value in TIGHT.items()}
CHIPS = {
    "loihi1": LOIHI1_LIMITS,
    "loihi2": LOIHI2_LIMITS,
    "small1": replace(LOIHI1_LIMITS, **SMALL, pop16_atoms=2, pop16_axons=20),
    "small2": replace(LOIHI2_LIMITS, **SMALL),
}
CASES = [(s, w) for s in range(2) for w in ("plain", "residual", "self", "loop", "inputs")]
CORE_SUMS = (
    "neurons", "synapse_bits", "axons_in", "axons_out", "neuron_groups", "synapse_formats",
)  # fmt: skip


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(("seed", "wiring"), CASES)
def test_placements_equal_counting(seed, wiring, chip):
    graph = random_graph(seed, wiring)
    mapping = map_to_chip(graph, CHIPS[chip])
    parts = [part for found in mapping.parts.values() for part in found]
    for name, found in mapping.parts.items():
        for block, part in enumerate(found):
            noted = (part.neurons, part.synapse_bits, part.axons_in, part.axons_out)
            wanted = part_demand(graph, mapping, name, block)
            assert (*noted, part.neuron_groups) == wanted, (name, block)
            assert part.synapse_formats == len(graph.incoming(name))
    unfit = {finding.node for finding in mapping.findings}
    for core in mapping.cores:
        mine = [part for part in parts if part.core == core.index]
        for limit in CORE_SUMS:
            total = sum(getattr(part, limit) for part in mine)
            assert getattr(core, limit) == total
            assert unfit & {p.node for p in mine} or total <= getattr(mapping.limits, limit).value


@pytest.mark.parametrize("chip", ["loihi1", "small1"])
@pytest.mark.parametrize(("seed", "wiring"), CASES)
def test_events_equal_counting(seed, wiring, chip):
    graph = random_graph(seed, wiring)
    given = random_spikes(graph, N_STEPS, BATCH, seed)
    inputs = given if isinstance(given, dict) else {"in": given}
    trace = simulate(graph, inputs, record=("s", "v"))
    mapping = map_to_chip(graph, CHIPS[chip])
    energy = estimate_energy(graph, trace, mapping, inputs=inputs)
    metrics = neurobench_metrics(graph, trace, inputs)
    arrays = {**inputs, **{name: trace[name].s for name in graph.neurons}}
    events = {n: np.asarray(a).reshape(N_STEPS, BATCH, -1) for n, a in arrays.items()}
    synops = dict.fromkeys(graph.neurons, 0)
    for name, (source, target) in graph.ends.items():
        counts = operations(graph, name, events[source])
        graded = (events[source] > 1).any(axis=(1, 2))
        layer = metrics.layers[name]
        assert layer.effective_macs == counts[graded, 1].sum() / BATCH
        assert layer.effective_acs == counts[~graded, 1].sum() / BATCH
        synops[target] += int(counts[:, 0].sum())
    assert sum(synops.values()) > 0
    joules = 0.0
    for name, node in graph.neurons.items():
        layer, spikes = energy.layers[name], int(events[name].sum())
        sent, *hops = traffic(graph, mapping, name, events[name])
        assert (layer.synops, layer.spikes) == (synops[name] / BATCH, spikes / BATCH)
        assert (layer.messages, *layer.hops) == (sent / BATCH, *(n / BATCH for n in hops))
        assert layer.updates == node.size * N_STEPS
        joules += 23.6 * synops[name] + 1.7 * sent + 3 * hops[0] + 4 * hops[1]
        joules += 81 * node.size * N_STEPS * BATCH
    assert energy.joules == pytest.approx(joules / BATCH * 1e-12, rel=1e-12)


def test_per_neuron_registers_and_splits_occur():
    graphs = [random_graph(seed, wiring) for seed, wiring in CASES]
    mappings = [map_to_chip(graph, CHIPS["small1"]) for graph in graphs]
    parts = [part for m in mappings for found in m.parts.values() for part in found]
    assert {part.neuron_groups for part in parts} >= {1, 2}
    assert max(len(found) for m in mappings for found in m.parts.values()) > 4
