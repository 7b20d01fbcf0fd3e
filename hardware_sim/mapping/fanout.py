"""Which blocks of its target each source neuron of a connection sends its spikes to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.splits import (
    BlockGrid,
    Cut,
    as_volume,
    axis_taps,
    group_overlap,
)
from biril_nm.hw_graph import Conv, LoihiGraph, Shape, Sparse
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry
from biril_nm.loihi.cores import CoreLimits

__all__ = ["Reach", "axon_slots", "reach"]

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Reach:
    """Which blocks of its target each source neuron of a connection sends to.

    Either per axis (``full`` is None): neuron (c, y, x) reaches block (d, e, f) where
    ``channels[d, c] & rows[e, y] & columns[f, x]``; or where the CSC matrix ``full`` (block, source) holds
    a 1.
    """

    channels: Flags
    rows: Flags
    columns: Flags
    shape: Shape
    full: Any = None

    def per_neuron(self) -> IntArray:
        """Blocks that each source neuron reaches, (C, H, W)."""
        if self.full is not None:
            return np.asarray(np.diff(self.full.indptr), dtype=np.int64).reshape(self.shape)
        c, y, x = (
            part.sum(axis=0, dtype=np.int64) for part in (self.channels, self.rows, self.columns)
        )
        return np.asarray(c[:, None, None] * y[:, None] * x, dtype=np.int64)

    def total(self) -> int:
        """The same, summed over all source neurons."""
        if self.full is not None:
            return int(self.full.nnz)
        return math.prod(int(part.sum()) for part in (self.channels, self.rows, self.columns))

    def messages(self, spikes: IntArray, bounds: tuple[tuple[int, int], ...]) -> IntArray:
        """Spikes from a block of sources (within ``bounds``) to each target block, flat."""
        c, y, x = (slice(*bound) for bound in bounds)
        part = spikes[c, y, x]
        if self.full is not None:
            senders = np.arange(np.prod(self.shape)).reshape(self.shape)[c, y, x]
            return np.asarray(self.full[:, senders.ravel()] @ part.ravel(), dtype=np.int64)
        found = np.tensordot(self.channels[:, c].astype(np.int64), part, 1)
        found = np.tensordot(found, self.rows[:, y].astype(np.int64), (1, 1))
        found = np.tensordot(found, self.columns[:, x].astype(np.int64), (1, 1))
        return np.asarray(found, dtype=np.int64).ravel()


def reach(graph: LoihiGraph, name: str, split: BlockGrid) -> Reach:
    """Reach of connection ``name`` into the blocks of its target."""
    node = graph.connections[name]
    pre = as_volume(graph.shape_of(graph.ends[name][0]))
    rows, columns = np.ones((1, pre[1]), dtype=bool), np.ones((1, pre[2]), dtype=bool)
    if isinstance(node, Conv):
        group = np.arange(pre[0]) // node.weight.shape[1]
        return Reach(
            group_overlap(node, split.cuts[0])[:, group] > 0,
            _reached(axis_geometry(node, 0, pre, split.shape), split.cuts[1]),
            _reached(axis_geometry(node, 1, pre, split.shape), split.cuts[2]),
            pre,
        )
    if isinstance(node, Sparse):
        full = _synapse_lists(node, split).tocsc()
        full.data = np.ones(full.nnz, dtype=np.int64)
        return Reach(np.ones((1, pre[0]), bool), rows, columns, pre, full)
    return Reach(np.ones((split.n_blocks, pre[0]), dtype=bool), rows, columns, pre)


def _synapse_lists(node: Sparse, split: BlockGrid) -> Any:
    """Length of the synapse list of each source in each block, a CSR matrix (block, source)."""
    weight, n = node.weight, split.block_of.size
    ones = np.ones(weight.nnz, dtype=np.int32)
    pattern = scipy.sparse.csr_matrix((ones, weight.indices, weight.indptr), shape=weight.shape)
    place = (split.block_of, np.arange(n))
    blocks = scipy.sparse.csr_matrix((np.ones(n, dtype=np.int32), place), (split.n_blocks, n))
    return blocks @ pattern


@lru_cache(maxsize=4096)
def _reached(geometry: AxisGeometry, cut: Cut) -> Flags:
    """(block, source position): whether any tap ends in the block."""
    taps, pairs = axis_taps(geometry), pairwise(cut)
    return np.array([((taps >= a) & (taps < b)).any(axis=1) for a, b in pairs], dtype=bool)


def axon_slots(graph: LoihiGraph, name: str, limits: CoreLimits) -> int:
    """Output axon slots per spike target: 2 for population axons beyond the one-slot format."""
    node = graph.connections[name]
    if not isinstance(node, Conv) or not limits.population_axons:
        return 1
    channels, height, width = graph.shape_of(graph.ends[name][0])
    small = channels <= limits.pop16_atoms and height * width <= limits.pop16_axons
    return 1 if small else 2
