"""Stateless torch layers to NIR nodes, one record a layer; those without effect at inference vanish."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np
import torch
from torch import nn

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.from_torch.fixed_layers import FIXED, LARGEST, followed_layer
from biril_nm.export.from_torch.kinds import LayerKind, check_fields, one_of, refuse, sizes
from biril_nm.export.from_torch.pools import adaptive_pool, pool
from biril_nm.export.nir_nodes.fold_batchnorm import ChannelAffine
from biril_nm.export.nir_nodes.kinds import EXACT, Check

__all__ = ["LAYERS", "layer_node", "one_to_one"]


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().numpy().astype(np.float64)


def linear(module: nn.Linear, name: str, in_shape: Shape) -> nir.NIRNode:
    """``y = W x + b``."""
    if len(in_shape) != 1:
        raise refuse(
            module, name, f" receives shape {in_shape}; expected one dimension. Flatten its input"
        )
    if module.bias is None:
        return nir.Linear(weight=_array(module.weight))
    return nir.Affine(weight=_array(module.weight), bias=_array(module.bias))


def conv(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """1-D or 2-D cross-correlation with zero padding; ``padding='same'`` becomes numbers."""
    rank = len(module.kernel_size)
    if len(in_shape) != rank + 1:
        raise refuse(
            module,
            name,
            f" receives shape {in_shape}; expected {rank + 1} dimensions and a batch",
        )
    bias = np.zeros(module.out_channels) if module.bias is None else _array(module.bias)
    common: dict[str, Any] = {
        "weight": _array(module.weight),
        "groups": int(module.groups),
        "bias": bias,
    }
    stride, dilation = sizes(module.stride, rank), sizes(module.dilation, rank)
    padding = _padding(module, name, dilation)
    if rank == 1:
        return nir.Conv1d(
            input_shape=in_shape[1], stride=stride[0], padding=padding[0], dilation=dilation[0], **common
        )  # fmt: skip
    return nir.Conv2d(
        input_shape=(in_shape[1], in_shape[2]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        **common,
    )


def _padding(module: Any, name: str, dilation: Shape) -> Shape:
    kernel = module.kernel_size
    if module.padding == "valid":
        return (0,) * len(kernel)
    if module.padding != "same":
        return sizes(module.padding, len(kernel))
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    if any(n % 2 for n in total):
        raise refuse(
            module,
            name,
            f": padding is 'same' with kernel {kernel}; expected a kernel that needs as much "
            f"padding on both sides. Use an odd kernel",
        )
    return tuple(n // 2 for n in total)


def flatten(module: nn.Flatten, name: str, in_shape: Shape) -> nir.NIRNode:
    """Flatten without the batch dimension, so torch's dimension 1 is NIR's 0."""
    rank = len(in_shape)
    start = module.start_dim if module.start_dim >= 0 else module.start_dim + rank + 1
    end = module.end_dim if module.end_dim >= 0 else module.end_dim + rank + 1
    if start < 1:
        raise refuse(module, name, f": start_dim is {start}, the batch; expected 1 or more")
    return nir.Flatten(
        input_type={"input": np.array(in_shape)}, start_dim=start - 1, end_dim=end - 1
    )


def batch_norm(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """``y = g x + h`` per channel, ``g = weight/sqrt(var + eps)``, ``h = bias - g mean``."""
    gain = 1.0 / np.sqrt(_array(module.running_var) + module.eps)
    shift = np.zeros_like(gain)
    if module.affine:
        gain, shift = gain * _array(module.weight), _array(module.bias)
    return ChannelAffine(
        scale=gain, shift=shift - gain * _array(module.running_mean), shape=in_shape
    )


def one_to_one(module: Any, shape: Shape) -> nir.NIRNode:
    """The loop of RLeaky and RSynaptic with ``all_to_all=False``: a weight V of its own each."""
    return nir.Scale(scale=np.array(np.broadcast_to(_array(module.V), shape)))


def _kept(what: str, value: Any) -> Any:
    if value is None:
        raise UnsupportedNodeError(
            f"{what} is None; expected running statistics. Create it with track_running_stats=True"
        )
    return value


_CONV = {"padding_mode": one_of("zeros", way_out="Pad the input itself, or use zeros")}
_AVERAGE = {"divisor_override": one_of(None, 1, way_out="Scale the next weights")}
_POWER = {"norm_type": one_of(1, way_out="Only norm 1, a sum, is linear")}
_NORM: dict[str, Check] = {"running_mean": _kept}
_DIVIDES = "plain average pooling where the size divides"
_VANISHES = "nothing (vanishes)"

_KINDS = (
    LayerKind(
        nn.Linear, "Linear or Affine; as the last layer: see `readout` of `lower`", node=linear
    ),
    LayerKind(nn.Conv1d, "Conv1d, any stride, padding, dilation, groups", EXACT, _CONV, node=conv),
    LayerKind(
        nn.Conv2d, "Conv2d, any stride, padding, dilation, groups and kernel shape", EXACT, _CONV,
        node=conv,
    ),
    LayerKind(nn.AvgPool1d, "depthwise Conv1d", EXACT, _AVERAGE, node=pool, weightless=True),
    LayerKind(
        nn.AvgPool2d, "AvgPool2d, SumPool2d with a divisor of 1; not with ceil_mode over the edge or "
        "another divisor", EXACT, _AVERAGE, node=pool, weightless=True,
    ),
    LayerKind(
        nn.LPPool1d, "norm 1 only: depthwise Conv1d of ones", EXACT, _POWER, node=pool, weightless=True
    ),
    LayerKind(nn.LPPool2d, "norm 1 only: SumPool2d", EXACT, _POWER, node=pool, weightless=True),
    LayerKind(nn.AdaptiveAvgPool1d, _DIVIDES, node=adaptive_pool, weightless=True),
    LayerKind(nn.AdaptiveAvgPool2d, _DIVIDES, node=adaptive_pool, weightless=True),
    LayerKind(
        nn.Flatten, "Flatten; also `x.flatten(1)`, `x.view(len(x), -1)`, `x.reshape(...)`", node=flatten,
        weightless=True,
    ),
    LayerKind(
        nn.BatchNorm1d, "folded into the layer before it, else a diagonal Affine or Conv1d", EXACT, _NORM,
        node=batch_norm,
    ),
    LayerKind(
        nn.BatchNorm2d, "folded into the layer before it, else a Conv2d of size 1", EXACT, _NORM,
        node=batch_norm,
    ),
    *(
        LayerKind(kind, _VANISHES, weightless=True)
        for kind in (
            nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
            nn.FeatureAlphaDropout,
        )
    ),
)  # fmt: skip
# Class of a layer without memory -> its record.
LAYERS: dict[type, LayerKind] = {kind.type: kind for kind in (*_KINDS, *FIXED, *LARGEST)}


def layer_node(kind: LayerKind, layer: nn.Module, name: str, in_shape: Shape) -> nir.NIRNode:
    """The NIR node of one layer; the matrix of its effect where no other node says it.

    Raises:
        UnsupportedNodeError: the layer is not linear with these settings.
    """
    if kind.node is None:
        raise UnsupportedNodeError(
            f"layer '{name}' ({kind.name}) vanishes; expected a layer with a node"
        )
    try:
        check_fields(kind, layer, name)
        return kind.node(layer, name, in_shape)
    except UnsupportedNodeError as error:
        if kind.largest or kind.node is followed_layer:
            raise
        refusal = error
    try:
        return followed_layer(layer, name, in_shape)
    # torch's own refusals too.
    except (UnsupportedNodeError, RuntimeError, ValueError, LookupError):
        raise refusal from None
