"""How many cores a network takes at least: what each limit of a core demands of any placement.

A core that holds s neurons of a population in c channels at m places (s <= c m) takes at least the
memory of the kernels of c channels or of the lists of s neurons, and at least the axons that m places
reach. The largest s that a core has room for gives the cores of a population, sums over all populations
those of the network. With C channels in all, each place lies on at least ceil(C / c) cores. Places at borders
reach fewer sources; so all places are looked at, and those in the middle alone, and the larger number counts.
The numbers hold for any subsets of neurons, not only for the blocks of :mod:`splits`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.hardware_sim.mapping.fanout import axon_slots
from biril_nm.hardware_sim.mapping.links import Link, link_of
from biril_nm.hardware_sim.mapping.neighbours import fan_out
from biril_nm.hardware_sim.mapping.splits import as_volume
from biril_nm.hw_graph import Conv, LoihiGraph, Shape, Sparse
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


def least_cores(
    graph: LoihiGraph, limits: CoreLimits, broken: Mapping[str, Mapping[str, int]]
) -> LeastCores:
    """Bounds for a graph on a chip.

    Args:
        graph: the network.
        limits: of a core.
        broken: population -> limits that a single neuron breaks, which do not count for it.
    """
    found = {name: _Population(graph, name, limits, broken) for name in graph.neurons}
    slots = {name: np.zeros(1, dtype=np.int64) for name in found}
    rooms = {name: each.room(slots[name]) for name, each in found.items()}
    for _ in range(ROUNDS):
        slots = {name: _slots(graph, name, found, rooms, limits) for name in found}
        rooms = {name: each.room(slots[name]) for name, each in found.items()}
    sums = dict.fromkeys(LIMITS, 0.0)
    for name, each in found.items():
        load = each.load(rooms[name], _slots_into(graph, name, found, rooms, limits))
        for limit in LIMITS:
            sums[limit] += load.least(limit)
    network = {key: math.ceil(n / getattr(limits, key).value - 1e-9) for key, n in sums.items()}
    return LeastCores({n: each.cores(slots[n]) for n, each in found.items()}, network)


@dataclass(frozen=True)
class _Area:
    """Some places of a population, and what any m of them take on a core.

    Attributes:
        n: places.
        axons: m -> input axons, from m = 0.
        slots: m -> output axon slots of the sources.
    """

    n: int
    axons: FloatArray
    slots: FloatArray


def _areas(links: Sequence[Link], shape: Shape) -> list[_Area]:
    """All places, and those at which all kernels lie on their sources as a whole."""
    shared = [link.shared for link in links if link.shared is not None]
    none = np.zeros(shape[1] * shape[2] + 1)
    every = _Area(
        len(none) - 1,
        sum((each.reached for each in shared), none),
        sum((each.reached * each.slots for each in shared), none),
    )
    rows, columns = np.ones(shape[1], dtype=bool), np.ones(shape[2], dtype=bool)
    for each in shared:
        rows, columns = rows & each.inner[0], columns & each.inner[1]
    inner = _Area(
        int(rows.sum() * columns.sum()),
        sum((each.within for each in shared), none),
        sum((each.within * each.slots for each in shared), none),
    )
    return [every, inner]


@dataclass(frozen=True)
class _Load:
    """What a population takes on all cores together.

    Attributes:
        alone: limit -> what does not depend on places and channels: neurons, and synapses and axons that no
            two neurons share. Output axons are those of the sources.
        areas: areas, and the most places of each that a core has room for.
        slots: output axon slots of the sources of convolutions, each taken alone.
        n_channels: of the population.
        room: neurons that a core has room for.
        channels: channels that it has room for.
        per_channel: memory of the kernels of a channel.
    """

    alone: Mapping[str, float]
    areas: Sequence[tuple[_Area, int]]
    slots: float
    n_channels: int
    room: int
    channels: int
    per_channel: float

    def least(self, limit: str) -> float:
        """The least sum over all cores."""
        alone, shared = self.alone.get(limit, 0.0), [0.0]
        if limit == "synapse_bits" and limit in self.alone:
            copies = [-(-area.n // max(1, places)) for area, places in self.areas]
            shared = [self.per_channel * self.n_channels * each for each in copies]
        if limit == "axons_in" and limit in self.alone:
            shared = [self._axons(area.n, area.axons, places) for area, places in self.areas]
        if limit == "axons_out":
            each = [self._axons(area.n, area.slots, places) for area, places in self.areas]
            shared = [self.slots, *each]
        return alone + max(shared)

    def _axons(self, n: int, axons: FloatArray, places: int) -> float:
        """Axons of all cores with some of ``n`` places, each with up to ``places`` of them."""
        if not places:
            return 0.0
        m = np.arange(1, places + 1)
        cores = -(-self.n_channels // self.channels)  # of each place, for all its channels
        by_place = cores * n * (axons[m] / m).min()
        by_neuron = (axons[m] / np.minimum(self.room, self.channels * m)).min()
        return float(max(by_place, self.n_channels * n * by_neuron))


class _Population:
    """A population, and what a core has room for."""

    def __init__(
        self,
        graph: LoihiGraph,
        name: str,
        limits: CoreLimits,
        broken: Mapping[str, Mapping[str, int]],
    ) -> None:
        own = broken.get(name, {})
        self.shape = as_volume(graph.neurons[name].shape)
        self.n, self.n_places = math.prod(self.shape), self.shape[1] * self.shape[2]
        self.wanted = {key: int(getattr(limits, key).value) for key in LIMITS if key not in own}
        full = {each for each, limits in broken.items() if "axons_out" in limits}
        self.links = [link_of(graph, c, limits, full) for c in graph.incoming(name)]
        self.areas = _areas(self.links, self.shape)

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

    def cores(self, slots: IntArray) -> dict[str, int]:
        """Cores for this population, by each limit and by all."""
        by_limit = {key: -(-self.n // self.room(slots, key)) for key in LIMITS}
        room, channels = self.room(slots), max(1, self.channel_room())
        least = -(-self.n // room)
        for area, places in self._areas_in_core():
            each = -(-self.shape[0] // channels)  # cores of each place
            least = max(least, -(-each * area.n // max(1, places)))
            least = max(least, -(-self.shape[0] * area.n // min(room, channels * max(1, places))))
        return {**by_limit, "all": least}

    def _areas_in_core(self) -> list[tuple[_Area, int]]:
        most = self.wanted.get("axons_in", math.inf)
        return [(area, _places(area, most)) for area in self.areas]

    def load(self, room: int, slots: tuple[float, float]) -> _Load:
        """What the population takes on all cores together, with the slots of its sources."""
        alone = {
            "neurons": float(self.n),
            "synapse_bits": sum(link.bits_in_all(room) for link in self.links),
            "axons_in": sum(link.axons_in_all(room, -(-self.n // room)) for link in self.links),
        }
        return _Load(
            {k: n for k, n in alone.items() if k in self.wanted} | {"axons_out": slots[0]},
            self._areas_in_core(),
            slots[1],
            self.shape[0],
            room,
            max(1, self.channel_room()),
            sum(link.shared.per_channel for link in self.links if link.shared),
        )


def _places(area: _Area, axons: float) -> int:
    """The most places of an area that a core has room for."""
    found = int(np.searchsorted(area.axons, axons, side="right")) - 1
    return max(1, min(found, area.n)) if area.n else 0


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
    for connection, (source, target) in graph.ends.items():
        if source == name:
            slots += _slots_of(graph, connection, found[target], rooms[target], limits)
    return slots


def _slots_of(
    graph: LoihiGraph, connection: str, target: _Population, room: int, limits: CoreLimits
) -> IntArray:
    """The same for one connection."""
    fan, own = fan_out(graph, connection)
    cores = np.maximum(-(-fan // room), -(-own // max(1, target.channel_room())))
    return axon_slots(graph, connection, limits) * np.where(fan > 0, cores, 0)


def _slots_into(
    graph: LoihiGraph,
    name: str,
    found: Mapping[str, _Population],
    rooms: Mapping[str, int],
    limits: CoreLimits,
) -> tuple[float, float]:
    """Output axon slots of all that sends to a population: without convolutions, and by those."""
    sums = [0.0, 0.0]
    for connection, link in zip(graph.incoming(name), found[name].links):
        source = graph.ends[connection][0]
        if source in found and "axons_out" in found[source].wanted:
            node = graph.connections[connection]
            each = _slots_of(graph, connection, found[name], rooms[name], limits)
            lists = link.axons_in_all(rooms[name], 1) if isinstance(node, Sparse) else 0.0
            sums[isinstance(node, Conv)] += max(float(each.sum()), lists)
    return sums[0], sums[1]
