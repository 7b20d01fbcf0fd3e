"""Stateless torch layers to NIR nodes; layers without effect at inference vanish (None)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.passes.fold_batchnorm import ChannelAffine

__all__ = ["LAYER_MAP", "VANISHING"]

Shape = tuple[int, ...]


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy().astype(np.float64)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def linear(module: nn.Linear, name: str, in_shape: Shape) -> nir.NIRNode:
    """``y = W x + b``."""
    if len(in_shape) != 1:
        raise UnsupportedNodeError(
            f"layer '{name}' (Linear) is applied to shape {in_shape}; flatten its input first"
        )
    if module.bias is None:
        return nir.Linear(weight=_array(module.weight))
    return nir.Affine(weight=_array(module.weight), bias=_array(module.bias))


def conv2d(module: nn.Conv2d, name: str, in_shape: Shape) -> nir.NIRNode:
    """2-D cross-correlation with zero padding; ``padding='same'`` becomes numbers."""
    if module.padding_mode != "zeros":
        raise UnsupportedNodeError(
            f"layer '{name}' (Conv2d) pads with '{module.padding_mode}'; allowed is 'zeros'"
        )
    dilation, kernel = _pair(module.dilation), _pair(module.kernel_size)
    if module.padding == "valid":
        padding = (0, 0)
    elif module.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, kernel)]
        if any(n % 2 for n in total):
            raise UnsupportedNodeError(
                f"layer '{name}' (Conv2d): padding='same' with kernel {kernel} pads unevenly; use "
                f"an odd kernel"
            )
        padding = (total[0] // 2, total[1] // 2)
    else:
        padding = _pair(module.padding)
    bias = np.zeros(module.out_channels) if module.bias is None else _array(module.bias)
    weight, padding = _square(name, _array(module.weight), padding, dilation)
    return nir.Conv2d(
        input_shape=(in_shape[1], in_shape[2]),
        weight=_one_group(weight, module.groups),
        stride=_pair(module.stride),
        padding=padding,
        dilation=dilation,
        groups=1,
        bias=bias,
        metadata={"groups": module.groups} if module.groups > 1 else {},
    )


def _one_group(weight: Any, groups: int) -> Any:
    """The same kernel with zeros between groups: nir 1.0.8 cannot infer types of grouped ones."""
    if groups == 1:
        return weight
    c_out, per_group = weight.shape[:2]
    full = np.zeros((c_out, per_group * groups, *weight.shape[2:]))
    for out in range(c_out):
        first = (out // (c_out // groups)) * per_group
        full[out, first : first + per_group] = weight[out]
    return full


def _square(name: str, weight: Any, padding: Any, dilation: Any) -> tuple[Any, tuple[int, int]]:
    """The same kernel with zeros around it: nir 1.0.8 infers types of square kernels only."""
    sizes = weight.shape[2:]
    missing = [max(sizes) - size for size in sizes]
    around = [d * m for d, m in zip(dilation, missing)]
    if any(m % 2 for m in missing) or any(n % 2 for n in around):
        raise UnsupportedNodeError(
            f"layer '{name}' (Conv2d) has a kernel of {sizes}; nir infers the types of square kernels "
            f"only, and one whose sides differ by an odd number cannot be padded to one"
        )
    half = [m // 2 for m in missing]
    padded = np.pad(weight, ((0, 0), (0, 0), (half[0], half[0]), (half[1], half[1])))
    return padded, (padding[0] + around[0] // 2, padding[1] + around[1] // 2)


def avg_pool2d(module: nn.AvgPool2d, name: str, in_shape: Shape) -> nir.NIRNode:
    """Mean over a window; ceil_mode and other divisors are refused."""
    padding = _pair(module.padding)
    if module.ceil_mode or module.divisor_override is not None:
        raise UnsupportedNodeError(
            f"layer '{name}' (AvgPool2d): ceil_mode and divisor_override have no NIR form"
        )
    if any(padding) and not module.count_include_pad:
        raise UnsupportedNodeError(
            f"layer '{name}' (AvgPool2d): padding with count_include_pad=False has no NIR form"
        )
    kernel = _pair(module.kernel_size)
    stride = _pair(module.stride if module.stride is not None else module.kernel_size)
    return nir.AvgPool2d(
        kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding)
    )


def flatten(module: nn.Flatten, name: str, in_shape: Shape) -> nir.NIRNode:
    """Flatten without the batch dimension, so torch's dimension 1 is NIR's 0."""
    rank = len(in_shape)
    start = module.start_dim if module.start_dim >= 0 else module.start_dim + rank + 1
    end = module.end_dim if module.end_dim >= 0 else module.end_dim + rank + 1
    if start < 1:
        raise UnsupportedNodeError(
            f"layer '{name}' (Flatten) would merge the batch dimension; start at dimension 1"
        )
    return nir.Flatten(
        input_type={"input": np.array(in_shape)}, start_dim=start - 1, end_dim=end - 1
    )


def batch_norm(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """``y = g x + h`` per channel, ``g = weight/sqrt(var + eps)``, ``h = bias - g mean``."""
    if module.running_mean is None:
        raise UnsupportedNodeError(
            f"layer '{name}' ({type(module).__name__}) keeps no running statistics; create it with "
            f"track_running_stats=True"
        )
    gain = 1.0 / np.sqrt(_array(module.running_var) + module.eps)
    shift = np.zeros_like(gain)
    if module.affine:
        gain, shift = gain * _array(module.weight), _array(module.bias)
    return ChannelAffine(scale=gain, shift=shift - gain * _array(module.running_mean))


LAYER_MAP: dict[type, Callable[[Any, str, Shape], nir.NIRNode]] = {
    nn.Linear: linear,
    nn.Conv2d: conv2d,
    nn.AvgPool2d: avg_pool2d,
    nn.Flatten: flatten,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
}
VANISHING: tuple[type, ...] = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
