"""Traffic: which core of a placement sits where, so that messages cross few tiles.

The hops of a placement are ``H = sum over pairs (a, b) of W[a, b] d(a, b)``: ``W`` messages between two
cores, in both directions, and ``d`` the tiles between them, east-west plus north-south. Cores change places
in pairs, each with the partner that saves most, until no exchange saves anything, or time is up: a local
optimum of this quadratic assignment problem.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.mapping.fanout import reach
from biril_nm.hardware_sim.mapping.packing import Core, by_population
from biril_nm.hardware_sim.mapping.splits import BlockGrid
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi.cores import CoreLimits

__all__ = ["SECONDS", "tiles", "with_less_traffic"]

SECONDS = 10.0  # of exchanges, where nothing else is said
SAVING = 1e-9  # share of all hops that an exchange has to save; less is rounding


def tiles(cores: IntArray, limits: CoreLimits) -> IntArray:
    """(x, y) of the tile of each core; cores fill the mesh row by row, chips stand side by side."""
    chip, local = np.divmod(cores, limits.cores.value)
    y, x = np.divmod(local // limits.cores_per_tile, limits.mesh_columns)
    return np.stack([x + chip * limits.mesh_columns, y], axis=1)


def with_less_traffic(
    graph: LoihiGraph,
    splits: Mapping[str, BlockGrid],
    cores: Sequence[Core],
    limits: CoreLimits,
    spikes: Mapping[str, NDArray[Any]],
    seconds: float = SECONDS,
) -> list[Core]:
    """The same cores in an order of fewer hops.

    Args:
        graph: the integer network.
        splits: population -> its blocks.
        cores: what each core holds.
        limits: limits of the chip, with its mesh.
        spikes: population -> spikes of each neuron; one each where it is missing.
        seconds: time limit.

    Raises:
        ConfigError: spikes that are no whole numbers, or of another shape than their population; a time
            limit below 0.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ConfigError(f"seconds is {seconds}; expected a time limit of at least 0")
    flow = _flow(graph, splits, cores, {n: _checked(graph, n, spikes) for n in graph.neurons})
    places = _exchanged(flow, tiles(np.arange(len(cores)), limits), time.monotonic() + seconds)
    found = [_moved(core, int(place)) for core, place in zip(cores, places)]
    return sorted(found, key=lambda core: core.index)


def _checked(graph: LoihiGraph, name: str, spikes: Mapping[str, NDArray[Any]]) -> IntArray:
    shape = graph.neurons[name].shape
    given = np.asarray(spikes.get(name, np.ones(shape, dtype=np.int64)))
    if given.shape != shape or given.dtype.kind not in "iu":
        raise ConfigError(
            f"spikes of '{name}' are {given.dtype} of shape {given.shape}; expected whole numbers of shape "
            f"{shape}. Give Activity.spikes of a run"
        )
    return given.astype(np.int64)


def _moved(core: Core, index: int) -> Core:
    return replace(core, index=index, parts=tuple(p._replace(core=index) for p in core.parts))


def _flow(
    graph: LoihiGraph,
    splits: Mapping[str, BlockGrid],
    cores: Sequence[Core],
    spikes: Mapping[str, IntArray],
) -> Any:
    """Messages between each two cores, in both directions, a CSR matrix without a diagonal."""
    parts = by_population(graph, cores)
    homes = {name: [part.core for part in blocks] for name, blocks in parts.items()}
    sums: dict[tuple[int, int], int] = {}
    for connection, (source, target) in graph.ends.items():
        if source not in graph.neurons or target not in graph.neurons:
            continue
        way, split = reach(graph, connection, splits[target]), splits[source]
        volume, targets = spikes[source].reshape(split.shape), homes[target]
        for block, home in enumerate(homes[source]):
            sent = way.messages(volume, split.bounds(block))
            for i in np.flatnonzero(sent).tolist():
                if home != targets[i]:
                    pair = (home, targets[i])
                    sums[pair] = sums.get(pair, 0) + int(sent[i])
    pairs = np.array(list(sums), dtype=np.int64).reshape(-1, 2)
    values = np.array(list(sums.values()), dtype=np.float64)
    n = len(cores)
    one_way = scipy.sparse.coo_matrix((values, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    return (one_way + one_way.T).tocsr()


def _exchanged(flow: Any, tile: IntArray, deadline: float) -> IntArray:
    """The place of each core, an index of ``tile``, after exchanges."""
    n = len(tile)
    place = np.arange(n)
    senders = np.repeat(np.arange(n), np.diff(flow.indptr))

    def costs() -> NDArray[np.float64]:
        """Hops of the messages of each core, where it is."""
        away = np.abs(tile[place[senders]] - tile[place[flow.indices]]).sum(axis=1)
        return np.asarray(np.bincount(senders, flow.data * away, minlength=n), dtype=np.float64)

    own = costs()
    least = SAVING * float(own.sum())
    saved = True
    while saved:
        saved = False
        for a in np.argsort(-own, kind="stable").tolist():
            if time.monotonic() >= deadline:  # a coarse clock may stand still
                return place
            change = _changes(flow, tile, place, own, a)
            b = int(np.argmin(change))
            if change[b] < -least:
                place[a], place[b] = place[b], place[a]
                own, saved = costs(), True
    return place


def _changes(
    flow: Any, tile: IntArray, place: IntArray, own: NDArray[np.float64], a: int
) -> NDArray[np.float64]:
    """What all hops change by when core ``a`` changes places with each core."""
    row = slice(flow.indptr[a], flow.indptr[a + 1])
    partners, weights = flow.indices[row], flow.data[row]
    there = tile[place]  # of each core
    from_a = np.abs(there - there[a]).sum(axis=1)  # tiles between a's place and each core
    a_elsewhere = np.zeros(len(place))  # messages of a from the place of each core
    for axis in (0, 1):
        line = np.arange(int(tile[:, axis].max()) + 1)
        sent = np.bincount(there[partners, axis], weights, minlength=line.size)
        a_elsewhere += (np.abs(line[:, None] - line) @ sent)[there[:, axis]]
    change = a_elsewhere + flow @ from_a - own[a] - own
    # Messages between the two cross as many tiles as before, and were left out on both sides.
    change[partners] += 2 * weights * from_a[partners]
    change[a] = 0.0
    return np.asarray(change)
