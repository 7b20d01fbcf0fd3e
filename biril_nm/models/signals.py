"""Values of a folded run: what an operation of one step gives, over all steps at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx.node import map_aggregate

__all__ = [
    "EACH",
    "FOLDED",
    "ONCE",
    "PLAIN",
    "Rows",
    "Signal",
    "Size",
    "is_constant",
    "mapped",
    "own_copy",
    "tensors",
]

PLAIN = "plain"  # the same at every step and for every sample
ONCE = "once"  # the same at every step; samples first
FOLDED = "folded"  # (n_steps * batch, ...)
EACH = "each"  # a list, one value per step


def is_constant(x: Tensor) -> bool:
    """Whether the input ``(n_steps, ...)`` is the same at every step."""
    return x.shape[0] == 1 or x.stride(0) == 0


def own_copy(x: Tensor) -> Tensor:
    """A copy of the input for a trial, whose forward may change it in place."""
    return x[:1].clone().expand(x.shape) if is_constant(x) else x.clone()


class Rows(int):
    """The number of samples, which is ``n_steps`` times as large where time is folded."""


def tensors(value: Any) -> list[Tensor]:
    """All tensors in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    return [t for v in inner for t in tensors(v)] if isinstance(value, (tuple, list, dict)) else []


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """What ``function`` makes of a value, and of all values in tuples, lists, dicts and slices."""
    if isinstance(value, tuple) and hasattr(
        value, "n_sequence_fields"
    ):  # as of x.max(1), with names
        return type(value)([mapped(each, function) for each in value])  # type: ignore[call-arg]
    if isinstance(value, (tuple, list, dict, slice)):
        return map_aggregate(value, function)
    return function(value)


@dataclass(frozen=True)
class Size:
    """Steps and samples of a run."""

    n_steps: int
    batch: int

    def rows_fit(self, value: Any, rows: int) -> bool:
        """Whether there are tensors and all have ``rows`` rows."""
        found = tensors(value)
        return bool(found) and all(t.ndim > 0 and t.shape[0] == rows for t in found)

    def constant(self, value: Any) -> Signal:
        """A result that is the same at every step."""
        return Signal(ONCE if self.rows_fit(value, self.batch) else PLAIN, value)

    def joined(self, values: Sequence[Any]) -> Signal:
        """Results of all steps; folded if each holds one tensor with a row per sample."""
        if all(isinstance(v, Tensor) for v in values) and self.rows_fit(values, self.batch):
            return Signal(FOLDED, torch.cat(list(values)))
        return Signal(EACH, list(values))


@dataclass(frozen=True)
class Signal:
    """A value and what it stands for."""

    form: str
    value: Any

    def folded(self, size: Size) -> Any:
        """The value where time is folded into the samples."""

        def widened(x: Any) -> Any:
            if isinstance(x, Tensor) and self.form == ONCE:
                return x.expand(size.n_steps, *x.shape).reshape(-1, *x.shape[1:])
            return size.n_steps * x if isinstance(x, Rows) else x

        return self.value if self.form == FOLDED else mapped(self.value, widened)

    def at(self, t: int, size: Size) -> Any:
        """The value at step ``t``."""
        if self.form == EACH:
            return self.value[t]
        if self.form != FOLDED:
            return self.value
        start = t * size.batch
        return mapped(
            self.value, lambda x: x[start : start + size.batch] if isinstance(x, Tensor) else x
        )

    def steps(self, size: Size) -> Tensor:
        """``(n_steps, batch, ...)``; stride 0 where it is the same at every step."""
        found = self.given_steps(size)
        return found if len(found) == size.n_steps else found.expand(size.n_steps, *found.shape[1:])

    def given_steps(self, size: Size) -> Tensor:
        """``(n_steps, batch, ...)``, or one step where it is the same at every step."""
        if self.form == EACH:
            return torch.stack(self.value)
        value: Tensor = self.value
        if self.form == FOLDED:
            return value.view(size.n_steps, size.batch, *value.shape[1:])
        return value[None]
