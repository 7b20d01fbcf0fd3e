"""Stateless NIR nodes as linear maps: one function per node type, given the shape it receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.passes.linear_maps import (
    Convolution,
    LinearMap,
    Matrix,
    as_matrix,
    diagonal,
    identity,
)

__all__ = ["STATELESS"]

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]


def _pair(value: Any, name: str, what: str) -> tuple[int, int]:
    try:
        pair = np.broadcast_to(np.asarray(value, dtype=np.int64), (2,))
    except (ValueError, TypeError):
        raise UnsupportedNodeError(
            f"node '{name}': {what} is {value!r}; needed are 1 or 2 integers"
        ) from None
    return int(pair[0]), int(pair[1])


def _padding(node: Any, name: str, kernel: Shape, dilation: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(node.padding, (str, bytes)):
        return _pair(node.padding, name, "padding")[: len(kernel)]
    text = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if text == "valid":
        return (0,) * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    if text != "same" or any(n % 2 for n in total):
        raise UnsupportedNodeError(
            f"node '{name}' pads '{text}' with kernel {kernel}, which is no symmetric padding; give "
            f"it in numbers"
        )
    return tuple(n // 2 for n in total)


def _linear(node: Any, name: str, shape: Shape) -> LinearMap:
    if node.weight.ndim != 2 or node.weight.shape[1] != int(np.prod(shape)):
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has weights {node.weight.shape} and receives shape "
            f"{shape}; needed is a matrix (out, {int(np.prod(shape))})"
        )
    return Matrix(np.asarray(node.weight, dtype=np.float64), shape, (int(node.weight.shape[0]),))


def _conv2d(node: Any, name: str, shape: Shape) -> LinearMap:
    groups = int(node.groups)
    if len(shape) != 3 or shape[0] != node.weight.shape[1] * groups:
        raise ConfigError(
            f"node '{name}' (Conv2d) has weights {node.weight.shape} in {groups} groups and receives "
            f"shape {shape}; needed is ({node.weight.shape[1] * groups}, H, W)"
        )
    dilation = _pair(node.dilation, name, "dilation")
    padding = _padding(node, name, node.weight.shape[2:], dilation)
    weight = np.asarray(node.weight, dtype=np.float64)
    weight, groups = _regroup(weight, groups, int((node.metadata or {}).get("groups", 1)))
    return Convolution(
        weight,
        shape,
        _pair(node.stride, name, "stride"),
        (padding[0], padding[1]),
        dilation,
        groups,
    )


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
    groups = int(node.groups)
    if len(shape) != 2 or shape[0] != node.weight.shape[1] * groups:
        raise ConfigError(
            f"node '{name}' (Conv1d) has weights {node.weight.shape} in {groups} groups and receives "
            f"shape {shape}"
        )
    dilation = _pair(node.dilation, name, "dilation")[0]
    padding = _padding(node, name, node.weight.shape[2:], (dilation,))
    flat = Convolution(
        np.asarray(node.weight, dtype=np.float64)[:, :, None, :],
        (shape[0], 1, shape[1]),
        (1, _pair(node.stride, name, "stride")[0]),
        (0, padding[0]),
        (1, dilation),
        groups,
    )
    channels, _, length = flat.out_shape
    return replace(as_matrix(flat), in_shape=shape, out_shape=(channels, length))


def _pool(average: bool) -> Callable[[Any, str, Shape], LinearMap]:
    def build(node: Any, name: str, shape: Shape) -> LinearMap:
        if len(shape) != 3:
            raise ConfigError(
                f"node '{name}' (pooling) receives shape {shape}; needed is (C, H, W)"
            )
        kernel = _pair(node.kernel_size, name, "kernel_size")
        value = 1.0 / (kernel[0] * kernel[1]) if average else 1.0
        return Convolution(
            np.full((shape[0], 1, *kernel), value),
            shape,
            _pair(node.stride, name, "stride"),
            _pair(node.padding, name, "padding"),
            groups=shape[0],
        )

    return build


def _flatten(node: Any, name: str, shape: Shape) -> LinearMap:
    start, end = int(node.start_dim), int(node.end_dim)
    start, end = start % len(shape), end % len(shape)
    merged = int(np.prod(shape[start : end + 1]))
    return replace(identity(shape), out_shape=(*shape[:start], merged, *shape[end + 1 :]))


def _scale(node: Any, name: str, shape: Shape) -> LinearMap:
    return diagonal(np.broadcast_to(np.asarray(node.scale, dtype=np.float64), shape))


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
    nir.Delay: _through,
    nir.Input: _through,  # ends of nested graphs
    nir.Output: _through,
}
