"""Torch functions by what they tell of a signal: its values, its shape only, or numbers drawn by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["DRAWS", "reads_values", "shape_only"]

_READS_VALUES = frozenset(
    {
        "__bool__", "__float__", "__int__", "__index__", "__complex__", "__contains__", "item", "tolist",
        "numpy", "__array__", "storage", "untyped_storage",
        # Python's own True or False.
        "equal", "allclose", "is_nonzero",
        # Results whose size depends on values.
        "nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount",
    }
)  # fmt: skip
# They refuse values that are no probabilities, which those of a trace are not.
DRAWS = frozenset({"bernoulli", "bernoulli_", "poisson", "binomial", "multinomial"})
_SHAPE_ONLY = frozenset(
    {
        "shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "device", "dtype", "layout",
        "is_cuda", "is_floating_point", "get_device", "requires_grad", "is_leaf", "grad_fn", "is_sparse",
        "is_contiguous", "stride", "type", "__len__", "__repr__", "__hash__", "names", "is_nested",
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros",
        "new_ones", "new_full", "new_empty", "new_tensor",
    }
)  # fmt: skip


def reads_values(name: str, args: Sequence[Any], signals: Sequence[torch.Tensor]) -> bool:
    """Whether a function gives Python values of a signal, or a result whose size depends on them."""
    if name == "where":
        return len(args) == 1
    masks = [s for s in signals if s.dtype == torch.bool and s is not args[0]]
    return name in _READS_VALUES or (name == "__getitem__" and bool(masks))


def shape_only(name: str) -> bool:
    """Whether a function takes a tensor's shape and kind only, never its values."""
    return name in _SHAPE_ONLY
