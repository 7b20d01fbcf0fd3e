"""How many cores a network takes at least: what each limit of a core demands of any placement.

A core that holds s neurons of a population in c channels at m places (s <= c m) takes at least the
memory of the kernels of c channels or of the lists of s neurons, and at least the axons that m places
reach. The largest s that a core has room for gives the cores of a population, sums over all populations
those of the network. The numbers hold for any subsets of neurons, not only for the blocks of :mod:`splits`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.fanout import axon_slots
from biril_nm.hardware_sim.mapping.neighbours import fan_out, places_reached
from biril_nm.hardware_sim.mapping.splits import (
    as_volume,
    index_bits,
    list_bits,
    synapse_bits,
)
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Shape, Sparse
from biril_nm.loihi.cores import CoreLimits

__all__ = ["LeastCores", "least_cores"]

ROUNDS = 2  # output axons depend on the cores of the targets, and those on their own output axons
LIMITS = ("neurons", "synapse_bits", "axons_in", "axons_out")


@dataclass(frozen=True)
class LeastCores:
    """Cores that any placement takes at least.

    Attributes:
        populations: population -> limit -> cores, "all" for the limits together.
        network: limit -> cores that all populations fill together.
    """

    populations: Mapping[str, Mapping[str, int]]
    network: Mapping[str, int]

    @property
    def cores(self) -> int:
        """The largest of these numbers."""
        each = (found["all"] for found in self.populations.values())
        return max([*each, *self.network.values()], default=0)


@dataclass(frozen=True)
class _Link:
    """What a connection takes at least on a core.

    Attributes:
        bits: (neurons, channels) -> memory.
        axons: (neurons, places) -> input axons.
        bits_in_all: (largest number of neurons, of places of a core) -> memory on all cores.
        axons_in_all: (largest number of neurons, of channels, of places, cores) -> axons on all cores.
    """

    bits: Callable[[int, int], float]
    axons: Callable[[int, int], float]
    bits_in_all: Callable[[int, int], float]
    axons_in_all: Callable[[int, int, int, int], float]


def least_cores(
    graph: LoihiGraph, limits: CoreLimits, broken: Mapping[str, Mapping[str, int]]
) -> LeastCores:
    """Bounds for a graph on a chip.

    Args:
        graph: the network.
        limits: of a core.
        broken: population -> limits that a single neuron breaks, which do not count for it.
    """
    found = {name: _Population(graph, name, limits, broken.get(name, {})) for name in graph.neurons}
    slots = {name: np.zeros(1, dtype=np.int64) for name in found}
    rooms = {name: each.room(slots[name]) for name, each in found.items()}
    for _ in range(ROUNDS):
        slots = {name: _slots(graph, name, found, rooms, limits) for name in found}
        rooms = {name: each.room(slots[name]) for name, each in found.items()}
    sums = dict.fromkeys(LIMITS, 0.0)
    for name, each in found.items():
        for limit, load in each.loads(rooms[name], slots[name]).items():
            sums[limit] += load if limit in each.wanted else 0.0
    network = {key: math.ceil(n / getattr(limits, key).value - 1e-9) for key, n in sums.items()}
    return LeastCores({n: each.cores(slots[n]) for n, each in found.items()}, network)


class _Population:
    """A population, and what a core has room for."""

    def __init__(
        self, graph: LoihiGraph, name: str, limits: CoreLimits, broken: Mapping[str, int]
    ) -> None:
        self.shape = as_volume(graph.neurons[name].shape)
        self.n, self.n_places = math.prod(self.shape), self.shape[1] * self.shape[2]
        self.wanted = {key: int(getattr(limits, key).value) for key in LIMITS if key not in broken}
        self.links = [_link(graph, c, limits) for c in graph.incoming(name)]

    def room(self, slots: IntArray, only: str | None = None) -> int:
        """The most neurons that a core has room for, by all limits or one."""
        wanted = self.wanted if only is None else {only: self.wanted.get(only, math.inf)}
        out = np.cumsum(np.sort(slots.ravel()))

        def fits(s: int) -> bool:
            if out.size == self.n and out[s - 1] > wanted.get("axons_out", math.inf):
                return False
            c = self.channels(s, wanted.get("synapse_bits", math.inf))
            axons = sum(link.axons(s, -(-s // c)) for link in self.links) if c else math.inf
            return c > 0 and axons <= wanted.get("axons_in", math.inf)

        return max(1, _largest(fits, int(min(self.n, wanted.get("neurons", self.n)))))

    def channels(self, s: int, bits: float) -> int:
        """The most channels that s neurons on a core may lie in; 0: there is no room for any."""

        def fits(c: int) -> bool:
            return sum(link.bits(s, c) for link in self.links) <= bits

        # s neurons at all places need some channels in any case.
        fewest = -(-s // self.n_places)
        return _largest(fits, min(s, self.shape[0])) if fits(fewest) else 0

    def channel_room(self) -> int:
        """The most channels that the neurons of a core may have."""
        bits = self.wanted.get("synapse_bits", math.inf)
        return _largest(
            lambda c: sum(link.bits(c, c) for link in self.links) <= bits, self.shape[0]
        )

    def places(self, axons: float) -> int:
        """The most places that the neurons of a core may have."""
        return _largest(
            lambda m: sum(link.axons(m, m) for link in self.links) <= axons, self.n_places
        )

    def cores(self, slots: IntArray) -> dict[str, int]:
        """Cores for this population, by each limit and by all."""
        by_limit = {key: -(-self.n // self.room(slots, key)) for key in LIMITS}
        return {**by_limit, "all": -(-self.n // self.room(slots))}

    def loads(self, room: int, slots: IntArray) -> dict[str, float]:
        """What the population takes of each limit on all cores together."""
        c = max(1, self.channel_room())
        m = max(1, self.places(self.wanted.get("axons_in", math.inf)))
        cores = -(-self.n // room)
        return {
            "neurons": float(self.n),
            "synapse_bits": sum(link.bits_in_all(room, m) for link in self.links),
            "axons_in": sum(link.axons_in_all(room, c, m, cores) for link in self.links),
            "axons_out": float(slots.sum()) if slots.size == self.n else 0.0,
        }


def _largest(fits: Callable[[int], bool], high: int) -> int:
    """The largest number up to ``high`` that fits; all smaller ones do."""
    low = 0
    if high > 0 and fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _slots(
    graph: LoihiGraph,
    name: str,
    found: Mapping[str, _Population],
    rooms: Mapping[str, int],
    limits: CoreLimits,
) -> IntArray:
    """Output axon slots that each neuron needs at least, flat."""
    slots = np.zeros(found[name].n, dtype=np.int64)
    channels = {each: max(1, population.channel_room()) for each, population in found.items()}
    for connection, (source, target) in graph.ends.items():
        if source == name:
            fan, own = fan_out(graph, connection)
            cores = np.maximum(-(-fan // rooms[target]), -(-own // channels[target]))
            slots += axon_slots(graph, connection, limits) * np.where(fan > 0, cores, 0)
    return slots


# --- connections ----------------------------------------------------------------------------------


def _link(graph: LoihiGraph, connection: str, limits: CoreLimits) -> _Link:
    node = graph.connections[connection]
    source, target = (as_volume(graph.shape_of(end)) for end in graph.ends[connection])
    if isinstance(node, Conv):
        return _conv(node, source, target, limits)
    return _dense(node, limits) if isinstance(node, Dense) else _sparse(node, limits)


def _rate(per_synapse: int, longest: int, limits: CoreLimits) -> float:
    """Bits of a synapse at least, in lists of up to ``longest``."""
    lengths = np.arange(1, min(longest, limits.format.block_synapses) + 1)
    return float((list_bits(lengths, per_synapse, limits) / lengths).min(initial=math.inf))


def _dense(node: Dense, limits: CoreLimits) -> _Link:
    n, n_pre = node.weight.shape
    per_synapse = synapse_bits(node, limits)
    return _Link(
        bits=lambda s, c: n_pre * int(list_bits(np.array(s), per_synapse, limits)),
        axons=lambda s, m: n_pre,
        bits_in_all=lambda room, m: n_pre * n * _rate(per_synapse, room, limits),
        axons_in_all=lambda room, c, m, cores: n_pre * cores,
    )


def _sparse(node: Sparse, limits: CoreLimits) -> _Link:
    lengths = np.sort(np.diff(node.weight.indptr)).astype(np.int64)
    stored = np.cumsum(lengths)
    fan = np.bincount(node.weight.indices, minlength=1)
    most, total = max(1, int(fan.max())), int(node.weight.nnz)
    per_synapse = synapse_bits(node, limits) + index_bits(1, limits)

    def axons(s: int, m: int) -> float:
        return max(int(lengths[s - 1]), int(stored[s - 1]) / min(s, most))

    return _Link(
        bits=lambda s, c: int(stored[s - 1]) * _rate(per_synapse, s, limits),
        axons=axons,
        bits_in_all=lambda room, m: total * _rate(per_synapse, room, limits),
        axons_in_all=lambda room, c, m, cores: max(np.count_nonzero(fan), total / min(room, most)),
    )


def _conv(node: Conv, source: Shape, target: Shape, limits: CoreLimits) -> _Link:
    channels, group_in = node.weight.shape[:2]
    places = places_reached(node, source, target)
    n, n_places = math.prod(target), target[1] * target[2]
    per_axon = 1 if limits.population_axons else group_in
    own = channels if node.groups == 1 else channels // node.groups
    kernel = math.prod(node.weight.shape[2:])
    if limits.kernels_once:
        per_channel = kernel * _rate(synapse_bits(node, limits), channels * kernel, limits)
    else:  # a list of some of the taps, of which the border may leave few
        per_synapse = synapse_bits(node, limits) + index_bits(1, limits)
        per_channel = places.fewest_taps * _rate(per_synapse, channels * kernel, limits)

    def axons(s: int, m: int) -> float:
        if node.groups > 1 and not limits.population_axons:
            return per_axon * places.least_each * s / own
        return per_axon * float(places.reached[min(m, n_places)])

    def axons_in_all(room: int, c: int, m: int, cores: int) -> float:
        each = float(places.each[: min(m, n_places) + 1].min())
        return per_axon * each * n / min(c, own if not limits.population_axons else c)

    return _Link(
        bits=lambda s, c: group_in * per_channel * c,
        axons=axons,
        bits_in_all=lambda room, m: group_in * per_channel * max(channels, n / m),
        axons_in_all=axons_in_all,
    )
