"""Memory of large tensors on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from biril_nm.storage.platform import in_large_pages

__all__ = ["empty"]

LARGE = 4 << 20  # bytes from which a tensor is worth pages of its own


def empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor without values on the device of ``like``, and of its type if none is given.

    The system fills memory page by page when it is first written, which takes as long as several passes
    over it; large tensors on the CPU ask for larger pages.
    """
    found = like.new_empty(tuple(shape), dtype=dtype or like.dtype)
    n_bytes = found.numel() * found.element_size()
    if found.device.type == "cpu" and n_bytes >= LARGE:
        in_large_pages(found.data_ptr(), n_bytes)
    return found
