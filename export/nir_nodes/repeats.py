"""Arrays with one value for many neurons: views without copies, and computing with one of each.

A population of a convolution has millions of neurons that share most of their parameters. An axis along
which values repeat has stride 0, as ``np.broadcast_to`` makes it; such an array takes the memory of its
distinct values only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.arrays import Array, FloatArray, Shape

__all__ = ["combined", "distinct", "repeated"]


def repeated(array: Array) -> Array:
    """The array itself, or a read-only view of one value of it where all are equal."""
    if array.size < 2 or array.flat[0] != array.flat[-1] or not np.all(array == array.flat[0]):
        return array
    one = array[(slice(0, 1),) * array.ndim].copy()  # does not keep the others alive
    return np.broadcast_to(one, array.shape)


def distinct(array: Any) -> Array:
    """The array with length 1 along each axis on which it repeats itself."""
    values = np.asarray(array)
    return values[tuple(slice(0, 1) if step == 0 else slice(None) for step in values.strides)]


def combined(function: Callable[..., Any], shape: Shape, *arrays: Any) -> FloatArray:
    """``function`` of arrays, element by element, as an array of ``shape`` that repeats what they repeat."""
    return np.broadcast_to(function(*map(distinct, arrays)), shape)
