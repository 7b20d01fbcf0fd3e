"""Inputs of neurons that are computed again for the backward pass, from what other layers keep of it.

In a residual block neurons take ``norm(x) + y``. The norm keeps x, and spikes y are kept as bytes by the
layer that they go to: that sum need not be kept as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Again", "added", "from_bits"]


@dataclass(frozen=True)
class Again:
    """How a tensor is computed again.

    Attributes:
        tensors: what is kept of it.
        make: computes it from them; it holds no tensors, so that these are freed by the backward pass.
    """

    tensors: tuple[Tensor, ...]
    make: Callable[..., Tensor]


def from_bits(bits: Tensor, dtype: torch.dtype) -> Again:
    """Spikes of type ``dtype`` that are kept as ``bits``."""
    return Again((bits,), lambda kept: kept.view(torch.uint8).to(dtype))


def added(a: Again, b: Again) -> Again:
    """The sum of two tensors of one shape."""
    n, first, second = len(a.tensors), a.make, b.make
    return Again(a.tensors + b.tensors, lambda *kept: first(*kept[:n]) + second(*kept[n:]))
