"""Splits of populations into blocks, and what the synapses into a block take on a core.

Every population is seen as (C, H, W) (others as (N, 1, 1)) and cut into even blocks along each axis.
What a block needs is computed exactly, from one-dimensional tables per axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons, Shape, Sparse
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry, tap_table
from biril_nm.loihi import WEIGHT_BITS
from biril_nm.loihi.cores import CoreLimits

__all__ = [
    "BlockGrid",
    "Reach",
    "as_volume",
    "axon_slots",
    "least_bits",
    "reach",
    "register_sets",
    "synapse_demand",
]

Flags = NDArray[np.bool_]
STORED_WEIGHT_BITS = (1, 2, 3, 4, 5, 6, WEIGHT_BITS)  # nengo-loihi block.py, WEIGHT_BITS_MAP


def as_volume(shape: Shape) -> Shape:
    """(C, H, W) as it is, any other shape as (N, 1, 1)."""
    return shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)


@dataclass(frozen=True)
class BlockGrid:
    """A population cut into ``parts`` even blocks per axis.

    Attributes:
        shape: (C, H, W).
        parts: blocks along each axis.
    """

    shape: Shape
    parts: tuple[int, int, int]

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(np.prod(self.parts))

    def edges(self, axis: int) -> IntArray:
        """Where blocks start and end along an axis, parts + 1 numbers."""
        return self._edges[axis]

    @cached_property
    def _edges(self) -> tuple[IntArray, ...]:
        pairs = zip(self.shape, self.parts)
        return tuple(np.arange(p + 1, dtype=np.int64) * n // p for n, p in pairs)

    def owner(self, axis: int) -> IntArray:
        """Block index of each position along an axis."""
        return np.repeat(np.arange(self.parts[axis]), np.diff(self.edges(axis)))

    @cached_property
    def sizes(self) -> IntArray:
        """Neurons of each block, shape ``parts``."""
        c, h, w = (np.diff(self.edges(axis)) for axis in range(3))
        return np.asarray(np.multiply.outer(np.multiply.outer(c, h), w), dtype=np.int64)

    @cached_property
    def block_of(self) -> IntArray:
        """Flat block index of each neuron, flattened in torch order."""
        c, h, w = (self.owner(axis) for axis in range(3))
        index = (c[:, None, None] * self.parts[1] + h[:, None]) * self.parts[2] + w
        return np.asarray(index, dtype=np.int64).ravel()

    def bounds(self, block: int) -> tuple[tuple[int, int], ...]:
        """(start, stop) of a flat block index along each axis."""
        at = np.unravel_index(block, self.parts)
        return tuple(
            (int(self.edges(axis)[i]), int(self.edges(axis)[i + 1])) for axis, i in enumerate(at)
        )

    def all_bounds(self) -> Iterator[tuple[tuple[int, int], ...]]:
        """(start, stop) along each axis of all blocks, in the order of their flat index."""
        return product(*(list(pairwise(self.edges(axis).tolist())) for axis in range(3)))

    def sums(self, values: IntArray) -> IntArray:
        """Sums of one number per neuron over each block, shape ``parts``."""
        found = values.reshape(self.shape)
        for axis in range(3):
            found = np.add.reduceat(found, self.edges(axis)[:-1], axis=axis)
        return np.asarray(found, dtype=np.int64)

    def distinct(self, values: IntArray) -> IntArray:
        """Different values (>= 0, one per neuron) within each block, shape ``parts``."""
        n = int(values.max(initial=0)) + 1
        if n == 1:
            return np.ones(self.parts, dtype=np.int64)
        pairs = np.unique(self.block_of * n + values.ravel())
        found = np.bincount(pairs // n, minlength=self.n_blocks)
        return found.reshape(self.parts).astype(np.int64)


def register_sets(node: Neurons, limits: CoreLimits) -> IntArray:
    """A number per neuron, flat: neurons that can share a neuron group have the same.

    On a chip with ``limits.register_tables`` those are neurons with equal values of the registers that
    stand in tables (:attr:`biril_nm.compartments.Register.tabled`), else all.
    """
    registers = [node.registers[r.name] for r in node.compartment.registers if r.tabled]
    if not limits.register_tables or all(np.ndim(register) == 0 for register in registers):
        return np.zeros(node.size, dtype=np.int64)
    rows = np.stack([np.broadcast_to(r, node.shape).ravel() for r in registers])
    _, number = np.unique(rows, axis=1, return_inverse=True)
    return np.asarray(number, dtype=np.int64).ravel()


# --- memory --------------------------------------------------------------------------------------


def _list_bits(n: IntArray, per_synapse: int, limits: CoreLimits) -> IntArray:
    """Bits of synapse lists of ``n`` synapses each: full blocks and a rest, in whole words."""
    form = limits.format
    n = np.asarray(n, dtype=np.int64)

    def words(k: IntArray) -> IntArray:
        return np.asarray(-(-(k * per_synapse + form.header_bits) // form.word_bits))

    full, rest = np.divmod(n, form.block_synapses)
    total = full * words(np.int64(form.block_synapses)) + np.where(rest > 0, words(rest), 0)  # type: ignore[arg-type]
    return np.asarray(total * form.word_bits, dtype=np.int64)


def _synapse_bits(node: Connection, limits: CoreLimits) -> int:
    """Bits of one synapse without index."""
    bits = next((b for b in STORED_WEIGHT_BITS if b >= node.weight_bits), WEIGHT_BITS)
    bits += limits.format.delay_bits if node.delay else 0
    return bits + (limits.format.tag_bits if getattr(node, "rule", None) is not None else 0)


def _index_bits(n_targets: int, limits: CoreLimits) -> int:
    needed = max(1, int(n_targets - 1).bit_length())
    return next((b for b in limits.format.index_bits if b >= needed), limits.format.index_bits[-1])


@dataclass(frozen=True)
class _Axis:
    """Rows (or columns) of a convolution as the blocks of its target see them.

    Attributes:
        reached: source positions with a target in the block, per block.
        lists: distinct sets of kernel indices by their size, (block, size).
    """

    reached: IntArray
    lists: IntArray


@lru_cache(maxsize=4096)
def _taps(geometry: AxisGeometry, parts: int) -> tuple[IntArray, IntArray]:
    """Target index per (source index, kernel index) along the axis, and the edges of the blocks."""
    edges = np.arange(parts + 1, dtype=np.int64) * geometry.target // parts
    return tap_table(*geometry), edges


@lru_cache(maxsize=4096)
def _axis(geometry: AxisGeometry, parts: int) -> _Axis:
    taps, edges = _taps(geometry, parts)
    n_kernel = taps.shape[1]
    weight = 1 << np.arange(n_kernel, dtype=np.int64)
    reached, lists = [], []
    for start, stop in pairwise(edges):
        inside = (taps >= start) & (taps < stop)
        sets = np.unique((inside * weight).sum(axis=1))
        sizes = [int(s).bit_count() for s in sets if s]
        reached.append(int(inside.any(axis=1).sum()))
        lists.append(np.bincount(sizes, minlength=n_kernel + 1))
    return _Axis(np.array(reached, dtype=np.int64), np.array(lists, dtype=np.int64))


def synapse_demand(
    graph: LoihiGraph, name: str, split: BlockGrid, limits: CoreLimits
) -> tuple[IntArray, IntArray]:
    """(input axons, synapse bits) that connection ``name`` takes in each block of its target.

    A convolution stores one synapse list per source channel and distinct set of kernel taps (the
    interior and each kind of border), which all source positions with that set share; with
    ``limits.kernels_once`` the kernel of the block's channels alone. A Dense stores every weight,
    a Sparse what its matrix holds, with indices.

    Shape: both ``split.parts``.
    """
    node = graph.connections[name]
    pre = as_volume(graph.shape_of(graph.ends[name][0]))
    if isinstance(node, Conv):
        return _conv_demand(node, pre, split, limits)
    per_synapse = _synapse_bits(node, limits)
    if isinstance(node, Sparse):
        return _sparse_demand(node, split, limits)
    n_pre = int(np.prod(pre))
    bits = n_pre * _list_bits(split.sizes, per_synapse, limits)
    return np.full(split.parts, n_pre, dtype=np.int64), bits


def least_bits(node: Connection, limits: CoreLimits) -> int:
    """Bits that the synapses of a connection take at least, over all blocks of any split."""
    if isinstance(node, Conv):
        return 0  # blocks share kernels
    index = limits.format.index_bits[0] if isinstance(node, Sparse) else 0
    stored = node.weight.nnz if isinstance(node, Sparse) else node.weight.size
    return int(stored) * (_synapse_bits(node, limits) + index)


def _sparse_demand(node: Sparse, split: BlockGrid, limits: CoreLimits) -> tuple[IntArray, IntArray]:
    lists = _synapse_lists(node, split)
    index = _index_bits(int(split.sizes.max()), limits)
    lengths = np.arange(int(lists.data.max(initial=0)) + 1)
    size = _list_bits(lengths, _synapse_bits(node, limits) + index, limits)
    ends = np.concatenate(([0], np.cumsum(size[lists.data])))[lists.indptr]
    axons, bits = np.diff(lists.indptr), np.diff(ends)
    return axons.reshape(split.parts).astype(np.int64), bits.reshape(split.parts).astype(np.int64)


def _synapse_lists(node: Sparse, split: BlockGrid) -> Any:
    """Length of the synapse list of each source in each block, a CSR matrix (block, source)."""
    weight, n = node.weight, split.block_of.size
    ones = np.ones(weight.nnz, dtype=np.int32)
    pattern = scipy.sparse.csr_matrix((ones, weight.indices, weight.indptr), shape=weight.shape)
    place = (split.block_of, np.arange(n))
    blocks = scipy.sparse.csr_matrix((np.ones(n, dtype=np.int32), place), (split.n_blocks, n))
    return blocks @ pattern


def _conv_demand(
    node: Conv, pre: Shape, split: BlockGrid, limits: CoreLimits
) -> tuple[IntArray, IntArray]:
    rows, columns = (
        _axis(axis_geometry(node, axis, pre, split.shape), split.parts[1 + axis]) for axis in (0, 1)
    )
    shared = _group_overlap(node, split)  # (channel block, group): output channels of both
    group_in = node.weight.shape[1]
    pixels = np.multiply.outer(rows.reached, columns.reached)
    channels = np.count_nonzero(shared, axis=1) * group_in
    per_pixel = np.ones_like(channels) if limits.population_axons else channels
    axons = np.multiply.outer(per_pixel, pixels).astype(np.int64)
    if limits.kernels_once:
        synapses = shared * int(np.prod(node.weight.shape[2:]))
        lists = _list_bits(synapses, _synapse_bits(node, limits), limits).sum(axis=1)
        return axons, np.broadcast_to((lists * group_in)[:, None, None], split.parts)
    per_synapse = _synapse_bits(node, limits) + _index_bits(int(split.sizes.max()), limits)
    lengths = [np.arange(axis.lists.shape[1], dtype=np.int64) for axis in (rows, columns)]
    taps = np.multiply.outer(*lengths)
    widths = np.unique(shared[shared > 0])  # output channels behind a tap, in one group
    groups = (shared[:, :, None] == widths).sum(axis=1)  # how many groups have that width
    size = _list_bits(taps * widths[:, None, None], per_synapse, limits) * group_in
    per_list = np.einsum("aw,wij->aij", groups, size)
    bits = np.einsum("bi,cj,aij->abc", rows.lists, columns.lists, per_list)
    return axons, bits.astype(np.int64)


def _group_overlap(node: Conv, split: BlockGrid) -> IntArray:
    """Output channels that each channel block shares with each group, (block, group)."""
    size = node.weight.shape[0] // node.groups
    starts = np.arange(node.groups) * size
    edges = split.edges(0)
    low = np.maximum(edges[:-1, None], starts[None, :])
    high = np.minimum(edges[1:, None], starts[None, :] + size)
    return np.asarray(np.maximum(high - low, 0), dtype=np.int64)


# --- fan-out to blocks ---------------------------------------------------------------------------


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
            _group_overlap(node, split)[:, group] > 0,
            _reached(axis_geometry(node, 0, pre, split.shape), split.parts[1]),
            _reached(axis_geometry(node, 1, pre, split.shape), split.parts[2]),
            pre,
        )
    if isinstance(node, Sparse):
        full = _synapse_lists(node, split).tocsc()
        full.data = np.ones(full.nnz, dtype=np.int64)
        return Reach(np.ones((1, pre[0]), bool), rows, columns, pre, full)
    return Reach(np.ones((split.n_blocks, pre[0]), dtype=bool), rows, columns, pre)


@lru_cache(maxsize=4096)
def _reached(geometry: AxisGeometry, parts: int) -> Flags:
    """(block, source position): whether any tap ends in the block."""
    taps, edges = _taps(geometry, parts)
    pairs = pairwise(edges)
    return np.array([((taps >= a) & (taps < b)).any(axis=1) for a, b in pairs], dtype=bool)


def axon_slots(graph: LoihiGraph, name: str, limits: CoreLimits) -> int:
    """Output axon slots per spike target: 2 for population axons beyond the one-slot format."""
    node = graph.connections[name]
    if not isinstance(node, Conv) or not limits.population_axons:
        return 1
    channels, height, width = graph.shape_of(graph.ends[name][0])
    small = channels <= limits.pop16_atoms and height * width <= limits.pop16_axons
    return 1 if small else 2
