"""Packing: blocks of populations onto cores, several small ones onto one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from biril_nm.hardware_sim.mapping.search import BLOCK_LIMITS, Demand
from biril_nm.hardware_sim.mapping.splits import BlockGrid
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi.cores import CoreLimits

__all__ = ["Core", "PlacedBlock", "by_population", "pack"]

OPEN_CORES = 8  # partly filled cores that a new block may join
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
    """Blocks to cores in the order of latency; a block joins an open core where all limits allow."""
    caps = [int(getattr(limits, key).value) for key in CORE_LIMITS]
    bins: list[list[PlacedBlock]] = []
    loads: list[list[int]] = []
    # Cores that had no room for an equal block have none for this one.
    homes: dict[tuple[int, ...], int] = {}
    for name in graph.timing.order:
        rows = np.stack([getattr(demands[name], key).ravel() for key in BLOCK_LIMITS], axis=1)
        formats = len(graph.incoming(name))
        for row, bounds in zip(rows.tolist(), splits[name].all_bounds()):
            needs = (*row, formats)
            first = max(0, len(bins) - OPEN_CORES, homes.get(needs, 0))
            home = homes[needs] = _home(loads, needs, caps, first)
            part = PlacedBlock(name, bounds, home, *needs)
            if home == len(bins):
                bins.append([part])
                loads.append(list(needs))
            else:
                bins[home].append(part)
                loads[home] = [have + need for have, need in zip(loads[home], needs)]
    return [Core(i, tuple(parts), *load) for i, (parts, load) in enumerate(zip(bins, loads))]


def _home(loads: list[list[int]], needs: tuple[int, ...], caps: list[int], first: int) -> int:
    """The first core from ``first`` on that has room, or the next one."""
    for core in range(first, len(loads)):
        for have, need, cap in zip(loads[core], needs, caps):
            if have + need > cap:
                break
        else:
            return core
    return len(loads)


def by_population(graph: LoihiGraph, cores: Sequence[Core]) -> dict[str, tuple[PlacedBlock, ...]]:
    """The blocks of each population, in the order of its grid, wherever they are."""
    found: dict[str, list[PlacedBlock]] = {name: [] for name in graph.neurons}
    for core in cores:
        for part in core.parts:
            found[part.node].append(part)
    return {name: tuple(sorted(parts, key=lambda p: p.bounds)) for name, parts in found.items()}
