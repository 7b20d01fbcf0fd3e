"""Field values of graph nodes: checked, frozen, and compared by content."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Unchecked, shown
from biril_nm.display import brief_fields
from biril_nm.errors import ConfigError

__all__ = [
    "MAX_NEURONS",
    "ByValue",
    "Pair",
    "Shape",
    "as_csr",
    "as_integer",
    "as_integers",
    "as_message_bits",
    "as_pair",
    "as_register",
    "as_shape",
    "csr_from_parts",
    "same_value",
]

Shape = tuple[int, ...]  # size of each axis
Pair = Annotated[tuple[int, int], Unchecked()]  # one integer is taken for both

MAX_NEURONS = 1 << 26  # of one population: 64 Loihi 2 chips
INT32 = np.iinfo(np.int32)
MESSAGE_BITS_MAX = 31  # of a non-negative integer of 32 bits


def as_shape(value: Any) -> Shape:
    """Tuple of positive lengths."""
    try:
        lengths = np.atleast_1d(np.asarray(value))
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"shape is {shown(value)}; expected one or more positive lengths"
        ) from error
    if lengths.ndim != 1 or not lengths.size or lengths.dtype.kind not in "iu":
        raise ConfigError(f"shape is {value!r:.80}; expected one or more positive lengths")
    shape = tuple(int(n) for n in lengths)
    if min(shape) < 1 or math.prod(shape) > MAX_NEURONS:
        raise ConfigError(
            f"shape is {value!r:.80}; expected positive lengths of at most {MAX_NEURONS} neurons in all"
        )
    return shape


def as_integer(value: Any, what: str) -> int:
    """One whole number of 32 bits; nothing is rounded."""
    number = as_integers(value, what)
    if number.ndim:
        raise ConfigError(f"{what}: shape is {number.shape}; expected one integer")
    return int(number)


def as_message_bits(value: Any) -> int:
    """Width of the messages of an input, 0 for binary spikes."""
    bits = as_integer(value, "Input message_bits")
    if not 0 <= bits <= MESSAGE_BITS_MAX:
        raise ConfigError(
            f"message_bits is {bits}; expected 0 to {MESSAGE_BITS_MAX}, since messages are integers of 32 "
            f"bits. Give the width of the values that the input carries"
        )
    return bits


def as_integers(value: Any, what: str) -> NDArray[np.int32]:
    """Read-only 32-bit integers; whole floats are taken, nothing is rounded.

    An array that owns such integers and cannot be written is taken as it is.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # unequal lengths, a gradient
        raise ConfigError(f"{what}: {error}; expected integers") from error
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and np.array_equal(array, np.rint(array))
    )
    if not whole:
        raise ConfigError(f"{what}: dtype is {array.dtype}; expected integers")
    if array.dtype == np.int32 and array.flags.owndata and not array.flags.writeable:
        return array
    low, high = (array.min(), array.max()) if array.size else (0, 0)
    if low < INT32.min or high > INT32.max:
        raise ConfigError(
            f"{what}: values are {low:.0f} to {high:.0f}; expected integers of 32 bits"
        )
    frozen = array.astype(np.int32)  # a copy, and no wider one: files may hold millions of weights
    frozen.setflags(write=False)
    return frozen


def as_csr(value: Any, tagged: bool) -> Any:
    """Read-only CSR matrix of 32-bit integers; indices sorted, once each, stored zeros kept."""
    import scipy.sparse

    try:
        matrix = scipy.sparse.csr_matrix(value, copy=True)
        matrix.check_format(full_check=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Sparse weights are not a valid CSR matrix: {error}") from error
    data = as_integers(matrix.data, "Sparse weights")
    if not matrix.has_canonical_format:
        if tagged:
            raise ConfigError(
                "tags need a CSR matrix with sorted indices that occur once each. Call its "
                "sum_duplicates() before the tags are made"
            )
        matrix.data = data.astype(np.int64)
        matrix.sum_duplicates()
        data = as_integers(matrix.data, "Sparse weights")
    matrix = scipy.sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.setflags(write=False)
    return matrix


def csr_from_parts(
    data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], shape: tuple[int, int]
) -> Any:
    """CSR matrix of arrays out of a file, which are checked first."""
    import scipy.sparse

    rows, columns = shape
    if (
        any(part.ndim != 1 or part.dtype.kind not in "iu" for part in (data, indices, indptr))
        or indptr.shape != (rows + 1,)
        or (indptr[0], indptr[-1]) != (0, len(data))
        or len(indices) != len(data)
        or (np.diff(indptr.astype(np.int64)) < 0).any()
        or (len(indices) and (indices.min() < 0 or indices.max() >= columns))
    ):
        raise ConfigError("data, indices and indptr are not a valid CSR matrix")
    return scipy.sparse.csr_matrix((data, indices, indptr), shape=shape)


def as_pair(value: Any, what: str) -> tuple[int, int]:
    """(h, w) of one number or two."""
    pair = as_integers(value, what)
    if pair.shape not in ((), (1,), (2,)):
        raise ConfigError(f"{what}: shape is {pair.shape}; expected one integer or two")
    return int(pair.flat[0]), int(pair.flat[-1])


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
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_value(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.shape(a) == np.shape(b) and bool(np.array_equal(a, b))
    return bool(a == b)


class ByValue:
    """Equality, copies and short repr of dataclasses that hold arrays."""

    def __init_subclass__(cls) -> None:
        brief_fields(cls)  # before dataclass, which keeps a repr that is there

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same_value(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:  # copies are made and checked like any other node
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        plain = {k: dict(v) if isinstance(v, Mapping) else v for k, v in values.items()}
        return _made, (type(self), plain)


def _made(kind: type[ByValue], values: dict[str, Any]) -> ByValue:
    return kind(**values)


def as_register(value: Any, shape: Shape, name: str) -> NDArray[np.int32]:
    """A register as a 0-d array (shared) or an array of the node's shape (per neuron)."""
    array = as_integers(value, f"register {name}")
    if array.ndim == 0 or array.shape == shape:
        return array
    try:
        full = np.broadcast_to(array, shape).copy()
    except ValueError:
        raise ConfigError(
            f"register {name} has shape {array.shape}; expected one value or shape {shape}"
        ) from None
    full.setflags(write=False)
    return full
