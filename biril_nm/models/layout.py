"""Where in memory channels of pictures lie: last, where the CPU computes in bfloat16.

Values of a run keep their shape, ``(samples, channels, height, width)``. What a forward does beside calling
layers may need pictures in the order of their shape, as ``x.view(len(x), -1)`` does.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, nn

from biril_nm.models.signals import mapped
from biril_nm.neurons.memory import are_last
from biril_nm.neurons.norms import called_plainly

__all__ = ["in_order", "pays", "takes_last"]

LAYERS = (
    *(nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.AdaptiveMaxPool2d, nn.Identity, nn.Dropout),
)
SUMS = (operator.add, torch.add)


def pays(x: Tensor) -> bool:
    """Whether layers of ``x`` compute in bfloat16 on the CPU."""
    if x.device.type != "cpu":
        return False
    one = torch.zeros(1, 1)
    return (one @ one).dtype == torch.bfloat16  # autocast is on


def takes_last(function: Any) -> bool:
    """Whether an operation gives the same however its pictures lie, and keeps them so."""
    return function in SUMS or (type(function) in LAYERS and called_plainly(function))


def in_order(value: Any) -> Any:
    """Values with all pictures in the order of their shape."""
    return mapped(value, _in_order)


def _in_order(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) and are_last(value) else value
