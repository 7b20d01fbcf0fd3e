"""Torch functions between layers: which of them NIR can say, and as what.

A handler returns the expression of the result, or None where NIR has no form for it; the finding is
told only if a layer receives such a signal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from biril_nm.export.torch_signals import (
    STATIC,
    Collected,
    Expr,
    Flat,
    InputStep,
    Scaled,
    Sum,
    add,
)

if TYPE_CHECKING:
    from biril_nm.export.torch_tracer import Tracer

__all__ = ["OPERATIONS", "READS_VALUES", "Tracked", "shape_only"]

READS_VALUES = frozenset(
    {"__bool__", "__float__", "__int__", "__index__", "item", "tolist", "numpy", "__array__"}
)
_SHAPE_ONLY = frozenset(
    {
        "shape", "size", "dim", "ndim", "ndimension", "numel", "nelement", "device", "dtype", "layout",
        "is_cuda", "is_floating_point", "get_device", "requires_grad", "is_leaf", "grad_fn", "is_sparse",
        "is_contiguous", "stride", "type", "__len__", "__repr__", "__hash__", "names", "is_nested",
        "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like", "new_zeros",
        "new_ones", "new_full", "new_empty", "new_tensor",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Tracked:
    """One call of a torch function with a traced argument."""

    tracer: Tracer
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Expr | None
    result: Any


def shape_only(name: str) -> bool:
    """Whether a function takes a tensor's shape and kind only, never its values."""
    return name in _SHAPE_ONLY


def _same(call: Tracked) -> Expr | None:
    return call.before


def _if_same_shape(call: Tracked) -> Expr | None:
    return call.before if call.result.shape == call.args[0].shape else None


def _dropout(call: Tracked) -> Expr | None:
    """Dropout at inference changes nothing."""
    training = call.kwargs.get("training", call.args[2] if len(call.args) > 2 else True)
    return None if training else call.before


def _sum_of(call: Tracked, sign: int) -> Expr | None:
    alpha = call.kwargs.get("alpha", 1)
    if len(call.args) < 2 or alpha != 1:
        return None
    terms = []
    for value, factor in zip(call.args[:2], (1, sign)):
        expr = call.tracer.expr(value)
        if expr is None:
            if bool(torch.any(torch.as_tensor(value) != 0)):
                return None
            continue
        if isinstance(value, torch.Tensor) and value.shape != call.result.shape:
            return None
        terms.append(expr if factor == 1 else _scaled(call, expr, torch.tensor(-1.0)))
    flat = add(*terms)
    parts = flat.terms if isinstance(flat, Sum) else (flat,)
    counts = {part: parts.count(part) for part in parts}  # s + s is 2 s
    return add(
        *(
            part if count == 1 else _scaled(call, part, torch.tensor(float(count)))
            for part, count in counts.items()
        )
    )


def _scaled(call: Tracked, expr: Expr, factor: torch.Tensor) -> Expr:
    return Scaled(expr, call.tracer.constant(factor), tuple(call.result.shape[1:]))


def _product(call: Tracked, inverse: bool) -> Expr | None:
    if len(call.args) != 2 or call.kwargs:
        return None
    exprs = [call.tracer.expr(value) for value in call.args]
    where = 0 if exprs[0] is not None else 1
    other, expr = call.args[1 - where], exprs[where]
    if exprs[1 - where] is not None or expr is None or (inverse and where == 1):
        return None
    factor = torch.as_tensor(other, dtype=torch.float64)
    if factor.ndim == call.result.ndim and factor.shape[0] == 1:
        factor = factor[0]
    if call.args[where].shape != call.result.shape or factor.ndim >= call.result.ndim:
        return None
    return _scaled(call, expr, 1.0 / factor if inverse else factor)


def _negative(call: Tracked) -> Expr | None:
    return None if call.before is None else _scaled(call, call.before, torch.tensor(-1.0))


