"""Packing: blocks of populations onto cores, several small ones onto one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.hardware_sim.mapping.demands import BLOCK_LIMITS, Demand
from biril_nm.hardware_sim.mapping.splits import BlockGrid
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi.cores import CoreLimits

__all__ = ["Core", "PlacedBlock", "by_population", "count_cores", "pack"]

MANY_KINDS = 2000  # of blocks; beyond, needs are rounded up
MOST_OPEN = 4096  # partly filled cores that a block may join, the emptiest
FINEST = 256  # parts of a core that they are then rounded to
CORE_LIMITS = (*BLOCK_LIMITS, "synapse_formats")


class PlacedBlock(NamedTuple):
    """One block of a population on its core.

    Attributes:
        node: Neurons node.
        bounds: (start, stop) along each axis of the node seen as (C, H, W) or (N, 1, 1).
        core: index of the core.
        neurons: neurons in the block.
        synapse_bits: synapse memory of all that arrives.
        axons_in: input axons.
        axons_out: output axon slots.
        neuron_groups: different sets of du, dv and vth, where the chip keeps them in tables; else 1.
        synapse_formats: connections that arrive.
    """

    node: str
    bounds: tuple[tuple[int, int], ...]
    core: int
    neurons: int
    synapse_bits: int
    axons_in: int
    axons_out: int
    neuron_groups: int
    synapse_formats: int


@dataclass(frozen=True, slots=True)
class Core:
    """What one core holds; the fields are sums over its parts."""

    index: int
    parts: tuple[PlacedBlock, ...]
    neurons: int
    synapse_bits: int
    axons_in: int
    axons_out: int
    neuron_groups: int
    synapse_formats: int


def pack(
    graph: LoihiGraph,
    splits: Mapping[str, BlockGrid],
    demands: Mapping[str, Demand],
    limits: CoreLimits,
) -> list[Core]:
    """Blocks to cores, the largest first; cores in the order of latency.

    A block joins the core whose room is most like its needs, where all limits allow it.
    """
    kinds = _kinds(graph, demands, limits)
    homes = {name: np.empty(splits[name].n_blocks, dtype=np.int64) for name in demands}
    for kind, home in zip(kinds, _homes(kinds, limits)):
        homes[kind.node][kind.blocks] = home
    number: dict[int, int] = {}
    bins: list[list[PlacedBlock]] = []
    for name in graph.timing.order:
        rows = _rows(graph, name, demands[name]).tolist()
        for home, row, bounds in zip(homes[name].tolist(), rows, splits[name].all_bounds()):
            core = number.setdefault(home, len(bins))
            if core == len(bins):
                bins.append([])
            bins[core].append(PlacedBlock(name, bounds, core, *row))
    return [Core(i, tuple(parts), *_sums(parts)) for i, parts in enumerate(bins)]


def _sums(parts: Sequence[PlacedBlock]) -> Iterator[int]:
    if len(parts) == 1:
        return iter(parts[0][3:])
    return map(sum, zip(*(part[3:] for part in parts)))


def count_cores(graph: LoihiGraph, demands: Mapping[str, Demand], limits: CoreLimits) -> int:
    """How many cores :func:`pack` takes."""
    homes = _homes(_kinds(graph, demands, limits), limits)
    return 1 + max((int(home.max()) for home in homes), default=-1)


class _Kind(NamedTuple):
    """Blocks of a population that take the same.

    Attributes:
        node: the population.
        needs: what each takes, by :data:`CORE_LIMITS`.
        blocks: their indices.
    """

    node: str
    needs: IntArray
    blocks: IntArray


def _rows(graph: LoihiGraph, name: str, demand: Demand) -> IntArray:
    """What each block takes, (block, limit)."""
    found = [getattr(demand, key).ravel() for key in BLOCK_LIMITS]
    formats = np.full_like(found[0], len(graph.incoming(name)))
    return np.stack([*found, formats], axis=1)


def _kinds(graph: LoihiGraph, demands: Mapping[str, Demand], limits: CoreLimits) -> list[_Kind]:
    """All kinds of blocks, the largest first; where there are many, with needs that are rounded up."""
    caps = _caps(limits)
    rows = {name: _rows(graph, name, demands[name]) for name in graph.timing.order}
    for unit in (1, -(-caps // FINEST)):
        kinds = []
        for name, needs in rows.items():
            rounded = -(-needs // unit) * unit
            each, number = np.unique(rounded, axis=0, return_inverse=True)
            order = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
            kinds += [_Kind(name, kind, blocks) for kind, blocks in zip(each, order)]
        if len(kinds) <= MANY_KINDS:
            break
    return sorted(kinds, key=lambda kind: -float((kind.needs / caps).max()))


def _caps(limits: CoreLimits) -> IntArray:
    return np.array([getattr(limits, key).value for key in CORE_LIMITS], dtype=np.int64)


def _homes(kinds: Sequence[_Kind], limits: CoreLimits) -> list[IntArray]:
    """The core of each block of each kind."""
    caps = _caps(limits)
    free = np.empty((sum(kind.blocks.size for kind in kinds), caps.size), dtype=np.int64)
    used, found = 0, []
    if not kinds:
        return []
    open_cores = np.empty(0, dtype=np.int64)
    smallest = np.min([kind.needs for kind in kinds], axis=0)
    for _, needs, blocks in kinds:
        taken = np.maximum(needs, 1)
        room = np.where(needs > 0, free[open_cores] // taken, blocks.size).min(axis=1)
        joins = room > 0
        cores, room = open_cores[joins], room[joins]
        order = np.argsort(-_likeness(free[cores] / caps, needs / caps), kind="stable")
        cores, room = cores[order], room[order]
        room = np.minimum(room, np.maximum(0, blocks.size - (np.cumsum(room) - room)))
        free[cores] -= room[:, None] * needs
        rest = blocks.size - int(room.sum())
        each = max(1, int((caps // taken)[needs > 0].min(initial=rest)))
        new = np.arange(used, used + -(-rest // each))
        free[new] = caps
        filled = np.minimum(each, rest - each * np.arange(new.size))
        free[new] -= filled[:, None] * needs
        used += new.size
        found.append(np.concatenate([np.repeat(cores, room), np.repeat(new, filled)]))
        open_cores = np.concatenate([open_cores, new])
        open_cores = open_cores[(free[open_cores] >= smallest).all(axis=1)]
        if open_cores.size > MOST_OPEN:
            fullest = (free[open_cores] / caps).min(axis=1)
            open_cores = np.sort(open_cores[np.argsort(-fullest, kind="stable")[:MOST_OPEN]])
    return found


def _likeness(room: FloatArray, needs: FloatArray) -> FloatArray:
    """Cosine between the room of each core and needs."""
    length = np.sqrt(np.square(room).sum(axis=1))
    return np.asarray(room @ needs / np.maximum(length, 1e-9))


def by_population(graph: LoihiGraph, cores: Sequence[Core]) -> dict[str, tuple[PlacedBlock, ...]]:
    """The blocks of each population, in the order of its grid, wherever they are."""
    found: dict[str, list[PlacedBlock]] = {name: [] for name in graph.neurons}
    for core in cores:
        for part in core.parts:
            found[part.node].append(part)
    return {name: tuple(sorted(parts, key=lambda p: p.bounds)) for name, parts in found.items()}
