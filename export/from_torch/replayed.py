"""A call of a torch function with all but one of its arguments fixed, to be run again on other values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["HERE", "Replayed", "replaced"]


class _Here:
    """Stands where the signal enters."""


HERE = _Here()


@dataclass(frozen=True, eq=False)
class Replayed:
    """``function(*args, **kwargs)`` of one signal.

    Attributes:
        function: as torch hands it to a function mode.
        args: with :data:`HERE` where the signal enters, here or in ``kwargs``.
        kwargs: by name.
        batch: length of the signal's first dimension; the arguments may refer to it.
        part: which result, where the function returns several.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    batch: int
    part: int | None = None

    def __call__(self, signal: torch.Tensor) -> torch.Tensor:
        """The result for another signal, in float64."""

        def leaf(value: Any) -> Any:
            if value is HERE:
                return signal
            floats = isinstance(value, torch.Tensor) and value.is_floating_point()
            return value.double() if floats else value

        args = tuple(replaced(value, leaf) for value in self.args)
        kwargs = {key: replaced(value, leaf) for key, value in self.kwargs.items()}
        result = self.function(*args, **kwargs)
        return torch.as_tensor(result if self.part is None else result[self.part])

    def same(self, other: object) -> bool:
        """Whether another call computes the same."""
        return (
            isinstance(other, Replayed)
            and self.function == other.function
            and (self.batch, self.part) == (other.batch, other.part)
            and _equal(self.args, other.args)
            and _equal(dict(self.kwargs), dict(other.kwargs))
        )


def replaced(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """The same nest of tuples, lists and dicts with every leaf put through ``leaf``."""
    if isinstance(value, (tuple, list)):
        parts = [replaced(part, leaf) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    if isinstance(value, Mapping):
        return {key: replaced(part, leaf) for key, part in value.items()}
    return leaf(value)


def _equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)
