"""Splits of populations into blocks, and what the synapses into a block take on a core.

Every population is seen as (C, H, W) (others as (N, 1, 1)) and cut into blocks along each axis.
What a block needs is computed exactly, from one-dimensional tables per axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.hardware_sim.mapping.lists import count_lists
from biril_nm.hw_graph import Connection, Conv, LoihiGraph, Neurons, Shape, Sparse
from biril_nm.hw_graph.convolutions import AxisGeometry, axis_geometry, tap_table
from biril_nm.loihi import WEIGHT_BITS
from biril_nm.loihi.cores import CoreLimits

__all__ = [
    "ENDLESS",
    "BlockGrid",
    "Cut",
    "KernelDemand",
    "SynapseLists",
    "Totals",
    "as_volume",
    "axis_taps",
    "even_cut",
    "group_overlap",
    "index_bits",
    "kernel_demand",
    "least_bits",
    "list_bits",
    "register_sets",
    "source_rows",
    "synapse_bits",
    "synapse_demand",
    "synapse_lists",
]

ENDLESS = 1 << 62
Cut = tuple[int, ...]  # where blocks start and end along an axis
Flags = NDArray[np.bool_]
STORED_WEIGHT_BITS = (1, 2, 3, 4, 5, 6, WEIGHT_BITS)  # nengo-loihi block.py, WEIGHT_BITS_MAP


def as_volume(shape: Shape) -> Shape:
    """(C, H, W) as it is, any other shape as (N, 1, 1)."""
    return shape if len(shape) == 3 else (int(np.prod(shape)), 1, 1)


@lru_cache(maxsize=4096)
def even_cut(n: int, parts: int) -> Cut:
    """Where ``parts`` even blocks of ``n`` start and end."""
    return tuple(i * n // parts for i in range(parts + 1))


@dataclass(frozen=True)
class BlockGrid:
    """A population cut into ``parts`` blocks per axis.

    Attributes:
        shape: (C, H, W).
        parts: blocks along each axis.
        uneven: where they start and end along each axis, parts + 1 numbers each; empty: blocks are even.
    """

    shape: Shape
    parts: tuple[int, int, int]
    uneven: tuple[Cut, ...] = ()

    @staticmethod
    def at(shape: Shape, cuts: Sequence[Cut]) -> BlockGrid:
        """Blocks that start and end at given places along each axis."""
        c, h, w = (len(cut) - 1 for cut in cuts)
        even = BlockGrid(shape, (c, h, w))
        return even if even.cuts == tuple(cuts) else BlockGrid(shape, (c, h, w), tuple(cuts))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(np.prod(self.parts))

    def edges(self, axis: int) -> IntArray:
        """Where blocks start and end along an axis, parts + 1 numbers."""
        return self._edges[axis]

    @cached_property
    def _edges(self) -> tuple[IntArray, ...]:
        return tuple(np.array(cut, dtype=np.int64) for cut in self.cuts)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Where blocks start and end along each axis."""
        return self.uneven or tuple(even_cut(n, p) for n, p in zip(self.shape, self.parts))

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

    @property
    def largest(self) -> int:
        """Neurons of the largest block."""
        if not self.uneven:
            return math.prod(-(-n // parts) for n, parts in zip(self.shape, self.parts))
        return math.prod(max(b - a for a, b in pairwise(cut)) for cut in self.uneven)

    def distinct(self, values: IntArray) -> IntArray:
        """Different values (>= 0, one per neuron) within each block, shape ``parts``."""
        n = int(values.max(initial=0)) + 1
        if n == 1:
            return np.ones(self.parts, dtype=np.int64)
        pairs = np.unique(self.block_of * n + values.ravel())
        found = np.bincount(pairs // n, minlength=self.n_blocks)
        return found.reshape(self.parts).astype(np.int64)


@dataclass(frozen=True)
class Totals:
    """One number per neuron, added up so that its sum over the blocks of any split is known at once.

    Attributes:
        below: sums over all neurons below an index along each axis, (C + 1, H + 1, W + 1).
    """

    below: IntArray

    @staticmethod
    def of(values: IntArray) -> Totals:
        """Of values (C, H, W)."""
        below = np.zeros([n + 1 for n in values.shape], dtype=np.int64)
        below[1:, 1:, 1:] = values.cumsum(axis=0).cumsum(axis=1).cumsum(axis=2)
        return Totals(below)

    @property
    def total(self) -> int:
        """Over all neurons."""
        return int(self.below[-1, -1, -1])

    def over(self, split: BlockGrid) -> IntArray:
        """Sums over each block, shape ``split.parts``."""
        found = self.below[np.ix_(*(split.edges(axis) for axis in range(3)))]
        for axis in range(3):
            found = np.diff(found, axis=axis)
        return np.asarray(found, dtype=np.int64)


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


def list_bits(n: IntArray, per_synapse: int, limits: CoreLimits) -> IntArray:
    """Bits of synapse lists of ``n`` synapses each: full blocks and a rest, in whole words."""
    form = limits.format
    n = np.asarray(n, dtype=np.int64)

    def words(k: IntArray) -> IntArray:
        return np.asarray(-(-(k * per_synapse + form.header_bits) // form.word_bits))

    full, rest = np.divmod(n, form.block_synapses)
    total = full * words(np.int64(form.block_synapses)) + np.where(rest > 0, words(rest), 0)  # type: ignore[arg-type]
    return np.asarray(total * form.word_bits, dtype=np.int64)


def synapse_bits(node: Connection, limits: CoreLimits) -> int:
    """Bits of one synapse without index."""
    bits = next((b for b in STORED_WEIGHT_BITS if b >= node.weight_bits), WEIGHT_BITS)
    bits += limits.format.delay_bits if node.delay else 0
    return bits + (limits.format.tag_bits if getattr(node, "rule", None) is not None else 0)


def index_bits(n_targets: int, limits: CoreLimits) -> int:
    """Bits of the index of one of some targets."""
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
def axis_taps(geometry: AxisGeometry) -> IntArray:
    """Target index per (source index, kernel index) along the axis, or -1."""
    return tap_table(*geometry)


@lru_cache(maxsize=4096)
def _axis(geometry: AxisGeometry, cut: Cut) -> _Axis:
    taps = axis_taps(geometry)
    n_kernel = taps.shape[1]
    weight = 1 << np.arange(n_kernel, dtype=np.int64)
    reached, lists = [], []
    for start, stop in pairwise(cut):
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
    per_synapse = synapse_bits(node, limits)
    if isinstance(node, Sparse):
        lists = synapse_lists(node, split, limits)
        return lists.axons, lists.bits
    n_pre = int(np.prod(pre))
    bits = n_pre * list_bits(split.sizes, per_synapse, limits)
    return np.full(split.parts, n_pre, dtype=np.int64), bits


def least_bits(node: Connection, limits: CoreLimits) -> int:
    """Bits that the synapses of a connection take at least, over all blocks of any split."""
    if isinstance(node, Conv):
        return 0  # blocks share kernels
    index = limits.format.index_bits[0] if isinstance(node, Sparse) else 0
    stored = node.weight.nnz if isinstance(node, Sparse) else node.weight.size
    return int(stored) * (synapse_bits(node, limits) + index)


@dataclass(frozen=True)
class SynapseLists:
    """Synapse lists of a Sparse connection into the blocks of its target.

    Attributes:
        axons: lists that end in each block, shape ``split.parts``.
        bits: memory that they take.
        reached: blocks that each source reaches, flat.
        complete: False where a block takes more than it may, and those behind it were not counted.
    """

    axons: IntArray
    bits: IntArray
    reached: IntArray
    complete: bool


def synapse_lists(
    node: Sparse, split: BlockGrid, limits: CoreLimits, most: tuple[int, int] = (ENDLESS, ENDLESS)
) -> SynapseLists:
    """Count the synapse lists of a Sparse connection, up to a block of more than ``most`` (lists, bits)."""
    longest = min(split.largest, node.weight.nnz)
    per_synapse = synapse_bits(node, limits) + index_bits(split.largest, limits)
    growth = np.diff(list_bits(np.arange(longest + 1), per_synapse, limits))
    state = np.full((node.weight.shape[1], 2), -1, dtype=np.int32)
    found = np.zeros((2, split.n_blocks), dtype=np.int64)
    reached = np.zeros(len(state), dtype=np.int64)
    rows = (node.weight.indptr, node.weight.indices)
    edges = (split.edges(0), split.edges(1), split.edges(2))
    complete = count_lists(rows, edges, growth, state, found, reached, most)
    axons, bits = found.reshape(2, *split.parts)
    return SynapseLists(axons, bits, reached, complete)


@dataclass(frozen=True)
class KernelDemand:
    """What the kernels of a convolution take in blocks of channels, and at each source place they reach.

    Attributes:
        axons: input axons of a place, per block.
        sources: source neurons of a place, per block.
        bits: memory of the kernels kept once, per block.
    """

    axons: IntArray
    sources: IntArray
    bits: IntArray


def kernel_demand(node: Conv, cut: Cut, limits: CoreLimits) -> KernelDemand:
    """What each block of channels takes."""
    shared = group_overlap(node, cut)  # (channel block, group): output channels of both
    group_in = node.weight.shape[1]
    sources = np.count_nonzero(shared, axis=1).astype(np.int64) * group_in
    axons = np.ones_like(sources) if limits.population_axons else sources
    synapses = shared * int(np.prod(node.weight.shape[2:]))
    lists = list_bits(synapses, synapse_bits(node, limits), limits).sum(axis=1)
    return KernelDemand(axons, sources, lists * group_in)


def source_rows(geometry: AxisGeometry, cut: Cut) -> IntArray:
    """Source rows (or columns) that each block of target rows reaches."""
    return _axis(geometry, cut).reached


def _conv_demand(
    node: Conv, pre: Shape, split: BlockGrid, limits: CoreLimits
) -> tuple[IntArray, IntArray]:
    rows, columns = (
        _axis(axis_geometry(node, axis, pre, split.shape), split.cuts[1 + axis]) for axis in (0, 1)
    )
    kernels = kernel_demand(node, split.cuts[0], limits)
    pixels = np.multiply.outer(rows.reached, columns.reached)
    axons = np.multiply.outer(kernels.axons, pixels).astype(np.int64)
    if limits.kernels_once:
        return axons, np.broadcast_to(kernels.bits[:, None, None], split.parts)
    shared, group_in = group_overlap(node, split.cuts[0]), node.weight.shape[1]
    per_synapse = synapse_bits(node, limits) + index_bits(int(split.sizes.max()), limits)
    lengths = [np.arange(axis.lists.shape[1], dtype=np.int64) for axis in (rows, columns)]
    taps = np.multiply.outer(*lengths)
    widths = np.unique(shared[shared > 0])  # output channels behind a tap, in one group
    groups = (shared[:, :, None] == widths).sum(axis=1)  # how many groups have that width
    size = list_bits(taps * widths[:, None, None], per_synapse, limits) * group_in
    per_list = np.einsum("aw,wij->aij", groups, size)
    by_row = np.tensordot(per_list, columns.lists, ([2], [1]))  # (block, taps of a row, column)
    bits = np.tensordot(rows.lists, by_row, ([1], [1])).transpose(1, 0, 2)
    return axons, bits.astype(np.int64)


def group_overlap(node: Conv, cut: Cut) -> IntArray:
    """Output channels that each channel block shares with each group, (block, group)."""
    size = node.weight.shape[0] // node.groups
    starts = np.arange(node.groups) * size
    edges = np.array(cut, dtype=np.int64)
    low = np.maximum(edges[:-1, None], starts[None, :])
    high = np.minimum(edges[1:, None], starts[None, :] + size)
    return np.asarray(np.maximum(high - low, 0), dtype=np.int64)
