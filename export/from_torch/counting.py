"""Numbers that a forward counts its steps with: what is done to them shows whether steps will differ later.

A count that only grows is compared with nothing that it will still reach, and no remainder of it is taken.
Everything else may change what the forward does at a step that no trace sees ("every 100th step").
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Counted", "CountedTensor", "counted", "follow_count"]

PERIODIC = {
    "__mod__": "%", "__rmod__": "%", "__floordiv__": "//", "__rfloordiv__": "//", "__divmod__": "divmod",
    "__and__": "&", "__rand__": "&", "__or__": "|", "__ror__": "|", "__xor__": "^", "__rxor__": "^",
    "__rshift__": ">>", "__lshift__": "<<", "__round__": "round", "__floor__": "floor", "__ceil__": "ceil",
    "__trunc__": "trunc", "__pow__": "**", "__rpow__": "**", "__int__": "int", "__float__": "float",
    "is_integer": "is_integer",
}  # fmt: skip
ORDERS = {
    "__lt__": "<",
    "__le__": "<=",
    "__gt__": ">",
    "__ge__": ">=",
    "__eq__": "==",
    "__ne__": "!=",
}
COMPARES = frozenset(
    {"lt", "le", "gt", "ge", "eq", "ne", "less", "less_equal", "greater", "greater_equal", "not_equal"}
)  # fmt: skip
LINEAR: dict[str, Callable[[float, float], float]] = {
    "add": operator.add, "radd": operator.add, "iadd": operator.add, "sub": operator.sub,
    "isub": operator.sub, "rsub": lambda a, b: b - a, "mul": operator.mul, "rmul": operator.mul,
    "imul": operator.mul, "subtract": operator.sub, "multiply": operator.mul, "div": operator.truediv,
    "truediv": operator.truediv, "divide": operator.truediv, "true_divide": operator.truediv,
}  # fmt: skip
# What leaves the number as it is, or does not look at it.
SAME = frozenset(
    {
        "clone", "detach", "to", "float", "double", "long", "int", "cpu", "data", "requires_grad", "shape",
        "dtype", "device", "size", "dim", "numel", "ndim", "repr", "format", "set", "copy", "view",
        "reshape", "squeeze", "unsqueeze",
    }
)  # fmt: skip


class Counted:
    """A number that changes by ``slope`` at each step; ``early`` is its value at a step that was traced."""

    early: float
    slope: float
    notes: list[str]


class _Int(int, Counted):
    pass


class _Float(float, Counted):
    pass


def counted(value: float, early: float, slope: float, notes: list[str]) -> Any:
    """``value`` as a number that writes into ``notes`` what is done to it and may change with the steps."""
    found: Any = (_Int if isinstance(value, int) else _Float)(value)
    found.early, found.slope, found.notes = early, slope, notes
    return found


@dataclass(frozen=True)
class CountedTensor:
    """The same of a tensor of one number, which is kept alive, so that its id stays its own."""

    tensor: torch.Tensor
    early: float
    slope: float
    notes: list[str]


def follow_count(
    counts: dict[int, CountedTensor], name: str, args: Sequence[Any], result: Any
) -> Any:
    """Note what a torch function does to counts, which are not signals; its result, or a counted number."""
    parts = [counts.get(id(each)) for each in args]
    found = next((part for part in parts if part is not None), None)
    if found is None:
        return result
    bare = name.strip("_")
    given = [part.early if part else _number(arg) for part, arg in zip(parts, args)]
    values = [value for value in given if value is not None]
    steps = [part.slope if part else 0.0 for part in parts]
    if bare == "bool":
        _compare(found, "0", found.early, found.slope)
        return result
    if bare == "item":
        return counted(result, found.early, found.slope, found.notes)
    pair = len(given) == len(values) == 2
    if bare in COMPARES and pair:
        _compare(found, f"{bare} {values[1]:g}", values[0] - values[1], steps[0] - steps[1])
        return result
    early, slope = found.early, found.slope
    linear = LINEAR.get(bare)
    if linear is not None and pair:
        early, slope = _along(linear, values, steps)
    elif bare not in SAME or (name.startswith("__") and isinstance(result, (int, float))):
        found.notes.append(f"computes {bare} of it")
        return result
    if isinstance(result, torch.Tensor):
        counts[id(result)] = CountedTensor(result, early, slope, found.notes)
    return result


def _compare(found: Any, what: str, gap: float, slope: float) -> None:
    """Note a comparison whose answer is not yet the one of all later steps."""
    if slope and gap * slope <= 0:
        found.notes.append(f"asks whether it is {what}")


def _along(
    function: Callable[[float, float], float], values: Sequence[float], slopes: Sequence[float]
) -> tuple[float, float]:
    """Value of a function, and how it changes in a step."""
    try:
        value = function(*values)
        return value, function(*(v + s for v, s in zip(values, slopes))) - value
    except (ArithmeticError, ValueError):
        return 0.0, 0.0


def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor):
        return float(value) if value.numel() == 1 and not value.is_complex() else None
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _linear(name: str, kind: type[Any]) -> Callable[..., Any]:
    """``+``, ``-``, ``*`` and ``/`` give a number that changes with the steps as well."""
    plain = getattr(kind, name)
    function = getattr(operator, name.replace("__r", "__") if name[2] == "r" else name)

    def method(self: Any, other: Any) -> Any:
        value = plain(self, other)
        if value is NotImplemented or not _is_number(other):
            return value
        theirs = getattr(other, "early", other), getattr(other, "slope", 0)
        pairs = [(self.early, self.slope), theirs]
        (a, da), (b, db) = pairs[::-1] if name[2] == "r" else pairs
        return counted(value, *_along(function, (a, b), (da, db)), self.notes)

    return method


def _periodic(name: str, kind: type[Any]) -> Callable[..., Any]:
    plain, symbol = getattr(kind, name), PERIODIC[name]

    def method(self: Any, *others: Any) -> Any:
        self.notes.append(f"computes {symbol} of it")
        return plain(self, *others)

    return method


def _order(name: str, kind: type[Any]) -> Callable[..., Any]:
    plain, symbol = getattr(kind, name), ORDERS[name]

    def method(self: Any, other: Any) -> Any:
        if _is_number(other):
            gap = self.early - getattr(other, "early", other)
            _compare(self, f"{symbol} {other}", gap, self.slope - getattr(other, "slope", 0))
        return plain(self, other)

    return method


def _fit(kind: type[Any], base: type[Any]) -> None:
    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"):
        setattr(kind, f"__{name}__", _linear(f"__{name}__", base))
    for names, make in ((PERIODIC, _periodic), (ORDERS, _order)):
        for name in names:
            if hasattr(base, name):
                setattr(kind, name, make(name, base))
    kind.__hash__ = base.__hash__


_fit(_Int, int)
_fit(_Float, float)
