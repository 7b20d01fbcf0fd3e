"""Field values of graph nodes: checked, frozen, and compared by content."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError

__all__ = ["ByValue", "Shape", "as_integers", "as_pair", "as_register", "as_shape", "same_value"]

Shape = tuple[int, ...]


def as_shape(value: Any) -> Shape:
    """Tuple of positive lengths."""
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(value)))
    if not shape or min(shape) < 1:
        raise ConfigError(f"shape {value} must be one or more positive lengths")
    return shape


def as_integers(value: Any, what: str) -> NDArray[np.int32]:
    """Read-only 32-bit integers; whole floats are taken, nothing is rounded."""
    array = np.asarray(value)
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and np.array_equal(array, np.rint(array))
    )
    if not whole:
        raise ConfigError(f"{what} must be integers, found dtype {array.dtype}")
    wide = array.astype(np.int64)
    info = np.iinfo(np.int32)
    if wide.size and (wide.min() < info.min or wide.max() > info.max):
        raise ConfigError(f"{what} do not fit 32 bits: {wide.min()} to {wide.max()}")
    frozen = wide.astype(np.int32)
    frozen.setflags(write=False)
    return frozen


def as_pair(value: Any) -> tuple[int, int]:
    """(h, w) of one number or two."""
    pair = np.broadcast_to(np.asarray(value, dtype=np.int64), (2,))
    return int(pair[0]), int(pair[1])


def same_value(a: Any, b: Any) -> bool:
    """Equality of field values, arrays and CSR matrices by content."""
    if hasattr(a, "indptr"):
        return (
            hasattr(b, "indptr")
            and a.shape == b.shape
            and np.array_equal(a.indptr, b.indptr)
            and np.array_equal(a.indices, b.indices)
            and np.array_equal(a.data, b.data)
        )
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.array_equal(a, b))
    return bool(a == b)


class ByValue:
    """Equality of dataclasses that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same_value(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]


def as_register(value: Any, shape: Shape, name: str) -> NDArray[np.int32]:
    """A register as a 0-d array (shared) or an array of the node's shape (per neuron)."""
    array = as_integers(value, f"register {name}")
    if array.ndim == 0 or array.shape == shape:
        return array
    try:
        full = np.broadcast_to(array, shape).copy()
    except ValueError:
        raise ConfigError(
            f"register {name} has shape {array.shape}; allowed are one value or shape {shape}"
        ) from None
    full.setflags(write=False)
    return full
