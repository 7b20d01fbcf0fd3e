"""Convolution and pooling nodes as linear maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from biril_nm.arrays import Shape
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.nir_nodes.fields import SIZE_MAX
from biril_nm.export.nir_nodes.groups import regrouped
from biril_nm.export.nir_nodes.linear_maps import Convolution, LinearMap, as_matrix

__all__ = ["check_bias", "conv1d", "conv2d", "pool"]


def check_bias(node: Any, name: str, n_out: int) -> None:
    """Refuse a bias that is neither one number nor one per output."""
    bias = getattr(node, "bias", None)
    if bias is not None and np.shape(bias) not in ((), (1,), (n_out,)):
        raise ConfigError(
            f"node '{name}' ({type(node).__name__}) has a bias of shape {np.shape(bias)}; expected "
            f"({n_out},)"
        )


def conv2d(node: Any, name: str, shape: Shape) -> LinearMap:
    """Cross-correlation; a kernel that was written in one group gets its groups back."""
    groups = _groups(node, name, shape, 3)
    dilation = _pair(node.dilation, name, "dilation")
    padding = _padding(node, name, node.weight.shape[2:], dilation)
    weight = node.weight
    written = int((node.metadata or {}).get("groups", 1))
    own = regrouped(weight, written) if groups == 1 and written > 1 else None
    if own is not None:
        weight, groups = own, written
    conv = Convolution(
        weight,
        shape,
        _pair(node.stride, name, "stride"),
        (padding[0], padding[1]),
        dilation,
        groups,
    )
    return _checked(conv, name)


def conv1d(node: Any, name: str, shape: Shape) -> LinearMap:
    """As a matrix: the chip and Lava know two-dimensional convolutions only."""
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


def pool(average: bool) -> Callable[[Any, str, Shape], LinearMap]:
    """Mean over a window, or its sum."""

    def build(node: Any, name: str, shape: Shape) -> LinearMap:
        if len(shape) != 3:
            raise ConfigError(
                f"node '{name}' ({type(node).__name__}) receives shape {shape}; expected (C, H, W)"
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


def _groups(node: Any, name: str, shape: Shape, ndim: int) -> int:
    """Groups of a convolution whose weights, bias and input fit together."""
    weight, groups = node.weight, int(node.groups)
    kind = type(node).__name__
    if weight.ndim != ndim + 1 or groups < 1 or weight.shape[0] % groups:
        raise ConfigError(
            f"node '{name}' ({kind}) has weights {weight.shape} in {groups} groups; expected "
            f"{ndim + 1} dimensions, (out, in/groups, ...), and groups that divide out"
        )
    needed = weight.shape[1] * groups
    if len(shape) != ndim or shape[0] != needed:
        raise ConfigError(
            f"node '{name}' ({kind}) has weights {weight.shape} in {groups} groups and receives shape "
            f"{shape}; expected ({needed}, {'H, W' if ndim == 3 else 'length'})"
        )
    check_bias(node, name, weight.shape[0])
    return groups


def _pair(value: Any, name: str, what: str, low: int = 1) -> tuple[int, int]:
    try:
        y, x = (int(n) for n in np.broadcast_to(np.asarray(value, dtype=np.int64), (2,)))
    except (ValueError, TypeError):
        y = x = low - 1
    if min(y, x) < low:
        raise UnsupportedNodeError(
            f"node '{name}': {what} is {value!r}; expected 1 or 2 integers from {low}"
        )
    return y, x


def _padding(node: Any, name: str, kernel: Shape, dilation: Shape) -> Shape:
    if not isinstance(node.padding, (str, bytes)):
        return _pair(node.padding, name, "padding", 0)[: len(kernel)]
    text = node.padding
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    if text == "valid":
        return (0,) * len(kernel)
    total = [d * (k - 1) for d, k in zip(dilation, kernel)]
    strided = np.any(np.asarray(node.stride) != 1)
    if text != "same" or strided or any(n % 2 for n in total):
        raise UnsupportedNodeError(
            f"node '{name}': padding is '{text}' with kernel {kernel} and stride {node.stride}; expected "
            f"the same padding on both sides. Give it in numbers"
        )
    return tuple(n // 2 for n in total)


def _checked(conv: Convolution, name: str) -> Convolution:
    """A convolution that has an output, of a size that can be computed."""
    shape = conv.out_shape
    if min(shape) < 1:
        raise ConfigError(
            f"node '{name}': kernel {conv.weight.shape[2:]} is larger than its input {conv.in_shape[1:]} "
            f"with padding {conv.padding}; expected a kernel within it. Use a smaller one, or less dilation"
        )
    if np.prod(shape, dtype=np.float64) > SIZE_MAX:
        raise ConfigError(
            f"node '{name}' sends shape {shape}; expected at most {SIZE_MAX} values. Use less padding, or a "
            f"larger stride"
        )
    return conv
