"""Linear maps between neurons: convolution or matrix, composed without approximation.

A path of stateless nodes between two neuron nodes is one linear map. Two convolutions of which one
is a pooling compose to one strided convolution where that is exact; everything else is multiplied
out as a sparse matrix, which is always exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import RangeError
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.hw_graph.convolutions import conv_matrix
from biril_nm.hw_graph.nodes import convolved_shape

__all__ = [
    "Convolution",
    "LinearMap",
    "Matrix",
    "Reshape",
    "Weighted",
    "as_matrix",
    "compose",
    "diagonal",
    "identity",
    "is_identity",
    "naming",
    "row_factors",
    "scale_rows",
    "sparse_or_dense",
    "stored",
]

Pair = tuple[int, int]

# A matrix with a larger share of stored entries is kept dense.
DENSE_ABOVE = 0.25
# Synapses of one convolution that must be stored one by one.
MAX_UNROLLED = 1 << 27
# Entries of a product that are computed at a time.
BLOCK = 1 << 18


@contextmanager
def naming(node: str) -> Iterator[None]:
    """Put the name of a node in front of what its map raises."""
    try:
        yield
    except RangeError as error:
        raise RangeError(f"node '{node}': {error}") from None


@dataclass(frozen=True)
class Convolution:
    """Cross-correlation with zero padding; weight (out, in/groups, kH, kW), of 32 or 64 bits."""

    weight: FloatArray
    in_shape: Shape
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def out_shape(self) -> Shape:
        """(out, H', W')."""
        return convolved_shape(self, self.in_shape)


@dataclass(frozen=True)
class Matrix:
    """``y = W x`` on flattened shapes (torch order); weight (post, pre), CSR, or dense of 32 or 64 bits."""

    weight: Any
    in_shape: Shape
    out_shape: Shape


@dataclass(frozen=True)
class Reshape:
    """``y = x`` in another shape, or in the same."""

    in_shape: Shape
    out_shape: Shape


# A map that is stored.
Weighted = Union[Convolution, Matrix]
# What a node without memory does to its input.
LinearMap = Union[Convolution, Matrix, Reshape]


def stored(weight: Any) -> FloatArray:
    """Stored weights of a matrix or kernel, flat."""
    return np.asarray(weight.data if scipy.sparse.issparse(weight) else weight).ravel()


def diagonal(values: FloatArray) -> Matrix:
    """Each neuron times its own factor; zeros are not stored."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    kept = np.flatnonzero(flat)
    matrix = scipy.sparse.csr_matrix((flat[kept], (kept, kept)), shape=(flat.size, flat.size))
    return Matrix(matrix, np.shape(values), np.shape(values))


def identity(shape: Shape) -> Reshape:
    """The map that changes nothing."""
    return Reshape(shape, shape)


def is_identity(linear: LinearMap) -> bool:
    """Whether the map only renames or reshapes."""
    if isinstance(linear, Reshape):
        return True
    if not isinstance(linear, Matrix) or not scipy.sparse.issparse(linear.weight):
        return False
    n = linear.weight.shape[0]
    return bool(
        linear.weight.shape == (n, n)
        and linear.weight.nnz == n
        and (linear.weight != scipy.sparse.identity(n, format="csr")).nnz == 0
    )


def as_matrix(linear: LinearMap) -> Matrix:
    """The same map as a CSR matrix of 64 bits; a weight of zero inside a kernel is not stored.

    Raises:
        RangeError: more than :data:`MAX_UNROLLED` weights.
    """
    if isinstance(linear, Reshape):
        n = int(np.prod(linear.in_shape))
        same = scipy.sparse.identity(n, format="csr")
        return Matrix(same, linear.in_shape, linear.out_shape)
    if isinstance(linear, Matrix):
        rows = scipy.sparse.csr_matrix(linear.weight, dtype=np.float64)
        return replace(linear, weight=rows)
    out_shape = linear.out_shape
    entries = linear.weight.size * out_shape[1] * out_shape[2]
    if entries > MAX_UNROLLED:
        raise RangeError(
            f"the convolution from {linear.in_shape} to {out_shape} needs {entries} weights, one for each "
            f"synapse, where it cannot stay a convolution; expected at most {MAX_UNROLLED}. Use a smaller one"
        )
    geometry: Any = replace(linear, weight=np.asarray(linear.weight, dtype=np.float64))
    matrix = conv_matrix(geometry, linear.in_shape)
    matrix.eliminate_zeros()
    return Matrix(matrix, linear.in_shape, out_shape)


def scale_rows(linear: LinearMap, factor: FloatArray) -> Weighted:
    """Multiply each output neuron by its own factor, shape ``out_shape``."""
    rows = row_factors(linear, factor)
    if isinstance(linear, Convolution) and rows is not None:
        return replace(linear, weight=linear.weight * rows.reshape(-1, 1, 1, 1))
    if not isinstance(linear, Matrix):
        linear = as_matrix(linear)
    column, weight = np.broadcast_to(factor, linear.out_shape).reshape(-1), linear.weight
    if not scipy.sparse.issparse(weight):
        return replace(linear, weight=weight * column[:, None])
    scaled = scipy.sparse.csr_matrix(weight, dtype=np.float64, copy=True)
    scaled.data *= np.repeat(column, np.diff(scaled.indptr))
    scaled.sum_duplicates()
    return replace(linear, weight=scaled)


