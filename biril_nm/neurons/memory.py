"""Memory of tensors on the CPU: large ones, and pictures whose channels are last in it.

Such pictures have the shape ``(samples, channels, height, width)`` and the strides of ``(samples, height,
width, channels)``, torch's ``channels_last``: the CPU convolves them in bfloat16 without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

from biril_nm.storage.platform import in_large_pages

__all__ = ["are_last", "empty", "put_last", "to_order"]

LARGE = 4 << 20  # bytes from which a tensor is worth pages of its own
ALIGNED = 64  # bytes to a multiple of which torch aligns tensors
HEAD = 8  # bytes that the C library adds to a block


def empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor without values on the device of ``like``, and of its type if none is given.

    The system fills memory page by page when it is first written, which takes as long as several passes
    over it; large tensors on the CPU ask for larger pages. Their blocks are not torch's: the GNU C library
    before 2.38 wants more room for an aligned block than one of the same size leaves, so that memory which
    is kept for later tensors (:func:`biril_nm.storage.platform.keep_freed_memory`) would not serve them.
    """
    dtype = dtype or like.dtype
    n_bytes = prod(shape) * dtype.itemsize
    if like.device.type != "cpu" or n_bytes < LARGE:
        return like.new_empty(tuple(shape), dtype=dtype)
    room = max(n_bytes // 1024 - HEAD, ALIGNED)  # so that two of half the size fit into one
    block = np.empty(n_bytes + room, np.uint8)
    begin = -block.ctypes.data % ALIGNED
    in_large_pages(block.ctypes.data, len(block))
    return torch.from_numpy(block[begin : begin + n_bytes]).view(dtype).view(tuple(shape))


def are_last(x: Tensor) -> bool:
    """Whether ``x`` is pictures whose channels are last in memory."""
    return (
        x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    )


def put_last(x: Tensor, channels: int) -> Tensor:
    """``x`` with dimension ``channels`` as the last, contiguous; no copy where it is last in memory."""
    return x.movedim(channels, -1).contiguous()


def to_order(x: Tensor, channels: int) -> Tensor:
    """The opposite of :func:`put_last`, which leaves channels last in memory."""
    return x.movedim(-1, channels)
