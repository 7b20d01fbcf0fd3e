"""The search for splits that respect the limits: the fewest cores, targets before sources.

A split costs its own blocks plus the blocks that its sources need for their output axons: many small
target blocks make every source spike travel to many cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.splits import (
    BlockGrid,
    as_volume,
    axon_slots,
    least_bits,
    reach,
    register_sets,
    synapse_demand,
)
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi.cores import CoreLimits

__all__ = ["BLOCK_LIMITS", "Demand", "demand_of", "find_splits"]

BLOCK_LIMITS = ("neurons", "synapse_bits", "axons_in", "axons_out", "neuron_groups")
ROUNDS = 3  # feedback: a source's blocks depend on those of its targets
FINE_STEPS = 12  # numbers of blocks tried one by one before they grow in steps
GROWTH = 1.08
# Input axons and synapse bits of a connection in each block of its target, by the blocks per axis.
Known = dict[tuple[str, tuple[int, int, int]], tuple[IntArray, IntArray]]


@dataclass(frozen=True)
class Demand:
    """What each block of a split takes on its core; arrays of shape ``split.parts``."""

    neurons: IntArray
    synapse_bits: IntArray
    axons_in: IntArray
    axons_out: IntArray
    neuron_groups: IntArray

    def worst(self, limit: str) -> int:
        """The largest value over all blocks."""
        return int(np.max(getattr(self, limit)))


def demand_of(
    graph: LoihiGraph,
    name: str,
    split: BlockGrid,
    slots: IntArray,
    sets: IntArray,
    limits: CoreLimits,
    known: Known,
) -> Demand:
    """What the blocks of population ``name`` take.

    ``slots`` are output axons per neuron, ``sets`` the number of each neuron's set of registers, ``known``
    what was computed before.
    """
    axons, bits = np.zeros(split.parts, dtype=np.int64), np.zeros(split.parts, dtype=np.int64)
    for connection in graph.incoming(name):
        key = (connection, split.parts)
        if key not in known:
            known[key] = synapse_demand(graph, connection, split, limits)
        axons, bits = axons + known[key][0], bits + known[key][1]
    return Demand(split.sizes, bits, axons, split.sums(slots), split.distinct(sets))


def find_splits(
    graph: LoihiGraph, limits: CoreLimits
) -> tuple[dict[str, BlockGrid], dict[str, Demand], dict[str, dict[str, int]]]:
    """A split of every population, what its blocks take, and limits that no split can keep.

    Returns:
        splits, demands, and per population what a single neuron needs of the limits that it breaks.
    """
    splits = {
        name: BlockGrid(as_volume(node.shape), (1, 1, 1)) for name, node in graph.neurons.items()
    }
    demands: dict[str, Demand] = {}
    broken: dict[str, dict[str, int]] = {}
    known: Known = {}
    sets = {name: register_sets(node, limits) for name, node in graph.neurons.items()}
    for _ in range(ROUNDS):
        before = dict(splits)
        for name in reversed(graph.timing.order):
            slots = _output_slots(graph, name, splits, limits)
            splits[name], broken[name] = _best(graph, name, slots, sets[name], limits, known)
        if splits == before:
            break
    for name, split in splits.items():
        slots = _output_slots(graph, name, splits, limits)
        demands[name] = demand_of(graph, name, split, slots, sets[name], limits, known)
    return splits, demands, broken


def _output_slots(
    graph: LoihiGraph, name: str, splits: dict[str, BlockGrid], limits: CoreLimits
) -> IntArray:
    """Output axon slots of each neuron: one or two per block of a target that it reaches."""
    slots = np.zeros(splits[name].shape, dtype=np.int64)
    for connection, (source, target) in graph.ends.items():
        if source == name:
            found = reach(graph, connection, splits[target]).per_neuron()
            slots += axon_slots(graph, connection, limits) * found
    return slots


def _best(
    graph: LoihiGraph,
    name: str,
    slots: IntArray,
    sets: IntArray,
    limits: CoreLimits,
    known: Known,
) -> tuple[BlockGrid, dict[str, int]]:
    """The cheapest split that keeps every limit which single neurons can keep."""
    shape = as_volume(graph.neurons[name].shape)
    finest = _single_neurons(graph, name, slots, sets, limits, known)
    broken = {k: needs for k, needs in finest.items() if needs > _value(limits, k)}
    wanted = [limit for limit in BLOCK_LIMITS if limit not in broken]
    stored = sum(least_bits(graph.connections[c], limits) for c in graph.incoming(name))
    lowest = max(
        -(-int(np.prod(shape)) // _value(limits, "neurons")),
        -(-int(slots.sum()) // _value(limits, "axons_out")) if "axons_out" in wanted else 1,
        -(-(int(sets.max(initial=0)) + 1) // _value(limits, "neuron_groups")),
        -(-stored // _value(limits, "synapse_bits")) if "synapse_bits" in wanted else 1,
    )
    best, best_cost = BlockGrid(shape, (shape[0], shape[1], shape[2])), float("inf")
    for parts in _candidates(shape, lowest):
        split = BlockGrid(shape, parts)
        if split.n_blocks >= best_cost:
            break
        if split.n_blocks < lowest:
            continue
        demand = demand_of(graph, name, split, slots, sets, limits, known)
        if any(demand.worst(limit) > _value(limits, limit) for limit in wanted):
            if shape[1] == shape[2] == 1 and "axons_in" in wanted:
                # A smaller block lies in at most three of these, so all of them take a third at least.
                total = -(-int(demand.axons_in.sum()) // 3)
                lowest = max(lowest, -(-total // _value(limits, "axons_in")))
            continue
        cost = split.n_blocks + _source_blocks(graph, name, split, limits)
        if cost < best_cost:
            best, best_cost = split, cost
    return best, broken


def _source_blocks(graph: LoihiGraph, name: str, split: BlockGrid, limits: CoreLimits) -> float:
    """Cores that the sources need for the output axons into ``split``, as a fraction."""
    blocks = 0.0
    for connection in graph.incoming(name):
        source = graph.ends[connection][0]
        if source in graph.neurons and source != name:
            slots = axon_slots(graph, connection, limits)
            total = slots * int(reach(graph, connection, split).per_neuron().sum())
            blocks += total / _value(limits, "axons_out")
    return blocks


def _value(limits: CoreLimits, limit: str) -> int:
    return int(getattr(limits, limit).value)


def _single_neurons(
    graph: LoihiGraph,
    name: str,
    slots: IntArray,
    sets: IntArray,
    limits: CoreLimits,
    known: Known,
) -> dict[str, int]:
    """The largest demand of one neuron on its own core: what no split can lower."""
    shape = as_volume(graph.neurons[name].shape)
    split = BlockGrid(shape, (shape[0], shape[1], shape[2]))
    demand = demand_of(graph, name, split, slots, sets, limits, known)
    return {limit: demand.worst(limit) for limit in BLOCK_LIMITS}


def _candidates(shape: tuple[int, ...], lowest: int) -> Iterator[tuple[int, int, int]]:
    """Numbers of blocks per axis, the fewest blocks first; of equals, space is cut first."""
    if shape[1] == shape[2] == 1:
        for parts in _counts(shape[0], lowest):
            yield parts, 1, 1
        return
    axes = [_cuts(n) for n in shape]
    found = [(c, h, w) for c in axes[0] for h in axes[1] for w in axes[2] if c * h * w >= lowest]
    yield from sorted(found, key=lambda p: (p[0] * p[1] * p[2], p[0], abs(p[1] - p[2])))


def _counts(n: int, lowest: int) -> Iterator[int]:
    """lowest, lowest + 1, ... and then in growing steps up to n."""
    parts = min(max(1, lowest), n)
    step = 0
    while parts < n:
        yield parts
        step += 1
        parts = parts + 1 if step < FINE_STEPS else max(parts + 1, int(parts * GROWTH))
    yield n


def _cuts(n: int) -> list[int]:
    """Numbers of blocks worth trying along an axis: those that change the largest block's size."""
    sizes = sorted({-(-n // parts) for parts in range(1, n + 1)}, reverse=True)
    counts = sorted({-(-n // size) for size in sizes})
    if len(counts) <= FINE_STEPS:
        return counts
    return sorted({1, n, *(c for c in counts if n % c == 0), *counts[:4]})
