"""Order of the elements of a node inside the simulator: neurons channels last, inputs as they come.

With (H, W, C) one spike of a convolution adds contiguous vectors. Dense and Sparse have their rows and
columns permuted to match; recordings are handed out as views in torch order (``channels_last``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from biril_nm.hw_graph import LoihiGraph, Shape

__all__ = ["internal_order", "node_order"]


def internal_order(shape: Shape) -> NDArray[np.int64]:
    """Torch index of each internal position of neurons: (C, H, W) is kept as (H, W, C)."""
    index = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    return index.transpose(1, 2, 0).ravel() if len(shape) == 3 else index.ravel()


def node_order(graph: LoihiGraph, name: str) -> NDArray[np.int64]:
    """Torch index of each internal position of an Input (none moves) or Neurons node."""
    shape = graph.shape_of(name)
    return np.arange(int(np.prod(shape))) if name in graph.inputs else internal_order(shape)
