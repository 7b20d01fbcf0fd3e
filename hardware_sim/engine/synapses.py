"""Connections as the kernels take them: prepared weights, source first, in the narrowest types.

Binary spikes only add weights, so a bound on every sum is known: the sum of the magnitudes that end at a
neuron. Weights lose the power of two that all of them share (MIXED weights are even and fit 8 bits
then); it returns as a shift of the sum. Sums of graded spikes are 32 bits wide and wrap as in Lava.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from biril_nm.arrays import Array, IntArray
from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim.engine.conv_tables import ConvForm, conv_tables
from biril_nm.hardware_sim.engine.layout import node_order
from biril_nm.hardware_sim.engine.paths import Paths, refuse_path
from biril_nm.hardware_sim.engine.sparse_tables import sparse_tables
from biril_nm.hardware_sim.kernels.lanes import LANES
from biril_nm.hardware_sim.kernels.records import DenseWeights, Finish, Weights
from biril_nm.hw_graph import Connection, Conv, Dense, LoihiGraph, Sparse
from biril_nm.loihi import CONV_SUM_BITS, INT32_BITS, INT32_HALF
from biril_nm.loihi.fixed_point import prepare_weights

__all__ = [
    "Synapses",
    "common_shift",
    "conv_bound",
    "make_synapses",
    "prepared_weights",
    "shifted_kernel",
]

PIECE = 1 << 20  # weights that are prepared at a time
EXACT_FLOAT_BITS = 53  # Lava convolves in float64
# Types of weights and of their sums, narrowest first: few pairs, because each is compiled.
TYPES: tuple[tuple[type, type], ...] = (
    (np.int8, np.int16),
    (np.int16, np.int32),
    (np.int32, np.int64),
)


@dataclass(frozen=True)
class Synapses:
    """One connection, ready to run.

    Attributes:
        name: of the connection.
        source: name of the node whose spikes it carries.
        target: name of the Neurons node that it feeds.
        slack: steps from spike to arrival in node time.
        lag: steps from spike to arrival in chip time.
        weights: of the kind of connection.
        finish: how sums become input.
        sum_type: type of the sums.
        n_sums: length of the sums, slack for the last block of lanes included.
        bound: largest magnitude of what is delivered.
        n_pre: number of sources.
        n_parts: parts in which threads can share its targets (:mod:`biril_nm.hardware_sim.engine.teams`).
    """

    name: str
    source: str
    target: str
    slack: int
    lag: int
    weights: Weights
    finish: Finish
    sum_type: type
    n_sums: int
    bound: int
    n_pre: int
    n_parts: int = 1


def make_synapses(graph: LoihiGraph, name: str, paths: Paths) -> Synapses:
    """Compile one connection.

    Raises:
        ConfigError: a Conv with a negative weight_exp, or a path that the connection cannot take.
        RangeError: weights that do not fit what Lava's Conv takes.
    """
    node = graph.connections[name]
    source, target = graph.ends[name]
    parts = _PARTS[type(node)](graph, name, node, paths)
    return Synapses(
        name=name,
        source=source,
        target=target,
        slack=graph.timing.slack[name],
        lag=1 + int(node.delay),
        n_pre=int(np.prod(graph.shape_of(source))),
        **parts,
    )


Parts = dict[str, Any]


def common_shift(weights: Array) -> int:
    """Power of two that divides all weights."""
    bits = int(np.bitwise_or.reduce(np.abs(weights), axis=None)) if weights.size else 0
    return (bits & -bits).bit_length() - 1 if bits else 0


@dataclass(frozen=True)
class _Sums:
    """What the sums of a connection need.

    Attributes:
        part: the connection, as errors call it.
        bound: largest magnitude of a sum, payloads included.
        first: narrowest of :data:`TYPES` that kernels of this kind of connection take.
        keep_all: whether 64-bit sums are needed where 32 bits wrap.
        wrap: whether a sum must wrap in 32 bits before it is shifted to the right.
        paths: of the graph.
    """

    part: str
    bound: int
    first: int
    keep_all: bool
    wrap: bool
    paths: Paths

    def narrow(self, weights: Array) -> tuple[Array, int, type]:
        """Stored weights, the shift that they lost, and the type of their sums."""
        shift = self._shift(weights)
        stored = weights >> shift
        bound = self.bound >> shift
        low, high = (int(stored.min()), int(stored.max())) if stored.size else (0, 0)
        for weight_type, sum_type in TYPES[self.first :] if self.paths.types is None else TYPES:
            fits = np.iinfo(weight_type).min <= low and high <= np.iinfo(weight_type).max
            holds = bound <= np.iinfo(sum_type).max or (sum_type is np.int32 and not self.keep_all)
            if self.paths.types == np.dtype(weight_type).name:
                self._check_type(weight_type, fits and holds)
                break
            if self.paths.types is None and fits and holds:
                break
        return stored.astype(weight_type), shift, sum_type

    def _shift(self, weights: Array) -> int:
        found = common_shift(weights)
        allowed = not (self.first and self.keep_all)  # else products may wrap before the shift
        if self.paths.power == "moved" and found and not allowed:
            raise refuse_path(self.part, "power", "moved", "its products may wrap before the shift")
        return found if allowed and self.paths.power != "kept" else 0

    def _check_type(self, weight_type: type, holds: bool) -> None:
        place = [each for each, _ in TYPES].index(weight_type)
        reason = ""
        if place < self.first:
            reason = "its kernels take wider types only"
        elif not holds:
            reason = f"sums reach {self.bound}"
        elif self.wrap and weight_type is np.int32 and self.bound >= INT32_HALF:
            reason = "its sums wrap in 32 bits"
        if reason:
            raise refuse_path(self.part, "types", self.paths.types, reason)


def prepared_weights(node: Dense | Sparse, weights: Array) -> IntArray:
    """Weights after Lava's preparation; zeros if the exponent shifts every bit of a sum out."""
    prepared = prepare_weights(weights, node.weight_bits, node.sign_mode)
    return prepared if node.weight_exp < INT32_BITS else np.zeros_like(prepared)


