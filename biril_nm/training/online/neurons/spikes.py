"""Spike functions of the online neurons: a step forward, a window as derivative.

boxcar      s = 1 if x > 0 else 0,  psi = 1 where |x| <= .5
triangle    s the same,             psi = .3 max(0, 1 - |x|)
narrow      s the same,             psi = .7 max(0, 1 - 1.7 |x|)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["boxcar", "narrow", "triangle"]

TRIANGLE_HEIGHT = 0.3
NARROW_HEIGHT, NARROWING = 0.7, 1.7


class _Above(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)


class _Boxcar(_Above):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = (x.abs() <= 0.5).to(x.dtype)
        return grad * slope


class _Triangle(_Above):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = TRIANGLE_HEIGHT * (1.0 - x.abs()).clamp_min(0.0)
        return grad * slope


class _Narrow(_Above):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = NARROW_HEIGHT * (1.0 - NARROWING * x.abs()).clamp_min(0.0)
        return grad * slope


def _spikes(function: type[torch.autograd.Function], x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():  # the same values, sooner
        return (x > 0).to(x.dtype)
    spikes: Tensor = function.apply(x)  # type: ignore[no-untyped-call]
    return spikes


def boxcar(x: Tensor) -> Tensor:
    """Spikes where x is above 0; derivative 1 within half a threshold of 0."""
    return _spikes(_Boxcar, x)


def triangle(x: Tensor) -> Tensor:
    """Spikes where x is above 0; derivative ``.3 max(0, 1 - |x|)``."""
    return _spikes(_Triangle, x)


def narrow(x: Tensor) -> Tensor:
    """Spikes where x is above 0; derivative ``.7 max(0, 1 - 1.7 |x|)``."""
    return _spikes(_Narrow, x)
