"""Weights that repeat over blocks: sums of spikes over the blocks, with fewer weights behind them.

Lowering has no pooling by average: it repeats each weight over the block that was averaged. Trained as one
value, such weights stay equal, and the sums cost less than the products.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hw_graph import Connection, Conv, Dense

__all__ = ["NO_POOL", "Pool", "find_pool", "folded", "geometry", "repeated"]

Pool = tuple[int, int]  # height and width of blocks of the source
Array = NDArray[Any]
NO_POOL = (1, 1)


def find_pool(node: Connection, weight: Array, source: tuple[int, ...]) -> Pool:
    """Height and width of the blocks over which all weights repeat; (1, 1): none.

    Args:
        node: the connection.
        weight: its weights, in the container's shape.
        source: shape of the source.
    """
    if len(source) != 3 or not weight.size or np.ptp(weight) == 0:
        return NO_POOL
    if isinstance(node, Conv) and node.dilation == (1, 1):
        sizes = [
            math.gcd(kernel, stride, padding, size)
            for kernel, stride, padding, size in zip(
                weight.shape[2:], node.stride, node.padding, source[1:]
            )
        ]
        axes = weight
    elif isinstance(node, Dense):
        sizes, axes = list(source[1:]), weight.reshape(len(weight), *source)
    else:
        return NO_POOL
    rests = isinstance(node, Dense)
    return _repeats(axes, 2, sizes[0], rests), _repeats(axes, 3, sizes[1], rests)


def _repeats(weight: Array, axis: int, size: int, rests: bool) -> int:
    """Largest block over which weights repeat along an axis, a divisor of ``size``.

    With ``rests`` something may be left over at the end, as pooling leaves out the last row of an odd
    number, if its weights are 0.
    """
    width = weight.shape[axis]
    for block in range(size, 1, -1):
        if size % block and not rests:
            continue
        whole = width // block * block
        first = np.take(weight, range(0, whole, block), axis)
        same = np.array_equal(np.repeat(first, block, axis), np.take(weight, range(whole), axis))
        if same and not np.take(weight, range(whole, width), axis).any():
            return block
    return 1


def folded(weight: Array, pool: Pool, source: tuple[int, ...]) -> Array:
    """One weight of each block; a matrix has columns ``(C, H / height, W / width)``."""
    if pool == NO_POOL:
        return weight
    if weight.ndim == 4:
        return weight[:, :, :: pool[0], :: pool[1]]
    rows, columns = (size // block * block for size, block in zip(source[1:], pool))
    whole = weight.reshape(len(weight), *source)[:, :, :rows, :columns]
    return whole[:, :, :: pool[0], :: pool[1]].reshape(len(weight), -1)


def repeated(weight: Array, pool: Pool, source: tuple[int, ...]) -> Array:
    """Inverse of :func:`folded`."""
    if pool == NO_POOL:
        return weight
    if weight.ndim == 4:
        return weight.repeat(pool[0], 2).repeat(pool[1], 3)
    channels, height, width = source
    whole = weight.reshape(len(weight), channels, height // pool[0], width // pool[1])
    whole = whole.repeat(pool[0], 2).repeat(pool[1], 3)
    rest = ((0, 0), (0, 0), (0, height % pool[0]), (0, width % pool[1]))
    return np.pad(whole, rest).reshape(len(weight), -1)


def geometry(node: Conv, pool: Pool) -> tuple[Any, ...]:
    """Stride, padding, dilation and groups of the convolution of the sums."""
    stride, padding = (
        tuple(size // block for size, block in zip(sizes, pool))
        for sizes in (node.stride, node.padding)
    )
    return stride, padding, node.dilation, node.groups
