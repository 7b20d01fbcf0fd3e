"""From a LoihiGraph to what the kernels run: layouts, prepared weights, registers, order.

Three-dimensional nodes are kept channels last (H, W, C), so that one spike adds contiguous vectors;
rows and columns of Dense and Sparse are permuted to match. Weights are stored source first.
Everything here is computed once per graph and never changed.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, RangeError
from biril_nm.fixed_point import prepare_weights
from biril_nm.hardware_sim.components import Component, execution_order
from biril_nm.hardware_sim.conv_tables import conv_tables
from biril_nm.hardware_sim.kernels_synapse import (
    accumulate_conv,
    accumulate_dense,
    accumulate_sparse,
)
from biril_nm.hw_graph import Connection, Conv, Dense, LoihiGraph, Neurons, Shape, Sparse
from biril_nm.loihi import (
    CONV_SUM_BITS,
    DECAY_UNITY,
    DU_OFFSET,
    VTH_SHIFT,
)

__all__ = ["Compartments", "Program", "Synapses", "compile_graph", "internal_order"]

INT32_BITS = 32
EXACT_FLOAT_BITS = 53  # Lava convolves in float64


@dataclass(frozen=True)
class Synapses:
    """One connection, ready to run.

    Attributes:
        name, source, target: names in the graph.
        slack, lag: steps from spike to arrival in node time and in chip time.
        kernel: the compiled loop.
        weights: its constant arguments between the source and the scratch row.
        finish: its constant arguments after ``add``: shifts, or whether to take the modulo.
        row_dtype: type of the scratch row, int64 where 32 bits could lose what Lava keeps.
        n_post: length of the scratch row.
    """

    name: str
    source: str
    target: str
    slack: int
    lag: int
    kernel: Any
    weights: tuple[Any, ...]
    finish: tuple[Any, ...]
    row_dtype: type
    n_post: int


@dataclass(frozen=True)
class Compartments:
    """Registers of one Neurons node in internal order; arrays of length 1 where shared."""

    name: str
    shape: Shape
    keep_u: NDArray[np.int32]
    keep_v: NDArray[np.int32]
    bias: NDArray[np.int32]
    vth: NDArray[np.int32]
    wide: bool

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Program:
    """A compiled graph.

    Attributes:
        shapes: torch shape of each Input and Neurons node.
        message_bits: of each Input.
        compartments: per Neurons node.
        incoming: connections that end at a Neurons node.
        order: components in execution order; those with loops run step by step.
        history: steps of the past that a source must remember, in node time and chip time.
        latency, max_slack: of the graph (:mod:`biril_nm.timing`).
    """

    shapes: dict[str, Shape]
    message_bits: dict[str, int]
    compartments: dict[str, Compartments]
    incoming: dict[str, tuple[Synapses, ...]]
    order: tuple[Component, ...]
    latency: dict[str, int]
    max_slack: int

    def size(self, name: str) -> int:
        """Number of elements of a node."""
        return int(np.prod(self.shapes[name]))

    def history(self, name: str, chip_time: bool) -> int:
        """Steps of the past that connections from ``name`` look back."""
        return max(
            (
                link.lag if chip_time else link.slack
                for links in self.incoming.values()
                for link in links
                if link.source == name
            ),
            default=0,
        )


def internal_order(shape: Shape) -> NDArray[np.int64]:
    """Torch index of each internal position: (C, H, W) is kept as (H, W, C)."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return index.transpose(1, 2, 0).ravel() if len(shape) == 3 else index.ravel()


_compiled: dict[int, tuple[weakref.ref[LoihiGraph], Program]] = {}


def compile_graph(graph: LoihiGraph) -> Program:
    """Program of a graph; a graph (which is immutable) is compiled once in its life.

    Raises:
        ConfigError: a Conv with a negative weight_exp, or inputs wider than 31 bits.
        RangeError: weights that do not fit what Lava's Conv takes.
    """
    key = id(graph)
    known = _compiled.get(key)
    if known is not None and known[0]() is graph:
        return known[1]
    program = _compile(graph)
    _compiled[key] = (weakref.ref(graph, lambda _: _compiled.pop(key, None)), program)
    return program


