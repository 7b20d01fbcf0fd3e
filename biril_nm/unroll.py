"""Convolutions as sparse matrices: one synapse per tap and position, weights no longer shared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from biril_nm.hw_graph import Conv, LoihiGraph, Sparse, conv_output_shape

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["conv_matrix", "unroll_convolution"]


def conv_matrix(node: Conv, source: tuple[int, ...]) -> scipy.sparse.csr_matrix:
    """Matrix (post, pre) with ``W s`` equal to the convolution, both sides flattened in torch order.

    Padding makes no synapses; taps of weight 0 do.
    """
    import scipy.sparse

    out_channels, group_in, k_height, k_width = node.weight.shape
    _, height, width = conv_output_shape(node, source)
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