def _finish(exponent: int, shift: int, sum_type: type, bound: int, modulo: bool = False) -> Parts:
    """Left and right shift of a sum, within the width of its type.

    Where no sum leaves 32 bits (``bound``), the two cancel: what is shifted out to the right is zero then.
    """
    widest = INT32_BITS * (2 if sum_type is np.int64 else 1) - 1
    left, right = max(min(exponent, INT32_BITS - 1), 0) + shift, max(-exponent, 0)
    both = min(left, right) if bound < INT32_HALF else 0
    finish = Finish(min(left - both, widest), min(right - both, widest), modulo)
    return {"finish": finish, "sum_type": sum_type}


def _delivered(bound: int, exponent: int) -> int:
    """Largest magnitude behind the exponent; a negative sum is floored."""
    return bound << exponent if exponent >= 0 else (bound >> -exponent) + 1


def _orders(graph: LoihiGraph, name: str) -> tuple[IntArray, IntArray]:
    source, target = graph.ends[name]
    return node_order(graph, source), node_order(graph, target)


def _dense(graph: LoihiGraph, name: str, node: Dense, paths: Paths) -> Parts:
    message_bits = graph.message_bits_into(name)
    prepared = prepared_weights(node, node.weight)
    bound = int(np.abs(prepared).sum(axis=1).max(initial=0)) << message_bits
    # Graded sums: Lava's DelayDense adds in 64 bits and shifts then; its Dense wraps the sum first.
    keep_all = node.weight_exp < 0 and (node.delay > 0 or message_bits == 0)
    wrap = node.weight_exp < 0 and not keep_all
    sums = _Sums(f"Dense '{name}'", bound, int(message_bits > 0), keep_all, wrap, paths)
    stored, shift, sum_type = sums.narrow(prepared)
    pre, post = _orders(graph, name)
    width = -(-post.size // LANES) * LANES
    rows = np.zeros((pre.size + 1, width), dtype=stored.dtype)
    rows[:-1, : post.size] = stored[post][:, pre].T
    return {
        "weights": DenseWeights(rows.ravel(), width, pre.size),
        "n_sums": width,
        "bound": _delivered(bound, node.weight_exp),
        **_finish(node.weight_exp, shift, sum_type, bound),
    }


def _sparse(graph: LoihiGraph, name: str, node: Sparse, paths: Paths) -> Parts:
    import scipy.sparse

    message_bits, part = graph.message_bits_into(name), f"Sparse '{name}'"
    prepared = _in_pieces(node)
    places = (node.weight.indices, node.weight.indptr)
    bound = _largest_row(prepared, node.weight.indptr) << message_bits
    keep_all = node.weight_exp < 0 and message_bits == 0
    wrap = node.weight_exp < 0 and not keep_all
    sums = _Sums(part, bound, int(message_bits > 0), keep_all, wrap, paths)
    stored, shift, sum_type = sums.narrow(prepared)
    del prepared  # as large as the matrix
    rows = scipy.sparse.csr_matrix((stored, *places), shape=node.weight.shape)
    pre, post = _orders(graph, name)
    if not (_is_sorted(pre) and _is_sorted(post)):
        rows = rows[post][:, pre]
    if message_bits and paths.sparse == "silent":
        raise refuse_path(part, "sparse", paths.sparse, "its spikes carry payloads")
    weights, n_parts = sparse_tables(rows, sum_type, bool(message_bits), paths)
    return {
        "weights": weights,
        "n_parts": n_parts,
        "n_sums": post.size,
        "bound": _delivered(bound, node.weight_exp),
        **_finish(node.weight_exp, shift, sum_type, bound),
    }


def _in_pieces(node: Sparse) -> Array:
    """All prepared weights, in as little memory as the matrix has."""
    data = node.weight.data
    found = np.empty(data.size, np.int32)
    for first in range(0, data.size, PIECE):
        found[first : first + PIECE] = prepared_weights(node, data[first : first + PIECE])
    return found


def _largest_row(weights: Array, pointers: IntArray) -> int:
    """Largest sum of the magnitudes of a row."""
    largest, step = 0, max(1, PIECE * (len(pointers) - 1) // max(1, weights.size))
    for row in range(0, len(pointers) - 1, step):
        edges = pointers[row : row + step + 1].astype(np.int64)
        starts = edges[:-1][edges[1:] > edges[:-1]]
        if starts.size:
            values = np.abs(weights[edges[0] : edges[-1]].astype(np.int64))
            largest = max(largest, int(np.add.reduceat(values, starts - edges[0]).max()))
    return largest


def _is_sorted(order: IntArray) -> bool:
    return bool(np.array_equal(order, np.arange(order.size)))


def _conv(graph: LoihiGraph, name: str, node: Conv, paths: Paths) -> Parts:
    message_bits, (source, target) = graph.message_bits_into(name), graph.ends[name]
    kernel = shifted_kernel(name, node)
    bound = conv_bound(name, kernel, message_bits)
    part = f"Conv '{name}'"
    sums = _Sums(part, bound, int(message_bits > 0), True, False, paths)
    stored, shift, sum_type = sums.narrow(kernel)
    shapes = graph.shape_of(source), graph.shape_of(target)
    form = ConvForm(source in graph.inputs, paths, part)
    weights, n_sums = conv_tables(node, stored, *shapes, form)
    modulo = bound >= 1 << (CONV_SUM_BITS - 1)
    if modulo and paths.modulo == "skipped":
        raise refuse_path(part, "modulo", "skipped", f"sums reach {bound}")
    return {
        "weights": weights,
        "n_sums": n_sums,
        "bound": bound,
        **_finish(0, shift, sum_type, bound, modulo or paths.modulo == "passed"),
    }


def shifted_kernel(name: str, node: Conv) -> IntArray:
    """``weight << weight_exp``: Lava's Conv has no exponent and takes 32-bit weights as they are."""
    if node.weight_exp < 0:
        raise ConfigError(
            f"Conv '{name}' has weight_exp {node.weight_exp}; Lava's Conv has no exponent, so that "
            f"only 0 and above (a larger kernel) can run: shift the kernel before"
        )
    kernel = node.weight.astype(np.int64) << min(node.weight_exp, INT32_BITS - 1)
    info = np.iinfo(np.int32)
    if kernel.size and (kernel.min() < info.min or kernel.max() > info.max):
        raise RangeError(
            f"Conv '{name}': weights << weight_exp reach {int(np.abs(kernel).max())}, more than "
            f"32 bits. Use smaller weights or weight_exp"
        )
    return kernel


def conv_bound(name: str, kernel: IntArray, message_bits: int) -> int:
    """Largest magnitude of a sum of a Conv."""
    bound = int(np.abs(kernel).sum(axis=(1, 2, 3)).max(initial=0))
    bound *= (1 << message_bits) - 1 if message_bits else 1
    if bound >> EXACT_FLOAT_BITS:
        raise RangeError(
            f"Conv '{name}' can sum up to {bound}, beyond the 2**{EXACT_FLOAT_BITS} that Lava adds "
            f"exactly. Use smaller weights or message_bits"
        )
    return bound


_PARTS: dict[type[Connection], Any] = {Dense: _dense, Sparse: _sparse, Conv: _conv}
