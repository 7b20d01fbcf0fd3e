"""Stateless NIR nodes as linear maps: one record a type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import ConfigError
from biril_nm.export.nir_nodes.convolution_nodes import check_bias, conv1d, conv2d, pool
from biril_nm.export.nir_nodes.fields import (
    entries,
    lengths,
    padding,
    real,
    weights,
    whole,
    wholes,
)
from biril_nm.export.nir_nodes.fixed_map import IN_SHAPE, OUT_SHAPE, FixedMap
from biril_nm.export.nir_nodes.kinds import APPROXIMATION, EXACT, Check, NodeKind
from biril_nm.export.nir_nodes.linear_maps import (
    LinearMap,
    Matrix,
    diagonal,
    identity,
    sparse_or_dense,
)
from biril_nm.export.nir_nodes.metadata import STEPS_MAX, positive, text, whole_between
from biril_nm.export.nir_nodes.shared_weights import with_shared_weights

__all__ = ["STATELESS", "StatelessKind", "each"]


@dataclass(frozen=True)
class StatelessKind(NodeKind):
    """A node without memory.

    Attributes:
        linear: (node, its name, shape that it receives) -> its linear map.
    """

    linear: Callable[[Any, str, Shape], LinearMap] = lambda node, name, shape: identity(shape)


def _linear(node: Any, name: str, shape: Shape) -> LinearMap:
    if node.weight.ndim != 2 or node.weight.shape[1] != int(np.prod(shape)):
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has weights {node.weight.shape} and receives shape "
            f"{shape}; expected a matrix (out, {int(np.prod(shape))})"
        )
    n_out = int(node.weight.shape[0])
    check_bias(node, name, n_out)
    written = node.metadata.get(OUT_SHAPE)
    if written is None:
        return Matrix(node.weight, shape, (n_out,))
    if int(np.prod(written)) != n_out:
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has weights {node.weight.shape} and '{OUT_SHAPE}' "
            f"{tuple(map(int, written))}; expected a shape of {n_out} values"
        )
    return _shared(node, scipy.sparse.csr_matrix(node.weight, dtype=np.float64), shape, written)


def _fixed(node: FixedMap, name: str, shape: Shape) -> LinearMap:
    if int(np.prod(node.in_shape)) != int(np.prod(shape)):
        raise ConfigError(
            f"node '{name}' receives shape {shape}; expected {node.in_shape}, or as many values"
        )
    return _shared(node, node.matrix, shape, node.out_shape)


def _shared(node: Any, matrix: Any, shape: Shape, sent: Any) -> LinearMap:
    """A map between two shapes, as a convolution where it is one."""
    out_shape = tuple(int(n) for n in sent)
    written = node.metadata.get(IN_SHAPE, shape)
    in_shape = tuple(int(n) for n in written) if np.prod(written) == np.prod(shape) else shape
    found = with_shared_weights(Matrix(matrix, in_shape, out_shape))
    if isinstance(found, Matrix):
        return Matrix(sparse_or_dense(matrix), shape, out_shape)
    return found


def _flatten(node: Any, name: str, shape: Shape) -> LinearMap:
    dims, n = (node.start_dim, node.end_dim), len(shape)
    start, end = (dim + n if dim < 0 else dim for dim in dims)
    if not 0 <= start <= end < n:
        raise ConfigError(
            f"node '{name}' (Flatten) joins dimensions {dims[0]} to {dims[1]} of shape {shape}; expected "
            f"start_dim at or before end_dim, counted from 0 without the batch"
        )
    merged = int(np.prod(shape[start : end + 1]))
    return replace(identity(shape), out_shape=(*shape[:start], merged, *shape[end + 1 :]))


def each(node: Any, name: str, values: FloatArray, shape: Shape) -> FloatArray:
    """Values of one node for each neuron: one for all, or of the same number of dimensions."""
    fits = values.ndim == len(shape) and all(n in (1, m) for n, m in zip(values.shape, shape))
    if values.shape not in ((), (1,)) and not fits:
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has values of shape {values.shape}; expected {shape}, "
            f"the shape that it receives, or one value"
        )
    return np.broadcast_to(values, shape)


def _scale(node: Any, name: str, shape: Shape) -> LinearMap:
    return diagonal(each(node, name, node.scale, shape))


def _delay(node: Any, name: str, shape: Shape) -> LinearMap:
    """A delay changes no value; it only has to fit."""
    each(node, name, node.delay, shape)
    return identity(shape)


_CONVOLUTION: dict[str, Check] = {
    "weight": weights, "bias": real,
    "stride": wholes, "padding": padding, "dilation": wholes, "groups": whole,
}  # fmt: skip
_POOLING: dict[str, Check] = {"kernel_size": wholes, "stride": wholes, "padding": padding}
_GROUPS: dict[str, Check] = {"groups": whole_between(1, STEPS_MAX)}
_SHAPES: dict[str, Check] = {IN_SHAPE: lengths, OUT_SHAPE: lengths}
_INPUT: dict[str, Check] = {
    "message_bits": whole_between(0, 31),
    "signed": whole_between(0, 1),
    "n_steps": whole_between(1, STEPS_MAX),
    "scale": positive,
    "coding": text(),
}
_OUTPUT: dict[str, Check] = {
    "readout": text(),
    "over": text("sum", "mean"),
    "position": whole_between(0, STEPS_MAX),
}

_KINDS = (
    StatelessKind(
        nir.Linear, "Dense connection (Sparse where folding makes it so)", EXACT, {"weight": weights},
        _SHAPES, _linear,
    ),
    StatelessKind(
        nir.Affine, "Dense connection and neuron bias; before CubaLIF a neuron that always spikes",
        EXACT, {"weight": weights, "bias": real}, _SHAPES, _linear,
    ),
    StatelessKind(
        FixedMap, "Sparse connection; in files a Linear or Affine with `in_shape` and `out_shape`", EXACT,
        {**dict.fromkeys(("weight", "columns", "pointers", "bias"), entries), **_SHAPES}, linear=_fixed,
    ),
    StatelessKind(nir.Conv1d, "Sparse connection", EXACT, _CONVOLUTION, _GROUPS, conv1d),
    StatelessKind(
        nir.Conv2d, "Conv connection (Sparse where a fold is not a convolution)", EXACT, _CONVOLUTION,
        _GROUPS, conv2d,
    ),
    StatelessKind(
        nir.AvgPool2d, "folded into the next weights", EXACT, _POOLING, linear=pool(average=True)
    ),
    StatelessKind(
        nir.SumPool2d, "folded into the next weights", EXACT, _POOLING, linear=pool(average=False)
    ),
    StatelessKind(
        nir.Flatten, "nothing: order of the next weights", EXACT,
        {"start_dim": whole, "end_dim": whole}, linear=_flatten,
    ),
    StatelessKind(nir.Scale, "folded into the next weights", EXACT, {"scale": real}, linear=_scale),
    StatelessKind(
        nir.Delay,
        "synaptic delay, rounded to whole steps, up to 62; different delays split the connection",
        APPROXIMATION, {"delay": real}, linear=_delay,
    ),
    # Inside nested graphs these two only pass signals on.
    StatelessKind(nir.Input, "Input; several inputs are possible", EXACT, {}, _INPUT),
    StatelessKind(nir.Output, "Output; several outputs are possible", EXACT, {}, _OUTPUT),
)  # fmt: skip
# Class of a NIR node without memory -> its record.
STATELESS: dict[type, StatelessKind] = {kind.type: kind for kind in _KINDS}
