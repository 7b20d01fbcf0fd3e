"""Layers of torch that are linear and have no NIR node of their own: each becomes a matrix."""

from __future__ import annotations

import copy
from typing import Any

import nir
import numpy as np
import snntorch
import torch
from torch import nn

from biril_nm.arrays import Shape
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export.from_torch.effects import check_size, linear_effect, windows_effect
from biril_nm.export.from_torch.kinds import LayerKind
from biril_nm.export.from_torch.pools import pool
from biril_nm.export.nir_nodes.fixed_map import FixedMap
from biril_nm.export.nir_nodes.kinds import EXACT
from biril_nm.export.nir_nodes.linear_maps import Convolution, as_matrix

__all__ = ["FIXED", "LARGEST", "followed_layer", "windows"]


# Two, so that a layer that mixes samples shows it.
SAMPLES = 2


def followed_layer(module: nn.Module, name: str, in_shape: Shape) -> FixedMap:
    """``y = W x + b`` of a layer, found by running it."""
    layer = copy.deepcopy(module).double()
    bias = getattr(layer, "bias", None)
    if bias is None or isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return linear_effect(layer, in_shape, SAMPLES, name, any_batch=True)
    constant = _at_rest(layer, in_shape)
    layer.bias = nn.Parameter(bias.detach() * 0)  # so that no weight has passed a sum
    found = linear_effect(layer, in_shape, SAMPLES, name, any_batch=True)
    return FixedMap.of(found.matrix, constant.ravel(), in_shape, found.out_shape)


def _at_rest(layer: nn.Module, in_shape: Shape) -> Any:
    with torch.no_grad():
        return layer(torch.zeros(1, *in_shape, dtype=torch.float64))[0].numpy()


def transposed(module: Any, name: str, in_shape: Shape) -> FixedMap:
    """The transposed matrix of the convolution that leads the other way."""
    rank = len(module.kernel_size)
    if len(in_shape) != rank + 1 or rank > 2:
        return followed_layer(module, name, in_shape)
    constant = _at_rest(copy.deepcopy(module).double(), in_shape)
    weight = module.weight.detach().double().numpy()
    places = int(np.prod(in_shape[1:]))
    check_size(name, in_shape, constant.shape, weight.size * places, impulses=False)
    shape = constant.shape
    stride, padding, dilation = (
        tuple(getattr(module, key)) for key in ("stride", "padding", "dilation")
    )
    if rank == 1:  # one row
        weight, shape = weight[:, :, None], (shape[0], 1, shape[1])
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    back: Any = Convolution(weight, shape, stride, padding, dilation, int(module.groups))
    matrix = as_matrix(back).weight.T
    return FixedMap.of(matrix, constant.ravel(), in_shape, constant.shape)


def windows(module: Any, name: str, in_shape: Shape) -> nir.NIRNode:
    """Sums over the windows of max pooling: a plain sum pooling, or a matrix of ones."""
    plain = isinstance(module, (nn.MaxPool1d, nn.MaxPool2d)) and _all_one(module.dilation)
    try:
        if plain:
            return pool(module, name, in_shape)
    except UnsupportedNodeError:
        pass  # windows over the edge
    return windows_effect(copy.deepcopy(module).double(), in_shape, SAMPLES, name)


def _all_one(dilation: Any) -> bool:
    return all(n == 1 for n in (dilation if isinstance(dilation, tuple) else (dilation,)))


_WEIGHTS = "Sparse connection, the matrix of what it does"
_MOVES = "Sparse connection, or nothing where the next layer takes it in"
_OF_SPIKES = (
    "neurons without memory (NIR Threshold) that spike where a spike is in the window, one step more; "
    "in front of a neuron (of currents) refused, unless the neuron has no memory: move it behind the neuron"
)


def _kinds(names: str, becomes: str, weightless: bool, **options: Any) -> list[LayerKind]:
    found = (getattr(nn, name, None) for name in names.split())
    return [
        LayerKind(kind, becomes, EXACT, weightless=weightless, **options)
        for kind in found
        if isinstance(kind, type)
    ]


FIXED: tuple[LayerKind, ...] = (
    *_kinds(
        "ConvTranspose1d ConvTranspose2d ConvTranspose3d", _WEIGHTS, False, node=transposed,
    ),
    *_kinds("Conv3d BatchNorm3d", _WEIGHTS, False, node=followed_layer),
    LayerKind(
        snntorch.GradedSpikes, "folded into the next weights: heights of spikes are factors", EXACT,
        node=followed_layer,
    ),
    *_kinds(
        "AvgPool3d AdaptiveAvgPool3d LPPool3d Upsample UpsamplingNearest2d UpsamplingBilinear2d",
        _WEIGHTS, True, node=followed_layer,
    ),
    *_kinds(
        "Unflatten PixelShuffle PixelUnshuffle ChannelShuffle Fold Unfold ZeroPad1d ZeroPad2d ZeroPad3d "
        "ConstantPad1d ConstantPad2d ConstantPad3d ReflectionPad1d ReflectionPad2d ReflectionPad3d "
        "ReplicationPad1d ReplicationPad2d ReplicationPad3d CircularPad1d CircularPad2d CircularPad3d",
        _MOVES, True, node=followed_layer,
    ),
)  # fmt: skip
LARGEST: tuple[LayerKind, ...] = (
    *_kinds(
        "MaxPool1d MaxPool2d MaxPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d", _OF_SPIKES,
        True, node=windows, largest=True,
    ),
)  # fmt: skip
