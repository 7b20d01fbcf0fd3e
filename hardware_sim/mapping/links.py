"""What the connections of a population take at least on a core, for bounds on the number of cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import BoolArray, FloatArray
from biril_nm.hardware_sim.mapping.fanout import axon_slots
from biril_nm.hardware_sim.mapping.neighbours import places_reached
from biril_nm.hardware_sim.mapping.splits import as_volume, index_bits, list_bits, synapse_bits
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Shape, Sparse
from biril_nm.loihi.cores import CoreLimits

__all__ = ["Link", "Shared", "link_of"]


@dataclass(frozen=True)
class Shared:
    """A convolution: its neurons share kernels along channels, and input axons along places.

    Attributes:
        per_channel: memory of the kernels of each channel.
        reached: m -> input axons of m places, all places considered.
        within: the same of places whose kernels lie on the source as a whole.
        inner: which rows and columns those are in.
        slots: output axon slots of the sources for each input axon; 0: they do not count.
    """

    per_channel: float
    reached: FloatArray
    within: FloatArray
    inner: tuple[BoolArray, BoolArray]
    slots: int


@dataclass(frozen=True)
class Link:
    """What a connection takes at least on a core.

    Attributes:
        bits: (neurons, channels) -> memory.
        axons: (neurons, places) -> input axons.
        bits_in_all: largest number of neurons of a core -> memory on all cores, kernels left out.
        axons_in_all: (largest number of neurons of a core, cores) -> axons on all cores, those of
            ``shared`` left out.
        shared: of a convolution.
    """

    bits: Callable[[int, int], float]
    axons: Callable[[int, int], float]
    bits_in_all: Callable[[int], float]
    axons_in_all: Callable[[int, int], float]
    shared: Shared | None = None


def link_of(
    graph: LoihiGraph, connection: str, limits: CoreLimits, full: Collection[str] = ()
) -> Link:
    """The bounds of a connection of a graph; output axons of the populations in ``full`` do not count."""
    node = graph.connections[connection]
    if isinstance(node, Dense):
        return _dense(node, limits)
    if isinstance(node, Sparse):
        return _sparse(node, limits)
    ends = graph.ends[connection]
    source, target = (as_volume(graph.shape_of(end)) for end in ends)
    counts = ends[0] in graph.neurons and ends[0] not in full
    slots = axon_slots(graph, connection, limits) if counts else 0
    return _conv(node, source, target, slots, limits)


def _rate(per_synapse: int, longest: int, limits: CoreLimits, step: int = 1) -> float:
    """Bits of a synapse at least, in lists of up to ``longest``, all multiples of ``step``."""
    if step == 1:  # longer lists are made of such
        longest = min(longest, limits.format.block_synapses)
    lengths = np.arange(step, longest + 1, step)
    return float((list_bits(lengths, per_synapse, limits) / lengths).min(initial=math.inf))


def _dense(node: Dense, limits: CoreLimits) -> Link:
    n, n_pre = node.weight.shape
    per_synapse = synapse_bits(node, limits)
    return Link(
        bits=lambda s, c: n_pre * int(list_bits(np.array(s), per_synapse, limits)),
        axons=lambda s, m: n_pre,
        bits_in_all=lambda room: n_pre * n * _rate(per_synapse, room, limits),
        axons_in_all=lambda room, cores: n_pre * cores,
    )


def _sparse(node: Sparse, limits: CoreLimits) -> Link:
    lengths = np.sort(np.diff(node.weight.indptr)).astype(np.int64)
    stored = np.cumsum(lengths)
    fan = np.bincount(node.weight.indices, minlength=1)
    most, total = max(1, int(fan.max())), int(node.weight.nnz)
    per_synapse = synapse_bits(node, limits) + index_bits(1, limits)

    def axons(s: int, m: int) -> float:
        return max(int(lengths[s - 1]), int(stored[s - 1]) / min(s, most))

    return Link(
        bits=lambda s, c: int(stored[s - 1]) * _rate(per_synapse, s, limits),
        axons=axons,
        bits_in_all=lambda room: total * _rate(per_synapse, room, limits),
        axons_in_all=lambda room, cores: max(np.count_nonzero(fan), total / min(room, most)),
    )


def _conv(node: Conv, source: Shape, target: Shape, slots: int, limits: CoreLimits) -> Link:
    channels, group_in = node.weight.shape[:2]
    places = places_reached(node, source, target)
    n, n_places = math.prod(target), target[1] * target[2]
    per_axon = 1 if limits.population_axons else group_in
    own = channels if node.groups == 1 else channels // node.groups
    kernel = math.prod(node.weight.shape[2:])
    per_synapse = synapse_bits(node, limits)
    if limits.kernels_once:
        per_channel = kernel * _rate(per_synapse, own * kernel, limits, kernel)
    else:  # a list of some of the taps, of which the border may leave few
        per_synapse += index_bits(1, limits)
        per_channel = places.fewest_taps * _rate(per_synapse, channels * kernel, limits)
    apart = node.groups > 1 and not limits.population_axons  # groups have axons of their own
    none = np.zeros(n_places + 1)

    def bits(s: int, c: int) -> float:
        if limits.kernels_once and node.groups == 1:
            return group_in * int(list_bits(np.array(c * kernel), per_synapse, limits))
        return group_in * per_channel * c

    def axons(s: int, m: int) -> float:
        if apart:
            return per_axon * places.least_each * s / own
        return per_axon * float(places.reached[min(m, n_places)])

    return Link(
        bits=bits,
        axons=axons,
        bits_in_all=lambda room: 0.0,
        axons_in_all=lambda room, cores: per_axon * places.least_each * n / own if apart else 0.0,
        shared=Shared(
            group_in * per_channel,
            none if apart else per_axon * places.reached,
            none if apart else per_axon * places.within,
            places.inner,
            slots * group_in if limits.population_axons else slots,
        ),
    )