def _compile(graph: LoihiGraph) -> Program:
    links = {name: _synapses(graph, name) for name in graph.connections}
    return Program(
        shapes={name: graph.shape_of(name) for name in (*graph.inputs, *graph.neurons)},
        message_bits={
            name: _message_bits(name, node.message_bits) for name, node in graph.inputs.items()
        },
        compartments={name: _compartments(name, node) for name, node in graph.neurons.items()},
        incoming={
            name: tuple(links[link] for link in graph.incoming(name)) for name in graph.neurons
        },
        order=execution_order(graph),
        latency=dict(graph.latency),
        max_slack=graph.timing.max_slack,
    )


def _message_bits(name: str, bits: int) -> int:
    if not 0 <= bits < INT32_BITS:
        raise ConfigError(
            f"input '{name}' has message_bits {bits}; allowed are 0 (binary) to {INT32_BITS - 1}"
        )
    return int(bits)


def _compartments(name: str, node: Neurons) -> Compartments:
    """Registers as the kernel takes them; overflows of illegal values are Lava's."""
    bias = np.asarray(shift_left(node.bias_mant.astype(np.int16), node.bias_exp))
    registers = [
        DECAY_UNITY - (node.du.astype(np.int64) + DU_OFFSET),
        DECAY_UNITY - node.dv.astype(np.int64),
        bias,
        _threshold(node),
    ]
    wide = any(r.min() < 0 or r.max() > DECAY_UNITY for r in registers[:2])
    shared = not wide and all(r.ndim == 0 for r in registers)
    keep_u, keep_v, scaled_bias, threshold = (
        _internal_register(register, node.shape, shared) for register in registers
    )
    return Compartments(name, node.shape, keep_u, keep_v, scaled_bias, threshold, wide=bool(wide))


def _threshold(node: Neurons) -> NDArray[np.int32]:
    """``vth << 6``: a shared threshold is a Python integer in Lava, one per neuron wraps in 32 bits."""
    if node.vth.ndim:
        return shift_left(node.vth, VTH_SHIFT)
    info = np.iinfo(np.int32)
    wide = np.clip(node.vth.astype(np.int64) << VTH_SHIFT, info.min, info.max)  # v stays below both
    return np.asarray(wide, dtype=np.int32)


def _internal_register(value: NDArray[Any], shape: Shape, shared: bool) -> NDArray[np.int32]:
    if shared:
        return value.reshape(1).astype(np.int32)
    full = np.broadcast_to(value, shape).ravel()[internal_order(shape)]
    return np.ascontiguousarray(full, dtype=np.int32)


def shift_left(value: NDArray[Any], exponent: int) -> NDArray[np.int32]:
    """``value << exponent`` in 32 bits, wrapping; floor shift right for negative exponents."""
    wide = value.astype(np.int64)
    if exponent >= INT32_BITS:
        return np.zeros_like(wide, dtype=np.int32)
    shifted = wide << exponent if exponent >= 0 else wide >> min(-exponent, INT32_BITS - 1)
    return np.asarray(shifted).astype(np.int32)


def _synapses(graph: LoihiGraph, name: str) -> Synapses:
    node = graph.connections[name]
    source, target = graph.ends[name]
    pre, post = graph.shape_of(source), graph.shape_of(target)
    bits = graph.message_bits_into(name)
    kernel, weights, finish, row_dtype = _PARTS[type(node)](name, node, pre, post, bits)
    return Synapses(
        name=name,
        source=source,
        target=target,
        slack=graph.timing.slack[name],
        lag=1 + int(node.delay),
        kernel=kernel,
        weights=weights,
        finish=finish,
        row_dtype=row_dtype,
        n_post=int(np.prod(post)),
    )


