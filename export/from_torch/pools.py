"""Pooling: means and sums over windows, and the windows of maxima."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
from torch import nn

from biril_nm.arrays import Shape
from biril_nm.export.from_torch.kinds import refuse, sizes

__all__ = ["adaptive_pool", "pool"]


def check_rank(module: nn.Module, name: str, in_shape: Shape) -> int:
    """Dimensions that a layer pools over; refused where torch takes the samples for channels."""
    rank = 1 if "1d" in type(module).__name__ else 2
    if len(in_shape) != rank + 1:
        raise refuse(
            module, name, f" receives shape {in_shape}; expected {rank + 1} dimensions and a batch"
        )
    return rank


def pool(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """Mean over a window (AvgPool), or sum (LPPool of norm 1, AvgPool with a divisor of 1)."""
    rank = check_rank(module, name, in_shape)
    average = isinstance(module, (nn.AvgPool1d, nn.AvgPool2d))
    average = average and getattr(module, "divisor_override", None) is None
    kernel = sizes(module.kernel_size, rank)
    stride = sizes(module.stride if module.stride is not None else kernel, rank)
    padding = sizes(getattr(module, "padding", 0), rank)
    if any(padding) and not getattr(module, "count_include_pad", True):
        raise refuse(
            module,
            name,
            ": count_include_pad is False with padding; expected True. Pad with zeros that count",
        )
    uneven = any((n + 2 * p - k) % s for n, p, k, s in zip(in_shape[1:], padding, kernel, stride))
    if module.ceil_mode and uneven:
        raise refuse(
            module, name, f": ceil_mode makes windows reach over the edge of {in_shape}; expected windows "
            f"within it. Use ceil_mode=False or a size that the stride divides",
        )  # fmt: skip
    return _pooling(in_shape, kernel, stride, padding, average)


def _pooling(
    in_shape: Shape, kernel: Shape, stride: Shape, padding: Shape, average: bool
) -> nir.NIRNode:
    """NIR has two-dimensional pooling only; one-dimensional pooling is a depthwise Conv1d."""
    if len(kernel) == 2:
        kind = nir.AvgPool2d if average else nir.SumPool2d
        return kind(
            kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding)
        )
    channels = in_shape[0]
    value = 1.0 / kernel[0] if average else 1.0
    return nir.Conv1d(
        input_shape=in_shape[1],
        weight=np.full((channels, 1, kernel[0]), value),
        stride=stride[0],
        padding=padding[0],
        dilation=1,
        groups=channels,
        bias=np.zeros(channels),
    )


def adaptive_pool(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """AdaptiveAvgPool where all windows are equal: the output size divides the input size."""
    rank = check_rank(module, name, in_shape)
    wanted = module.output_size
    wanted = (wanted,) * rank if wanted is None or isinstance(wanted, int) else tuple(wanted)
    size = tuple(n if out is None else int(out) for n, out in zip(in_shape[1:], wanted))
    if any(n % out for n, out in zip(in_shape[1:], size)):
        raise refuse(
            module,
            name,
            f" averages {in_shape[1:]} to {size} over windows of different sizes; expected equal ones. "
            f"Choose an output size that divides the input size",
        )
    window = tuple(n // out for n, out in zip(in_shape[1:], size))
    return _pooling(in_shape, window, window, (0,) * rank, average=True)
