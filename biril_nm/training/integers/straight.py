"""Values that are rounded forward and differentiated as if they were not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["clipped", "round_half_away", "straight_through"]


class _Straight(torch.autograd.Function):
    """``x + (y - x).detach()`` would not always give y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        del ctx, x
        return y.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        del ctx
        return grad, None


def straight_through(x: Tensor, y: Tensor) -> Tensor:
    """The value of ``y`` with the gradient of ``x``; both have one shape and dtype."""
    value: Tensor = _Straight.apply(x, y)  # type: ignore[no-untyped-call]
    return value


# What float32 makes of a limit lies by less beside it: some units in the last place of 256.
BESIDE = 2.0**-12


class _Clipped(torch.autograd.Function):
    """``Tensor.clamp`` sends the gradient of a value at a limit back in some versions of torch only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward((x >= low - BESIDE) & (x <= high + BESIDE))
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return grad * inside, None, None


def clipped(x: Tensor, low: float, high: float) -> Tensor:
    """``x`` limited to ``low .. high``, with the gradient of x there and 0 outside.

    Both limits are included, also where rounding in float32 has moved them, as for weights of a graph at
    the ends of their grid.
    """
    value: Tensor = _Clipped.apply(x, low, high)  # type: ignore[no-untyped-call]
    return value


def round_half_away(x: Tensor) -> Tensor:
    """Nearest integer, halves away from zero, without a gradient of its own."""
    return torch.sign(x) * torch.floor(torch.abs(x) + 0.5)
