"""Where a population may be cut: into even blocks, blocks that reach equally far, or runs of neurons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import scipy.sparse

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.fanout import axon_slots
from biril_nm.hardware_sim.mapping.lists import fill_runs
from biril_nm.hardware_sim.mapping.splits import (
    ENDLESS,
    BlockGrid,
    Cut,
    as_volume,
    even_cut,
    kernel_demand,
    list_bits,
    source_rows,
    synapse_bits,
)
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Sparse
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry
from biril_nm.loihi.cores import CoreLimits

__all__ = ["grids", "runs"]

FINE_STEPS = 12  # numbers of blocks tried one by one before they grow in steps
GROWTH = 1.08


def grids(
    graph: LoihiGraph, name: str, limits: CoreLimits, wanted: Mapping[str, int], lowest: int
) -> Iterator[tuple[float, BlockGrid]]:
    """Grids of at least ``lowest`` blocks, the cheapest first; of equals, space is cut first.

    The cost is that of the blocks, and of the output axons into them that convolutions take. Grids that
    break a wanted limit by what is quick to know are left out.
    """
    shape = as_volume(graph.neurons[name].shape)
    if shape[1] == shape[2] == 1:
        for parts in _counts(shape[0], lowest):
            yield parts, BlockGrid(shape, (parts, 1, 1))
        return
    nodes = {c: graph.connections[c] for c in graph.incoming(name)}
    convs = {c: node for c, node in nodes.items() if isinstance(node, Conv)}
    ways = {c: [_geometry(graph, c, node, axis) for axis in (0, 1)] for c, node in convs.items()}
    axes = [[even_cut(shape[0], parts) for parts in _parts(shape[0])]]
    axes += [_axis_cuts(shape[1 + i], {way[i] for way in ways.values()}) for i in (0, 1)]
    blocks = _product([[len(cut) - 1 for cut in cuts] for cuts in axes])
    largest = _product([[max(b - a for a, b in pairwise(cut)) for cut in cuts] for cuts in axes])
    fits = (blocks >= lowest) & (largest <= wanted.get("neurons", ENDLESS))
    cost = blocks.astype(np.float64)
    for c, way in ways.items():
        rows, columns = (
            [source_rows(axis, cut) for cut in cuts] for axis, cuts in zip(way, axes[1:])
        )
        channels = [kernel_demand(convs[c], cut, limits) for cut in axes[0]]
        worst = [[int(each.axons.max()) for each in channels]]
        worst += [[int(each.max()) for each in line] for line in (rows, columns)]
        fits &= _product(worst) <= wanted.get("axons_in", ENDLESS)
        if limits.kernels_once:
            bits = np.array([int(each.bits.max()) for each in channels])
            fits &= (bits <= wanted.get("synapse_bits", ENDLESS))[:, None, None]
        source = graph.ends[c][0]
        if source in graph.neurons and source != name:
            sums = [[int(each.sources.sum()) for each in channels]]
            sums += [[int(each.sum()) for each in line] for line in (rows, columns)]
            slots = axon_slots(graph, c, limits) / limits.axons_out.value
            cost += slots * _product(sums)
    at = np.stack(np.nonzero(fits), axis=1)
    c, h, w = (np.array([len(cut) for cut in cuts])[i] for cuts, i in zip(axes, at.T))
    order = np.lexsort((np.abs(h - w), c, blocks[fits], cost[fits]))
    costs = cost[fits][order].tolist()
    for least, (i, j, k) in zip(costs, at[order].tolist()):
        yield least, BlockGrid.at(shape, (axes[0][i], axes[1][j], axes[2][k]))


def _product(axes: Sequence[Sequence[int]]) -> IntArray:
    """All products of one number of each axis, (C, H, W)."""
    c, h, w = (np.array(each, dtype=np.int64) for each in axes)
    return np.asarray(c[:, None, None] * h[:, None] * w)


def _counts(n: int, lowest: int) -> Iterator[int]:
    """lowest, lowest + 1, ... and then in growing steps up to n."""
    parts = min(max(1, lowest), n)
    step = 0
    while parts < n:
        yield parts
        step += 1
        parts = parts + 1 if step < FINE_STEPS else max(parts + 1, int(parts * GROWTH))
    yield n


def _parts(n: int) -> list[int]:
    """Numbers of blocks along an axis that change the largest block's size."""
    return sorted({-(-n // -(-n // parts)) for parts in range(1, n + 1)})


def _geometry(graph: LoihiGraph, connection: str, node: Conv, axis: int) -> AxisGeometry:
    """A convolution along rows (axis 0) or columns (1)."""
    source, target = (graph.shape_of(end) for end in graph.ends[connection])
    return axis_geometry(node, axis, source, target)


def _axis_cuts(n: int, geometries: set[AxisGeometry]) -> list[Cut]:
    """Even blocks; and for each convolution blocks that reach as far as those in the middle.

    The first block may then be longer by what the kernel has outside of the source, the last one shorter.
    """
    found = dict.fromkeys(even_cut(n, parts) for parts in _parts(n))
    for geometry in sorted(geometries):
        blocks = n + 1
        for size in range(1, n + 1):
            cut = _equal_reach(geometry, size)
            if len(cut) - 1 < blocks:
                blocks = len(cut) - 1
                found[cut] = None
    return list(found)


def _equal_reach(geometry: AxisGeometry, size: int) -> Cut:
    """Blocks that reach no further than one of ``size`` in the middle, as few as there can be."""
    beyond = (geometry.kernel - 1) * geometry.dilation
    most = (size - 1) * geometry.stride + beyond + 1
    first = np.arange(geometry.target) * geometry.stride - geometry.padding
    start, stop = np.maximum(first, 0), np.minimum(first + beyond + 1, geometry.length)
    cut = [0]
    while cut[-1] < geometry.target:
        end = int(np.searchsorted(stop, start[cut[-1]] + most, side="right"))
        cut.append(max(end, cut[-1] + 1))
    return tuple(cut)


def runs(
    graph: LoihiGraph, name: str, slots: IntArray, limits: CoreLimits, wanted: Mapping[str, int]
) -> BlockGrid:
    """A population in a row cut into the fewest runs of neighbours that keep the wanted limits.

    A run is as long as the limits allow: a part of it takes no more than the run, so that no other runs
    are fewer. Indices of targets are shorter where runs are, so that each width is a case of its own.

    Args:
        graph: the integer network.
        name: a population (N, 1, 1) without convolutions.
        slots: output axon slots of each neuron.
        limits: of a core.
        wanted: limits that blocks have to keep.
    """
    n = slots.size
    nodes = [graph.connections[c] for c in graph.incoming(name)]
    sparse = [node for node in nodes if isinstance(node, Sparse)]
    dense = [node for node in nodes if isinstance(node, Dense)]
    rows, kinds = _side_by_side(sparse)
    axons = wanted.get("axons_in", ENDLESS) - sum(node.weight.shape[1] for node in dense)
    best: Cut = even_cut(n, n)
    for width in reversed(limits.format.index_bits):
        longest = min(n, 1 << width, wanted.get("neurons", n))
        if -(-n // longest) >= len(best) - 1:
            continue
        lengths = np.arange(longest + 1)
        per_synapse = [synapse_bits(node, limits) + width for node in sparse]
        growth = np.stack([np.diff(list_bits(lengths, each, limits)) for each in per_synapse])
        fixed = np.zeros(longest + 1, dtype=np.int64)
        for node in dense:
            fixed += node.weight.shape[1] * list_bits(lengths, synapse_bits(node, limits), limits)
        most = (
            longest,
            axons,
            wanted.get("synapse_bits", ENDLESS),
            wanted.get("axons_out", ENDLESS),
        )
        state = np.full((len(kinds), 2), -1, dtype=np.int32)
        starts = np.empty(n + 1, dtype=np.int64)
        count = fill_runs(rows, (kinds, growth, fixed), slots.ravel(), state, starts, most)
        cut = (*starts[:count].tolist(), n)
        best = min(best, cut, key=len)
    return BlockGrid.at((n, 1, 1), (best, (0, 1), (0, 1)))


def _side_by_side(sparse: Sequence[Sparse]) -> tuple[tuple[IntArray, IntArray], IntArray]:
    """Row pointers and columns of all matrices in a row, and the number of the matrix of each column."""
    kinds = np.repeat(np.arange(len(sparse)), [node.weight.shape[1] for node in sparse])
    if len(sparse) == 1:
        return (sparse[0].weight.indptr, sparse[0].weight.indices), kinds
    matrices = [node.weight for node in sparse]
    ones = [
        scipy.sparse.csr_matrix((np.ones(m.nnz, np.int8), m.indices, m.indptr), shape=m.shape)
        for m in matrices
    ]
    joined = scipy.sparse.hstack(ones, format="csr")
    return (joined.indptr, joined.indices), kinds
