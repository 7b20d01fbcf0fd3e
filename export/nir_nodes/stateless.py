"""Stateless NIR nodes as linear maps: one function per node type, given the shape it receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.nir_nodes.linear_maps import (
    Convolution,
    LinearMap,
    Matrix,
    as_matrix,
    diagonal,
    identity,
)

__all__ = ["SIZE_MAX", "STATELESS"]

SIZE_MAX = 1 << 24  # values that one node may send


def _pair(value: Any, name: str, what: str, low: int = 1) -> tuple[int, int]:
    try:
        y, x = (int(n) for n in np.broadcast_to(np.asarray(value, dtype=np.int64), (2,)))
    except (ValueError, TypeError):
        y = x = low - 1
    if min(y, x) < low:
        raise UnsupportedNodeError(
            f"node '{name}': {what} is {value!r}; needed are 1 or 2 integers from {low}"
        )
    return y, x


def _padding(node: Any, name: str, kernel: Shape, dilation: Shape) -> Shape:
    if not isinstance(node.padding, (str, bytes)):
        return _pair(node.padding, name, "padding", 0)[: len(kernel)]
    text = (
        node.padding.decode("utf-8", "replace") if isinstance(node.padding, bytes) else node.padding
    )
    if text == "valid":
        return (0,) * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    strided = np.any(np.asarray(node.stride) != 1)
    if text != "same" or strided or any(n % 2 for n in total):
        raise UnsupportedNodeError(
            f"node '{name}' pads '{text}' with kernel {kernel} and stride {node.stride}, which is no "
            f"symmetric padding; give it in numbers"
        )
    return tuple(n // 2 for n in total)


def _checked(conv: Convolution, name: str) -> Convolution:
    """A convolution that has an output, of a size that can be computed."""
    shape = conv.out_shape
    if min(shape) < 1:
        raise ConfigError(
            f"node '{name}': kernel {conv.weight.shape[2:]} is larger than its input {conv.in_shape[1:]} "
            f"with padding {conv.padding}; use a smaller one, or less dilation"
        )
    if np.prod(shape, dtype=np.float64) > SIZE_MAX:
        raise ConfigError(
            f"node '{name}' sends {shape}, more than {SIZE_MAX} values; use less padding, or a larger stride"
        )
    return conv


def _check_bias(node: Any, name: str, n_out: int) -> None:
    bias = getattr(node, "bias", None)
    if bias is not None and np.shape(bias) not in ((), (1,), (n_out,)):
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has a bias of shape {np.shape(bias)}; needed is "
            f"({n_out},)"
        )


def _linear(node: Any, name: str, shape: Shape) -> LinearMap:
    if node.weight.ndim != 2 or node.weight.shape[1] != int(np.prod(shape)):
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has weights {node.weight.shape} and receives shape "
            f"{shape}; needed is a matrix (out, {int(np.prod(shape))})"
        )
    _check_bias(node, name, node.weight.shape[0])
    return Matrix(node.weight, shape, (int(node.weight.shape[0]),))


def _conv2d(node: Any, name: str, shape: Shape) -> LinearMap:
    groups = _groups(node, name, shape, 3)
    dilation = _pair(node.dilation, name, "dilation")
    padding = _padding(node, name, node.weight.shape[2:], dilation)
    weight = node.weight
    weight, groups = _regroup(weight, groups, int((node.metadata or {}).get("groups", 1)))
    conv = Convolution(
        weight,
        shape,
        _pair(node.stride, name, "stride"),
        (padding[0], padding[1]),
        dilation,
        groups,
    )
    return _checked(conv, name)


def _groups(node: Any, name: str, shape: Shape, ndim: int) -> int:
    """Groups of a convolution whose weights, bias and input fit together."""
    weight, groups = node.weight, int(node.groups)
    kind = type(node).__name__
    if weight.ndim != ndim + 1 or groups < 1 or weight.shape[0] % groups:
        raise ConfigError(
            f"node '{name}' ({kind}) has weights {weight.shape} in {groups} groups; needed are "
            f"{ndim + 1} dimensions, (out, in/groups, ...), and groups that divide out"
        )
    needed = weight.shape[1] * groups
    if len(shape) != ndim or shape[0] != needed:
        raise ConfigError(
            f"node '{name}' ({kind}) has weights {weight.shape} in {groups} groups and receives shape "
            f"{shape}; needed is ({needed}, {'H, W' if ndim == 3 else 'length'})"
        )
    _check_bias(node, name, weight.shape[0])
    return groups


def _regroup(weight: FloatArray, groups: int, told: int) -> tuple[FloatArray, int]:
    """Groups again for a kernel that was written in one group with zeros between (``told``)."""
    if groups != 1 or told <= 1 or weight.shape[0] % told or weight.shape[1] % told:
        return weight, groups
    per_out, per_in = weight.shape[0] // told, weight.shape[1] // told
    blocks = weight.reshape(told, per_out, told, per_in, *weight.shape[2:])
    own = blocks[np.arange(told), :, np.arange(told)]
    if np.count_nonzero(own) != np.count_nonzero(weight):
        return weight, groups
    return own.reshape(-1, per_in, *weight.shape[2:]), told


def _conv1d(node: Any, name: str, shape: Shape) -> LinearMap:
    """As a matrix: chips and Lava know two-dimensional convolutions only."""
    groups = _groups(node, name, shape, 2)
    dilation = _pair(node.dilation, name, "dilation")[0]
    padding = _padding(node, name, node.weight.shape[2:], (dilation,))
    flat = Convolution(
        node.weight[:, :, None, :],
        (shape[0], 1, shape[1]),
        (1, _pair(node.stride, name, "stride")[0]),
        (0, padding[0]),
        (1, dilation),
        groups,
    )
    channels, _, length = _checked(flat, name).out_shape
    return replace(as_matrix(flat), in_shape=shape, out_shape=(channels, length))


def _pool(average: bool) -> Callable[[Any, str, Shape], LinearMap]:
    def build(node: Any, name: str, shape: Shape) -> LinearMap:
        if len(shape) != 3:
            raise ConfigError(
                f"node '{name}' (pooling) receives shape {shape}; needed is (C, H, W)"
            )
        kernel = _pair(node.kernel_size, name, "kernel_size")
        value = 1.0 / (kernel[0] * kernel[1]) if average else 1.0
        pool = Convolution(
            np.broadcast_to(value, (shape[0], 1, *kernel)),
            shape,
            _pair(node.stride, name, "stride"),
            _pair(node.padding, name, "padding", 0),
            groups=shape[0],
        )
        return _checked(pool, name)

    return build


def _flatten(node: Any, name: str, shape: Shape) -> LinearMap:
    dims, n = (node.start_dim, node.end_dim), len(shape)
    start, end = (dim + n if dim < 0 else dim for dim in dims)
    if not 0 <= start <= end < n:
        raise ConfigError(
            f"node '{name}' (Flatten) joins dimensions {dims[0]} to {dims[1]} of shape {shape}; NIR counts "
            f"them from 0 without batch, and start_dim is not behind end_dim"
        )
    merged = int(np.prod(shape[start : end + 1]))
    return replace(identity(shape), out_shape=(*shape[:start], merged, *shape[end + 1 :]))


def _each(node: Any, name: str, values: FloatArray, shape: Shape) -> FloatArray:
    """Values of one node for each neuron: one for all, or of the same number of dimensions."""
    fits = values.ndim == len(shape) and all(n in (1, m) for n, m in zip(values.shape, shape))
    if values.shape not in ((), (1,)) and not fits:
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has values of shape {values.shape} and receives shape "
            f"{shape}; they must agree"
        )
    return np.broadcast_to(values, shape)


def _scale(node: Any, name: str, shape: Shape) -> LinearMap:
    return diagonal(_each(node, name, node.scale, shape))


def _delay(node: Any, name: str, shape: Shape) -> LinearMap:
    """A delay changes no value; it only has to fit."""
    _each(node, name, node.delay, shape)
    return identity(shape)


def _through(node: Any, name: str, shape: Shape) -> LinearMap:
    return identity(shape)


STATELESS: dict[type, Callable[[Any, str, Shape], LinearMap]] = {
    nir.Linear: _linear,
    nir.Affine: _linear,
    nir.Conv1d: _conv1d,
    nir.Conv2d: _conv2d,
    nir.AvgPool2d: _pool(average=True),
    nir.SumPool2d: _pool(average=False),
    nir.Flatten: _flatten,
    nir.Scale: _scale,
    nir.Delay: _delay,
    nir.Input: _through,  # ends of nested graphs
    nir.Output: _through,
}
