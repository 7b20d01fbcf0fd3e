"""Matrices that are convolutions: the same weights at every place, found again after padding or slicing."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, IntArray, Shape
from biril_nm.export.nir_nodes.groups import regrouped
from biril_nm.export.nir_nodes.linear_maps import Convolution, Matrix, Weighted

__all__ = ["with_shared_weights"]

STRIDES = range(1, 9)
SAMPLE = 4096


class _Axis(NamedTuple):
    """A convolution along one axis: ``input = stride output + tap - padding``."""

    stride: int
    padding: int
    kernel: int

    def tap(self, source: IntArray, target: IntArray) -> IntArray:
        """Index in the kernel of what lies between a source and a target."""
        return source - self.stride * target + self.padding

    def reached(self, length: int, n_targets: int) -> IntArray:
        """For each index of the kernel, how many targets have a source there."""
        targets = np.arange(n_targets)[None, :] * self.stride
        source = targets + np.arange(self.kernel)[:, None] - self.padding
        return np.asarray(np.sum((source >= 0) & (source < length), axis=1))


def with_shared_weights(linear: Weighted) -> Weighted:
    """A convolution that is the same map with fewer weights, or ``linear`` itself."""
    if not isinstance(linear, Matrix) or len(linear.in_shape) != 3 or len(linear.out_shape) != 3:
        return linear
    matrix: Any = scipy.sparse.csr_matrix(linear.weight)
    matrix.eliminate_zeros()
    if not matrix.nnz:
        return linear
    entries = matrix.tocoo()
    out, *target = np.unravel_index(entries.row, linear.out_shape)
    channel, *source = np.unravel_index(entries.col, linear.in_shape)
    options = [
        _axes(source[n], target[n], linear.in_shape[1 + n], linear.out_shape[1 + n]) for n in (0, 1)
    ]
    for y, x in itertools.product(*options):
        shape = (linear.out_shape[0], linear.in_shape[0], y.kernel, x.kernel)
        if int(np.prod(shape)) >= matrix.nnz:
            continue
        taps = (out, channel, y.tap(source[0], target[0]), x.tap(source[1], target[1]))
        kernel = _kernel(shape, taps, entries.data)
        if kernel is None:
            continue
        padding = (y.padding, x.padding)
        conv = Convolution(kernel, linear.in_shape, (y.stride, x.stride), padding)
        if conv.out_shape == linear.out_shape and _synapses(conv, y, x) == matrix.nnz:
            return _grouped(conv)  # all that it has is in the matrix, and nothing else
    return linear


def _kernel(shape: Shape, taps: tuple[IntArray, ...], values: FloatArray) -> FloatArray | None:
    """The kernel with these values at its taps; None if one tap would have several."""
    for part in (slice(SAMPLE), slice(None)):  # most fail early
        kernel = np.zeros(shape)
        at = tuple(index[part] for index in taps)
        kernel[at] = values[part]
        if not np.array_equal(kernel[at], values[part]):
            return None
    return kernel


def _synapses(conv: Convolution, y: _Axis, x: _Axis) -> int:
    """How many nonzero weights a convolution has when each place has its own."""
    rows = y.reached(conv.in_shape[1], conv.out_shape[1])
    columns = x.reached(conv.in_shape[2], conv.out_shape[2])
    weights = np.count_nonzero(conv.weight, axis=(0, 1))
    return int(rows @ weights @ columns)


def _axes(source: IntArray, target: IntArray, length: int, n_targets: int) -> list[_Axis]:
    """For each stride the shortest kernel along one axis that reaches all entries, shortest first."""
    found = []
    for stride in STRIDES:
        offset = source - stride * target
        low, high = int(offset.min()), int(offset.max())
        for padding in range(max(0, -low), length):
            # All kernels of one output size, of which the shortest is taken.
            longest = length + 2 * padding - stride * (n_targets - 1)
            kernel = max(longest - stride + 1, high + padding + 1)
            if 0 < kernel <= longest:
                found.append(_Axis(stride, padding, kernel))
                break
    return sorted(found, key=lambda axis: (axis.kernel, axis.stride))


def _grouped(conv: Convolution) -> Convolution:
    """With as many groups as its zeros allow."""
    channels = math.gcd(conv.weight.shape[0], conv.weight.shape[1])
    for groups in range(channels, 1, -1):
        weight = regrouped(conv.weight, groups)
        if weight is not None:
            return Convolution(
                weight, conv.in_shape, conv.stride, conv.padding, conv.dilation, groups
            )
    return conv
