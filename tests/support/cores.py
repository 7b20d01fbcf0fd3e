"""Cores for small graphs, and the synapses that a connection stores, by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from biril_nm.hw_graph import Dense, Sparse
from biril_nm.loihi.cores import LOIHI1_LIMITS, Limit


def small_cores():
    """Cores of two neurons, so that small graphs spread over many."""
    return replace(LOIHI1_LIMITS, neurons=Limit(2, "test"), cores=Limit(8, "test"))


def stored_matrix(graph, name, nonzero=False):
    """(post, pre) of 0/1: which synapses exist, found tap by tap."""
    node = graph.connections[name]
    source, target = (graph.shape_of(end) for end in graph.ends[name])
    matrix = np.zeros((int(np.prod(target)), int(np.prod(source))), dtype=int)
    if isinstance(node, Dense):
        matrix[:] = (node.weight != 0) if nonzero else 1
    elif isinstance(node, Sparse):
        coo = node.weight.tocoo()
        kept = (coo.data != 0) if nonzero else np.ones(coo.nnz, bool)
        matrix[coo.row[kept], coo.col[kept]] = 1
    else:
        out_channels, group_in, k_height, k_width = node.weight.shape
        for o, i, ky, kx in np.ndindex(out_channels, group_in, k_height, k_width):
            if nonzero and node.weight[o, i, ky, kx] == 0:
                continue
            c = (o // (out_channels // node.groups)) * group_in + i
            for oy, ox in np.ndindex(*target[1:]):
                y = oy * node.stride[0] - node.padding[0] + ky * node.dilation[0]
                x = ox * node.stride[1] - node.padding[1] + kx * node.dilation[1]
                if 0 <= y < source[1] and 0 <= x < source[2]:
                    post = np.ravel_multi_index((o, oy, ox), target)
                    matrix[post, np.ravel_multi_index((c, y, x), source)] += 1
    return matrix