Parts = tuple[Any, tuple[Any, ...], tuple[Any, ...], type]


def _shifts(exponent: int) -> tuple[int, int]:
    return max(exponent, 0), min(max(-exponent, 0), 2 * INT32_BITS - 1)


def _dense(name: str, node: Dense, pre: Shape, post: Shape, message_bits: int) -> Parts:
    prepared = prepare_weights(node.weight, node.weight_bits, node.sign_mode)
    if node.weight_exp >= INT32_BITS:  # every bit of the sum is shifted out
        prepared = np.zeros_like(prepared)
    ordered = prepared[internal_order(post)][:, internal_order(pre)]
    largest = int(np.abs(prepared).sum(axis=1).max(initial=0)) << message_bits
    # Lava's DelayDense sums in 64 bits and shifts then; its Dense wraps the sum first.
    wide = node.delay > 0 and node.weight_exp < 0 and largest >> (INT32_BITS - 1) > 0
    return (
        accumulate_dense,
        (np.ascontiguousarray(ordered.T, dtype=np.int16),),
        _shifts(min(node.weight_exp, INT32_BITS - 1)),
        np.int64 if wide else np.int32,
    )


def _sparse(name: str, node: Sparse, pre: Shape, post: Shape, message_bits: int) -> Parts:
    import scipy.sparse

    data = prepare_weights(node.weight.data, node.weight_bits, node.sign_mode)
    if node.weight_exp >= INT32_BITS:
        data = np.zeros_like(data)
    matrix = scipy.sparse.csr_matrix(
        (data, node.weight.indices, node.weight.indptr), shape=node.weight.shape
    )
    ordered = matrix[internal_order(post)][:, internal_order(pre)].tocsc()
    weights = (
        ordered.indptr.astype(np.int64),
        ordered.indices.astype(np.int32),
        ordered.data.astype(np.int16),
    )
    return accumulate_sparse, weights, _shifts(min(node.weight_exp, INT32_BITS - 1)), np.int32


def _conv(name: str, node: Conv, pre: Shape, post: Shape, message_bits: int) -> Parts:
    if node.weight_exp < 0:
        raise ConfigError(
            f"Conv '{name}' has weight_exp {node.weight_exp}; Lava's Conv has no exponent, so that "
            f"only 0 and above (a larger kernel) can run: shift the kernel before"
        )
    kernel = node.weight.astype(np.int64) << min(node.weight_exp, INT32_BITS - 1)
    limit = 1 << (INT32_BITS - 1)
    if kernel.size and (kernel.min() < -limit or kernel.max() >= limit):
        raise RangeError(
            f"Conv '{name}': weights << weight_exp reach {int(np.abs(kernel).max())}, more than "
            f"32 bits; use smaller weights or weight_exp"
        )
    largest = int(np.abs(kernel).sum(axis=(1, 2, 3)).max(initial=0)) * (
        (1 << message_bits) - 1 or 1
    )
    if largest >> EXACT_FLOAT_BITS:
        raise RangeError(
            f"Conv '{name}' can sum up to {largest}, beyond the "
            f"2**{EXACT_FLOAT_BITS} that Lava adds exactly; use smaller weights or message_bits"
        )
    source_first, y_taps, x_runs = conv_tables(node, kernel, pre, post)
    narrow = np.iinfo(np.int16)
    fits = kernel.size == 0 or (kernel.min() >= narrow.min and kernel.max() <= narrow.max)
    wide = largest >> (INT32_BITS - 1) > 0
    size = np.array([post[2], post[0], node.weight.shape[1]], dtype=np.int64)
    return (
        accumulate_conv,
        (source_first.astype(np.int16 if fits else np.int32), y_taps, x_runs, size),
        (largest >= 1 << (CONV_SUM_BITS - 1),),
        np.int64 if wide else np.int32,
    )


_PARTS: dict[type[Connection], Any] = {Dense: _dense, Sparse: _sparse, Conv: _conv}
