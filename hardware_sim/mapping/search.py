"""The search for splits that respect the limits: the fewest cores, targets before sources.

A split costs its own blocks plus the blocks that its sources need for their output axons: many small
target blocks make every source spike travel to many cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.fanout import axon_slots, reach
from biril_nm.hardware_sim.mapping.splits import (
    ENDLESS,
    BlockGrid,
    SynapseLists,
    Totals,
    as_volume,
    least_bits,
    register_sets,
    synapse_demand,
    synapse_lists,
)
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.loihi.cores import CoreLimits

__all__ = ["BLOCK_LIMITS", "Demand", "find_splits"]

Parts = tuple[int, int, int]  # blocks per axis
Most = tuple[int, int]  # input axons and synapse bits of a block

BLOCK_LIMITS = ("neurons", "synapse_bits", "axons_in", "axons_out", "neuron_groups")
ROUNDS = 3  # feedback: a source's blocks depend on those of its targets
FINE_STEPS = 12  # numbers of blocks tried one by one before they grow in steps
GROWTH = 1.08


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


@dataclass(frozen=True)
class _Network:
    """A graph on a chip, and what its connections take in the blocks of splits that were looked at.

    Attributes:
        graph: the network.
        limits: of a core.
        known: (connection, blocks per axis) -> input axons, synapse bits, and for a Sparse the lists.
    """

    graph: LoihiGraph
    limits: CoreLimits
    known: dict[tuple[str, Parts], tuple[IntArray, IntArray, SynapseLists | None]] = field(
        default_factory=dict
    )

    def value(self, limit: str) -> int:
        """A limit of a core."""
        return int(getattr(self.limits, limit).value)

    def synapses(
        self, connection: str, split: BlockGrid, most: Most = (ENDLESS, ENDLESS)
    ) -> tuple[IntArray, IntArray, SynapseLists | None]:
        """What one connection takes in each block of its target; up to one that takes more than ``most``."""
        key = (connection, split.parts)
        if key in self.known:
            return self.known[key]
        node = self.graph.connections[connection]
        if not isinstance(node, Sparse):
            self.known[key] = *synapse_demand(self.graph, connection, split, self.limits), None
            return self.known[key]
        lists = synapse_lists(node, split, self.limits, most)
        found = lists.axons, lists.bits, lists
        if lists.complete:
            self.known[key] = found
        return found

    def into(
        self, name: str, split: BlockGrid, most: Most = (ENDLESS, ENDLESS)
    ) -> Iterator[tuple[IntArray, IntArray]]:
        """Running sums, from 0, of what its connections take, those first that are quick to count."""
        axons = bits = np.zeros(split.parts, dtype=np.int64)
        yield axons, bits
        incoming = self.graph.incoming(name)
        slow = {c: isinstance(self.graph.connections[c], Sparse) for c in incoming}
        for connection in sorted(incoming, key=slow.__getitem__):
            more = self.synapses(connection, split, most)
            axons, bits = axons + more[0], bits + more[1]
            yield axons, bits

    def reached(self, connection: str, split: BlockGrid) -> IntArray:
        """Blocks of the target that each source neuron reaches."""
        lists = self.synapses(connection, split)[2]
        if lists is None:
            return reach(self.graph, connection, split).per_neuron()
        return lists.reached.reshape(as_volume(self.graph.shape_of(self.graph.ends[connection][0])))

    def slots(self, name: str, splits: Mapping[str, BlockGrid]) -> IntArray:
        """Output axon slots of each neuron: one or two per block of a target that it reaches."""
        slots = np.zeros(splits[name].shape, dtype=np.int64)
        for connection, (source, target) in self.graph.ends.items():
            if source == name:
                each = axon_slots(self.graph, connection, self.limits)
                slots += each * self.reached(connection, splits[target])
        return slots

    def source_blocks(self, name: str, split: BlockGrid) -> float:
        """Cores that the sources need for the output axons into ``split``, as a fraction."""
        blocks = 0.0
        for connection in self.graph.incoming(name):
            source = self.graph.ends[connection][0]
            if source in self.graph.neurons and source != name:
                lists = self.synapses(connection, split)[2]
                total = (
                    reach(self.graph, connection, split).total()
                    if lists is None
                    else int(lists.reached.sum())
                )
                slots = axon_slots(self.graph, connection, self.limits)
                blocks += slots * total / self.value("axons_out")
        return blocks


@dataclass(frozen=True)
class _Population:
    """What does not depend on the split of a population.

    Attributes:
        name: of the population.
        slots: output axon slots of each neuron.
        totals: their sums.
        sets: the number of each neuron's set of registers.
    """

    name: str
    slots: IntArray
    totals: Totals
    sets: IntArray

    def demand(self, net: _Network, split: BlockGrid) -> Demand:
        """What its blocks take."""
        axons, bits = list(net.into(self.name, split))[-1]
        out, groups = self.totals.over(split), split.distinct(self.sets)
        return Demand(split.sizes, bits, axons, out, groups)

    def single(self, net: _Network) -> dict[str, int]:
        """The largest demand of one neuron on its own core: what no split can lower."""
        shape = self.slots.shape
        demand = self.demand(net, BlockGrid(shape, (shape[0], shape[1], shape[2])))
        return {limit: demand.worst(limit) for limit in BLOCK_LIMITS}

    def breaks(self, net: _Network, split: BlockGrid, wanted: Mapping[str, int]) -> bool:
        """Whether some block exceeds a wanted limit; what is quick to know is looked at first."""
        if split.largest > wanted.get("neurons", split.largest):
            return True
        out = wanted.get("axons_out")
        if out is not None and self.totals.over(split).max() > out:
            return True
        most = wanted.get("axons_in", ENDLESS), wanted.get("synapse_bits", ENDLESS)
        for axons, bits in net.into(self.name, split, most):
            if axons.max() > most[0] or bits.max() > most[1]:
                return True
        groups = wanted.get("neuron_groups")
        return groups is not None and bool(split.distinct(self.sets).max() > groups)


def find_splits(
    graph: LoihiGraph, limits: CoreLimits
) -> tuple[dict[str, BlockGrid], dict[str, Demand], dict[str, dict[str, int]]]:
    """A split of every population, what its blocks take, and limits that no split can keep.

    Returns:
        splits, demands, and per population what a single neuron needs of the limits that it breaks.
    """
    net = _Network(graph, limits)
    splits = {
        name: BlockGrid(as_volume(node.shape), (1, 1, 1)) for name, node in graph.neurons.items()
    }
    broken: dict[str, dict[str, int]] = {}
    sets = {name: register_sets(node, limits) for name, node in graph.neurons.items()}
    found: dict[str, _Population] = {}
    for _ in range(ROUNDS):
        before = dict(splits)
        for name in reversed(graph.timing.order):
            slots = net.slots(name, splits)
            if name in found and np.array_equal(found[name].slots, slots):
                continue  # nothing that its split depends on has changed
            found[name] = _Population(name, slots, Totals.of(slots), sets[name])
            splits[name], broken[name] = _best(net, found[name])
        if splits == before:
            break
    demands = {}
    for name, split in splits.items():
        slots = net.slots(name, splits)
        demands[name] = _Population(name, slots, Totals.of(slots), sets[name]).demand(net, split)
    return splits, demands, broken


def _best(net: _Network, population: _Population) -> tuple[BlockGrid, dict[str, int]]:
    """The cheapest split that keeps every limit which single neurons can keep."""
    name, shape = population.name, population.slots.shape
    broken = {k: n for k, n in population.single(net).items() if n > net.value(k)}
    wanted = {limit: net.value(limit) for limit in BLOCK_LIMITS if limit not in broken}
    stored = sum(least_bits(net.graph.connections[c], net.limits) for c in net.graph.incoming(name))
    totals = {
        "neurons": population.slots.size,
        "axons_out": population.totals.total,
        "neuron_groups": int(population.sets.max(initial=0)) + 1,
        "synapse_bits": stored,
    }
    lowest = max(-(-n // wanted[limit]) for limit, n in totals.items() if limit in wanted)
    best, best_cost = BlockGrid(shape, (shape[0], shape[1], shape[2])), float("inf")
    for parts in _candidates(shape, lowest):
        split = BlockGrid(shape, parts)
        if split.n_blocks >= best_cost:
            break
        if split.n_blocks < lowest:
            continue
        if population.breaks(net, split, wanted):
            if shape[1] == shape[2] == 1 and "axons_in" in wanted:
                # A smaller block lies in at most three of these, so all of them take a third at least.
                known = (net.known.get((c, parts)) for c in net.graph.incoming(name))
                total = -(-sum(int(each[0].sum()) for each in known if each) // 3)
                lowest = max(lowest, -(-total // wanted["axons_in"]))
            continue
        cost = split.n_blocks + net.source_blocks(name, split)
        if cost < best_cost:
            best, best_cost = split, cost
    return best, broken


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
