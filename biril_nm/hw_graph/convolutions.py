"""Geometry of convolutions: which output a tap reaches, and the same synapses as a sparse matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Shape
from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.hw_graph.nodes import Conv, Sparse, convolved_shape

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["AxisGeometry", "axis_geometry", "conv_matrix", "tap_table", "unroll_convolution"]


class AxisGeometry(NamedTuple):
    """A convolution along one axis: lengths of source, kernel and target, and how they meet."""

    length: int
    kernel: int
    stride: int
    padding: int
    dilation: int
    target: int


def axis_geometry(node: Conv, axis: int, source: Shape, target: Shape) -> AxisGeometry:
    """Geometry along rows (axis 0) or columns (1) between shapes (C, H, W)."""
    return AxisGeometry(
        length=source[1 + axis],
        kernel=node.weight.shape[2 + axis],
        stride=node.stride[axis],
        padding=node.padding[axis],
        dilation=node.dilation[axis],
        target=target[1 + axis],
    )


def tap_table(
    length: int, kernel: int, stride: int, padding: int, dilation: int, target: int
) -> NDArray[np.int64]:
    """Output index that source index i reaches through kernel index k along one axis, or -1.

    ``o = (i + padding - dilation k) / stride`` where that is whole and in 0..target-1.
    Shape: (length, kernel).
    """
    at = np.arange(length)[:, None] + padding - dilation * np.arange(kernel)[None, :]
    out, rest = np.divmod(at, stride)
    return np.where((rest == 0) & (out >= 0) & (out < target), out, -1).astype(np.int64)


def conv_matrix(node: Conv, source: tuple[int, ...]) -> scipy.sparse.csr_matrix:
    """Matrix (post, pre) with ``W s`` equal to the convolution, both sides flattened in torch order.

    Padding makes no synapses; taps of weight 0 do.
    """
    import scipy.sparse

    out_channels, group_in, k_height, k_width = node.weight.shape
    _, height, width = convolved_shape(node, source)
    o, c, ky, kx, y, x = np.indices((out_channels, group_in, k_height, k_width, height, width))
    line = y * node.stride[0] - node.padding[0] + ky * node.dilation[0]
    column = x * node.stride[1] - node.padding[1] + kx * node.dilation[1]
    channel = o // (out_channels // node.groups) * group_in + c
    inside = (line >= 0) & (line < source[1]) & (column >= 0) & (column < source[2])
    post = ((o * height + y) * width + x)[inside]
    pre = ((channel * source[1] + line) * source[2] + column)[inside]
    values = np.broadcast_to(node.weight[:, :, :, :, None, None], o.shape)[inside]
    shape = (out_channels * height * width, int(np.prod(source)))
    order = np.lexsort((pre, post))
    pointers = np.searchsorted(post[order], np.arange(shape[0] + 1))
    return scipy.sparse.csr_matrix((values[order], pre[order], pointers), shape=shape)


def unroll_convolution(graph: LoihiGraph, name: str) -> LoihiGraph:
    """A copy of ``graph`` in which the Conv ``name`` is a Sparse with the same sums.

    Its weights are no longer shared: with a learning rule each position learns its own kernel. What
    Lava's Conv does beyond 24 bits (modulo) a Sparse does not.
    """
    node = graph.connections[name]
    if not isinstance(node, Conv):
        return graph
    sparse: Any = Sparse(
        conv_matrix(node, graph.shape_of(graph.ends[name][0])),
        weight_exp=node.weight_exp,
        weight_bits=node.weight_bits,
        sign_mode=node.sign_mode,
        delay=node.delay,
    )
    return LoihiGraph({**graph.nodes, name: sparse}, graph.edges, graph.metadata)
