"""Fan-out: how many synapses each source neuron of a connection has, exact at the borders.

One function serves energy (stored synapses), NeuroBench metrics (non-zero synapses) and the mapping.
"""

from __future__ import annotations

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.hw_graph import Conv, Dense, LoihiGraph, Shape
from biril_nm.hw_graph.convolutions import axis_geometry, tap_table

__all__ = ["fan_out", "stored_weights"]


def _valid_taps(node: Conv, axis: int, pre: Shape, post: Shape) -> IntArray:
    """1 where source index i has a target through kernel index k along an axis, else 0."""
    return (tap_table(*axis_geometry(node, axis, pre, post)) >= 0).astype(np.int64)


def fan_out(graph: LoihiGraph, connection: str, nonzero: bool = False) -> IntArray:
    """Synapses that leave each source neuron of ``connection``, in the source's shape.

    Args:
        graph: the integer network.
        connection: name of a Dense, Sparse or Conv node.
        nonzero: count synapses whose weight is not 0; else all stored ones (a Dense or Conv stores
            its zeros, a Sparse what its matrix holds).
    """
    node = graph.connections[connection]
    source, target = graph.ends[connection]
    pre, post = graph.shape_of(source), graph.shape_of(target)
    if isinstance(node, Conv):
        return _conv_fan_out(node, pre, post, nonzero)
    if isinstance(node, Dense):
        if not nonzero:
            return np.full(pre, node.weight.shape[0], dtype=np.int64)
        counts = np.count_nonzero(node.weight, axis=0)
    else:
        matrix = node.weight
        kept = matrix.indices[matrix.data != 0] if nonzero else matrix.indices
        counts = np.bincount(kept, minlength=matrix.shape[1])
    return np.asarray(counts, dtype=np.int64).reshape(pre)


def _conv_fan_out(node: Conv, pre: Shape, post: Shape, nonzero: bool) -> IntArray:
    """Targets of (channel, y, x): the sum over valid taps of the output channels behind them."""
    kernel = node.weight != 0 if nonzero else np.ones(node.weight.shape, dtype=bool)
    out_channels, group_in, k_height, k_width = kernel.shape
    grouped = kernel.reshape(node.groups, out_channels // node.groups, group_in, k_height, k_width)
    behind = grouped.sum(axis=1, dtype=np.int64).reshape(node.groups * group_in, k_height, k_width)
    rows, columns = (_valid_taps(node, axis, pre, post) for axis in (0, 1))
    return np.asarray(np.einsum("ckl,yk,xl->cyx", behind, rows, columns), dtype=np.int64)


def stored_weights(graph: LoihiGraph, connection: str) -> tuple[int, int]:
    """(weights of the layer, those that are not 0); a Sparse counts as its full matrix."""
    node = graph.connections[connection]
    if isinstance(node, (Conv, Dense)):
        return int(node.weight.size), int(np.count_nonzero(node.weight))
    return int(np.prod(node.weight.shape)), int(np.count_nonzero(node.weight.data))