def _reshaped(call: Tracked) -> Expr | None:
    """Merging of neighbouring dimensions behind the batch; nothing else has a NIR node."""
    before, after = tuple(call.args[0].shape), tuple(call.result.shape)
    if call.before is None:
        return None
    if before == after:
        return call.before
    if before[:1] != after[:1] or len(after) >= len(before):
        return None
    merged = len(before) - len(after)
    for start in range(1, len(after)):
        end = start + merged
        length = 1
        for n in before[start : end + 1]:
            length *= n
        if after == (*before[:start], length, *before[end + 1 :]):
            return Flat(call.before, start - 1, end - 1, before[1:])
    return None


def _item(call: Tracked) -> Expr | None:
    """``x[t]``, ``x[:, t]``, ``x[..., t]`` on the whole input: one step of it."""
    index = call.args[1]
    parts = index if isinstance(index, tuple) else (index,)
    numbers = [i for i, part in enumerate(parts) if isinstance(part, int)]
    plain = all(part is Ellipsis or part == slice(None) or isinstance(part, int) for part in parts)
    if not plain or len(numbers) != 1:
        return None
    axis = numbers[0]
    if Ellipsis in parts and parts.index(Ellipsis) < axis:
        axis -= len(parts)
    return _step_of(call, axis, parts[numbers[0]])


def _select(call: Tracked) -> Expr | None:
    axis, index = (*call.args[1:], call.kwargs.get("dim"), call.kwargs.get("index"))[:2]
    return _step_of(call, axis, index)


def _step_of(call: Tracked, axis: int, index: int) -> Expr | None:
    whole = call.before
    if not isinstance(whole, InputStep) or whole.step != STATIC:
        return None
    axis %= call.args[0].ndim
    index %= call.args[0].shape[axis]
    shape = tuple(call.args[0].shape)
    left = (*shape[:axis], *shape[axis + 1 :])
    if call.tracer.sliced.setdefault(whole.index, (axis, left[1:])) != (axis, left[1:]):
        return None
    return InputStep(whole.index, index)


def _unbind(call: Tracked) -> Expr | None:
    axis = int(call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0))
    known = True
    for index, part in enumerate(call.result):
        expr = _step_of(call, axis, index)
        known = known and expr is not None
        if expr is not None:
            call.tracer.know(part, expr)
    return call.before if known else None


def _collected(call: Tracked) -> Expr | None:
    """``stack`` and ``cat`` of signals, as networks return them for all steps."""
    exprs = [call.tracer.expr(value) for value in call.args[0]]
    known = tuple(expr for expr in exprs if expr is not None)
    return Collected(known, call.name) if len(known) == len(exprs) else None


def _reduced(call: Tracked) -> Expr | None:
    """Sum or mean over what was stacked along the first dimension."""
    before = call.before
    axis = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    if not isinstance(before, Collected) or axis not in (0, (0,), [0]) or before.how != "stack":
        return None
    return Collected(before.items, call.name)


Handler = Callable[[Tracked], "Expr | None"]
OPERATIONS: dict[str, Handler] = {
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__"), lambda c: _sum_of(c, 1)),
    **dict.fromkeys(("sub", "sub_", "subtract"), lambda c: _sum_of(c, -1)),
    **dict.fromkeys(("mul", "mul_", "multiply"), lambda c: _product(c, inverse=False)),
    **dict.fromkeys(("div", "div_", "true_divide"), lambda c: _product(c, inverse=True)),
    **dict.fromkeys(("neg", "negative"), _negative),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze"), _reshaped),
    **dict.fromkeys(
        ("detach", "detach_", "clone", "contiguous", "to", "float", "double", "cpu", "cuda", "data",
         "requires_grad_", "retain_grad", "type_as"), _same,
    ),
    **dict.fromkeys(("expand", "expand_as", "view_as", "reshape_as"), _if_same_shape),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _dropout),
    "__getitem__": _item,
    "select": _select,
    "unbind": _unbind,
    "__iter__": _unbind,
    **dict.fromkeys(("stack", "cat", "concat"), _collected),
    **dict.fromkeys(("sum", "mean"), _reduced),
}  # fmt: skip
