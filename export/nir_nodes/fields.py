"""Checks of the fields of NIR nodes: arrays of numbers, whole numbers, shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.nir_nodes.repeats import distinct, repeated

__all__ = [
    "SIZE_MAX",
    "entries",
    "lengths",
    "numbers",
    "optional",
    "padding",
    "real",
    "unbounded",
    "weights",
    "whole",
    "wholes",
]

# Values that one node may send.
SIZE_MAX = 1 << 24
SHOWN_MAX = 80


def real(what: str, value: Any) -> Any:
    """Finite numbers as a float64 array."""
    array = _floats(what, value)
    finite = np.isfinite(array)
    if not finite.all():
        _refuse(what, ~finite)
    return array


def entries(what: str, value: Any) -> Any:
    """Finite numbers of a sparse matrix, of which there may be none."""
    array = np.asarray(value)
    return array if array.size == 0 else real(what, array).astype(array.dtype)


def weights(what: str, value: Any) -> Any:
    """Finite numbers of 32 or 64 bits, read-only: the array of the producer, since it may be large.

    Whoever reads them computes with 64 bits.
    """
    array = numbers(value)
    if array is None or array.size == 0 or array.dtype not in (np.float32, np.float64):
        return real(what, value)
    with np.errstate(invalid="ignore"):
        ends = array.min(), array.max()  # of NaN, NaN
    if not np.all(np.isfinite(ends)):
        _refuse(what, ~np.isfinite(array))
    view = array.view()
    view.setflags(write=False)
    return view


def unbounded(what: str, value: Any) -> Any:
    """Numbers that may be infinite, as producers write time constants and gains of beta = 1."""
    array = _floats(what, value)
    _refuse(what, np.isnan(array))
    return array


def optional(what: str, value: Any) -> Any:
    """Finite numbers, or None."""
    return None if value is None else real(what, value)


def whole(what: str, value: Any) -> int:
    """One integer."""
    return int(_integers(what, value, (1,)).flat[0])


def wholes(what: str, value: Any) -> Any:
    """One or two integers as an array."""
    return _integers(what, value, (1, 2))


def padding(what: str, value: Any) -> Any:
    """One or two integers, or the text that torch knows as padding."""
    return value if isinstance(value, (str, bytes)) else wholes(what, value)


def lengths(what: str, value: Any) -> Any:
    """A shape: one or more positive lengths of a bounded product."""
    array = numbers(value)
    if array is None or array.ndim > 1 or array.size == 0:
        raise ConfigError(f"{what} is {_shown(value)}; expected one or more lengths, such as (3,)")
    array = np.atleast_1d(array).astype(np.float64)
    good = np.all(array == np.rint(array)) and np.all(array >= 1)
    if not good or math.prod(array.tolist()) > SIZE_MAX:
        raise ConfigError(
            f"{what} is {_shown(value)}; expected whole lengths from 1 and at most {SIZE_MAX} values in all"
        )
    return array.astype(np.int64)


def numbers(value: Any) -> Any:
    """An array of real numbers of any producer's container, or None."""
    if hasattr(value, "detach"):  # torch and the like
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists, other devices
        return None
    return array if array.dtype.kind in "biuf" else None


def _floats(what: str, value: Any) -> Any:
    array = numbers(value)
    if array is None or array.size == 0:
        raise ConfigError(f"{what} is {_shown(value)}; expected numbers")
    with np.errstate(invalid="ignore", over="ignore"):  # floats of other widths
        found = np.array(distinct(repeated(array)), dtype=np.float64)
    return found if found.shape == array.shape else np.broadcast_to(found, array.shape)


def _refuse(what: str, wrong: Any) -> None:
    if wrong.any():
        raise UnsupportedNodeError(
            f"{what} is not finite in {int(wrong.sum())} of {wrong.size} values; expected finite numbers. "
            f"Repair the network, or train it again"
        )


def _integers(what: str, value: Any, sizes: tuple[int, ...]) -> Any:
    array = numbers(value)
    good = array is not None and array.size in sizes
    if not good or np.any(array != np.rint(array)) or np.any(np.abs(array) > SIZE_MAX):
        expected = "1 integer" if sizes == (1,) else "1 or 2 integers"
        raise ConfigError(
            f"{what} is {_shown(value)}; expected {expected} of at most {SIZE_MAX} in size"
        )
    return np.asarray(array).astype(np.int64)


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of {value.dtype}, shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) < SHOWN_MAX else f"{text[: SHOWN_MAX - 4]} ..."
