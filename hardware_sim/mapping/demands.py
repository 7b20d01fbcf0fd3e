"""What the blocks of a split take on their cores."""

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
    synapse_demand,
    synapse_lists,
)
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.loihi.cores import CoreLimits

__all__ = ["BLOCK_LIMITS", "Demand", "Network", "Population"]

Most = tuple[int, int]  # input axons and synapse bits of a block

BLOCK_LIMITS = ("neurons", "synapse_bits", "axons_in", "axons_out", "neuron_groups")


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
class Network:
    """A graph on a chip, and what its connections take in the blocks of splits that were looked at.

    Attributes:
        graph: the network.
        limits: of a core.
        known: (connection, split) -> input axons, synapse bits, and for a Sparse the lists.
    """

    graph: LoihiGraph
    limits: CoreLimits
    known: dict[tuple[str, BlockGrid], tuple[IntArray, IntArray, SynapseLists | None]] = field(
        default_factory=dict
    )

    def value(self, limit: str) -> int:
        """A limit of a core."""
        return int(getattr(self.limits, limit).value)

    def synapses(
        self, connection: str, split: BlockGrid, most: Most = (ENDLESS, ENDLESS)
    ) -> tuple[IntArray, IntArray, SynapseLists | None]:
        """What one connection takes in each block of its target; up to one that takes more than ``most``."""
        key = (connection, split)
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
class Population:
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

    def demand(self, net: Network, split: BlockGrid) -> Demand:
        """What its blocks take."""
        axons, bits = list(net.into(self.name, split))[-1]
        out, groups = self.totals.over(split), split.distinct(self.sets)
        return Demand(split.sizes, bits, axons, out, groups)

    def single(self, net: Network) -> dict[str, int]:
        """The largest demand of one neuron on its own core: what no split can lower."""
        shape = self.slots.shape
        demand = self.demand(net, BlockGrid(shape, (shape[0], shape[1], shape[2])))
        return {limit: demand.worst(limit) for limit in BLOCK_LIMITS}

    def breaks(self, net: Network, split: BlockGrid, wanted: Mapping[str, int]) -> bool:
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