def row_factors(linear: LinearMap, factor: FloatArray) -> FloatArray | None:
    """Factor of each row of a matrix or channel of a convolution; None where a channel has several."""
    full = np.broadcast_to(factor, linear.out_shape)
    if not isinstance(linear, Convolution):
        return np.ascontiguousarray(full, dtype=np.float64).ravel()
    short = distinct(full)
    channels = short.reshape(len(short), -1)
    if not np.all(channels == channels[:, :1]):
        return None
    return np.array(np.broadcast_to(channels[:, 0], full.shape[:1]), dtype=np.float64)


def compose(first: LinearMap, second: LinearMap) -> LinearMap:
    """The map ``second(first(x))``."""
    if is_identity(first) and first.in_shape == second.in_shape:
        return second
    if not isinstance(second, Convolution) and is_identity(first):
        return replace(second, in_shape=first.in_shape)
    if is_identity(second):
        return first if first.out_shape == second.out_shape else _reshaped(first, second.out_shape)
    if isinstance(first, Convolution) and isinstance(second, Convolution):
        folded = _compose_convolutions(first, second)
        if folded is not None:
            return folded
    a, b = as_matrix(first), second if isinstance(second, Matrix) else as_matrix(second)
    if scipy.sparse.issparse(b.weight):
        product = sparse_or_dense(b.weight @ a.weight)
    else:
        product = _dense_product(b.weight, a.weight)
    return Matrix(product, first.in_shape, second.out_shape)


def _dense_product(dense: FloatArray, rows: Any) -> Any:
    """``dense @ rows`` some rows at a time, with 32 bits where these hold every number.

    So they do where pooling over 2, 4 or 8 inputs divides weights of 32 bits.
    """
    height = max(1, BLOCK // rows.shape[1])
    found = np.zeros((len(dense), rows.shape[1]), np.float32)
    for first in range(0, len(dense), height):
        part = slice(first, first + height)
        block = dense[part].astype(np.float64) @ rows
        with np.errstate(over="ignore"):
            found[part] = block
        if not np.array_equal(found[part], block):
            found = found.astype(np.float64)
            found[part] = block
    return found


def sparse_or_dense(matrix: Any) -> Any:
    """A sparse matrix as CSR, or dense where many of its entries are stored."""
    if not scipy.sparse.issparse(matrix):
        return np.ascontiguousarray(matrix)
    rows = scipy.sparse.csr_matrix(matrix)
    many = rows.nnz > DENSE_ABOVE * rows.shape[0] * rows.shape[1]
    return rows.toarray() if many else rows


def _reshaped(linear: LinearMap, shape: Shape) -> Matrix:
    return replace(as_matrix(linear), out_shape=shape)


def _compose_convolutions(first: Convolution, second: Convolution) -> Convolution | None:
    """One convolution for two, where padding and borders allow it, else None.

    With strides s1, s2 and kernels k1, k2 (no dilation): kernel ``s1 (k2 - 1) + k1``, stride
    ``s1 s2``, padding ``p1 + s1 p2``. Exact if no window of the result touches input that the
    first map drops (a floored size) and if zero padding between the two means zero input.
    """
    if first.dilation != (1, 1) or second.dilation != (1, 1):
        return None
    exact = all(
        p2 == 0 or (p1 == 0 and (n - k) % s == 0 and k <= s)
        for n, k, s, p1, p2 in zip(
            first.in_shape[1:], first.weight.shape[2:], first.stride, first.padding, second.padding
        )
    )
    if not exact:
        return None
    weight, groups = _compose_kernels(first, second)
    if weight is None:
        return None
    s1 = first.stride
    return Convolution(
        weight=weight,
        in_shape=first.in_shape,
        stride=(s1[0] * second.stride[0], s1[1] * second.stride[1]),
        padding=(
            first.padding[0] + s1[0] * second.padding[0],
            first.padding[1] + s1[1] * second.padding[1],
        ),
        groups=groups,
    )


def _compose_kernels(first: Convolution, second: Convolution) -> tuple[FloatArray | None, int]:
    """Kernel of the composition; one of the two must be depthwise (a pooling)."""
    channels = first.in_shape[0]
    depthwise_first = first.groups == channels == first.weight.shape[0]
    middle = first.weight.shape[0]
    depthwise_second = second.groups == middle == second.weight.shape[0]
    k1, k2 = first.weight.shape[2:], second.weight.shape[2:]
    (sy, sx) = first.stride
    size = (sy * (k2[0] - 1) + k1[0], sx * (k2[1] - 1) + k1[1])
    if depthwise_first:
        per_group_in = second.weight.shape[1]
        per_group_out = second.weight.shape[0] // second.groups
        out = np.zeros((*second.weight.shape[:2], *size))
        groups_of = np.arange(second.weight.shape[0]) // per_group_out
        source = groups_of[:, None] * per_group_in + np.arange(per_group_in)[None, :]
        inner = first.weight[source, 0]  # (out, in/groups, kH1, kW1)
        groups = second.groups
    elif depthwise_second:
        out = np.zeros((*first.weight.shape[:2], *size))
        inner = first.weight
        groups = first.groups
    else:
        return None, 1
    for ky in range(k2[0]):
        for kx in range(k2[1]):
            tap = second.weight[:, :, ky, kx]
            tap = tap if depthwise_first else tap[:, :1]
            window = out[:, :, ky * sy : ky * sy + k1[0], kx * sx : kx * sx + k1[1]]
            window += tap[:, :, None, None] * inner
    return out, groups
