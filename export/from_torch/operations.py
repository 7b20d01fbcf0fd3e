"""Torch functions between layers: which of them NIR can say, and as what.

A handler returns the expression of the result, or None where NIR has no form for it; that is reported
only if a layer receives such a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from biril_nm.export.from_torch.call import Tracked, all_of
from biril_nm.export.from_torch.functions import FUNCTIONS, concatenated, offset, selected
from biril_nm.export.from_torch.reads import DRAWS
from biril_nm.export.from_torch.signals import (
    STATIC,
    Collected,
    Expr,
    InputStep,
    LayerOutput,
    Permuted,
    Scaled,
    State,
    Sum,
    add,
    leaves,
)

__all__ = ["OPERATIONS", "WAYS_OUT", "writes"]

_IN_PLACE = frozenset(
    f"__i{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
)
_OUTSIDE = "Encode the input outside of the network"
_NEURONS = (
    "write neurons as layers of snnTorch (snntorch.Leaky), which are taken as a whole, not as equations of "
    "your own"
)
_IN_THE_LOOP = "Take the input apart step by step, and call the layers inside the loop over time"
_ORDER = "Reorder the input outside of the network, and keep the dimension of the samples first"
# What to do about operations that have no NIR form.
WAYS_OUT = {
    "the output": "Return the signal itself and do the rest outside of the network",
    **dict.fromkeys(
        ("max_pool1d", "max_pool2d", "adaptive_max_pool2d", "max", "amax"),
        "Take the largest of spikes over windows (MaxPool2d behind a neuron)",
    ),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d"), "Pass training=self.training"),
    **dict.fromkeys((*DRAWS, "rand", "normal"), _OUTSIDE),
    **dict.fromkeys(("gt", "lt", "ge", "le", "heaviside", "sign"), f"{_OUTSIDE}, and {_NEURONS}"),
    **dict.fromkeys(("select", "unbind", "__iter__", "__getitem__"), _IN_THE_LOOP),
    **dict.fromkeys(
        ("permute", "transpose", "flip", "roll", "movedim", "T", "mT", "einsum"), _ORDER
    ),
    **dict.fromkeys(("add", "__add__", "sub"), "Add one number, or one per channel"),
    **dict.fromkeys(("mul", "__mul__", "matmul"), "Multiply a signal by constants only"),
    **dict.fromkeys(
        ("flatten", "view", "reshape"), f"Keep the dimension of the samples first. {_IN_THE_LOOP}"
    ),
    "repeat": _OUTSIDE,
    "__setitem__": "Compute the signal without writing into it",
    "relu": "Use neurons as the only nonlinear layers",
    "constant input": "Give each layer a signal at every step",
}


def writes(name: str) -> bool:
    """Whether a function changes the values of its first argument."""
    if OPERATIONS.get(name) is _same:
        return False
    return name == "__setitem__" or name in _IN_PLACE or (name[-1] == "_" != name[0])


def _same(call: Tracked) -> Expr | None:
    return call.before


def _if_same_shape(call: Tracked) -> Expr | None:
    return call.before if call.result.shape == call.args[0].shape else None


def _dropout(call: Tracked) -> Expr | None:
    """Dropout at inference, or of nothing, changes nothing."""
    names = dict(zip(("input", "p", "training"), call.args), **call.kwargs)
    return None if names.get("training", True) and names.get("p", 0.5) else call.before


def _sum_of(call: Tracked, sign: int, reverse: bool = False) -> Expr | None:
    alpha = call.kwargs.get("alpha", 1)
    if len(call.args) < 2 or alpha != 1:
        return None
    values = call.args[1::-1] if reverse else call.args[:2]
    terms: list[Expr] = []
    constant: Any = 0
    for value, factor in zip(values, (1, sign)):
        expr = call.origins.expr(value)
        if expr is None:
            constant = factor * value
        elif value.shape != call.result.shape:
            return None
        else:
            terms.append(expr if factor == 1 else _scaled(call, expr, torch.tensor(-1.0)))
    total = _counted(call, add(*terms))
    if bool(torch.any(torch.as_tensor(constant) != 0)):
        return offset(call, total, constant)
    return total


def _counted(call: Tracked, total: Expr) -> Expr:
    """The sum with equal terms as one term times their number: s + s is 2 s."""
    parts = total.terms if isinstance(total, Sum) else (total,)
    counts = {part: parts.count(part) for part in parts}
    return add(
        *(
            part if count == 1 else _scaled(call, part, torch.tensor(float(count)))
            for part, count in counts.items()
        )
    )


def _scaled(call: Tracked, expr: Expr, factor: torch.Tensor) -> Expr:
    return Scaled(expr, call.origins.constant(factor), tuple(call.result.shape[1:]))


def _product(call: Tracked, inverse: bool) -> Expr | None:
    if len(call.args) != 2 or call.kwargs:
        return None
    exprs = [call.origins.expr(value) for value in call.args]
    where = 0 if exprs[0] is not None else 1
    other, expr = call.args[1 - where], exprs[where]
    if exprs[1 - where] is not None or expr is None or (inverse and where == 1):
        return None
    factor = torch.as_tensor(other, dtype=torch.float64)
    if not call.result.ndim:
        return None
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
            layer = nn.Flatten(start, end)
            return call.origins.applied(call.before, "flatten", layer, call.args[0], call.result)
    return None


# --- parts: steps of an input, channels of a signal ---------------------------------------------------


def _item(call: Tracked) -> Expr | None:
    """``x[t]``, ``x[:, t]``, ``x[..., t]`` on a whole input: one step of it; ``x[:, a:b]``: channels."""
    index = call.args[1]
    parts = index if isinstance(index, tuple) else (index,)
    if len(parts) > 1 and all_of(parts[0]) and isinstance(parts[1], slice) and not _cuts(parts[2:]):
        return selected(call, range(call.args[0].shape[1])[parts[1]], call.result)
    numbers = [i for i, part in enumerate(parts) if isinstance(part, int)]
    plain = all(isinstance(part, int) or not _cuts((part,)) for part in parts)
    if not plain or len(numbers) != 1:
        return None
    axis = numbers[0]
    if any(part is Ellipsis for part in parts[:axis]):
        axis -= len(parts)
    return _step_of(call, axis, parts[numbers[0]])


def _cuts(parts: tuple[Any, ...]) -> bool:
    return any(part is not Ellipsis and not all_of(part) for part in parts)


def _select(call: Tracked) -> Expr | None:
    axis, index = (*call.args[1:], call.kwargs.get("dim"), call.kwargs.get("index"))[:2]
    return _step_of(call, axis, index)


def _step_of(call: Tracked, axis: int, index: int) -> Expr | None:
    """One step of a whole input, whose other dimensions are in their order."""
    whole, ndim = call.before, call.args[0].ndim
    if isinstance(whole, Collected):
        stacked = whole.how == "stack" and axis % ndim == whole.dim % ndim
        return whole.items[index] if stacked else None
    dims = tuple(range(ndim))
    if isinstance(whole, Permuted):
        dims, whole = whole.dims, whole.of[0]
    if not isinstance(whole, InputStep) or whole.step != STATIC or call.origins.parts:
        return None
    axis %= call.args[0].ndim
    index %= call.args[0].shape[axis]
    shape = tuple(call.args[0].shape)
    left = (*shape[:axis], *shape[axis + 1 :])
    rest = (*dims[:axis], *dims[axis + 1 :])
    seen = (dims[axis], left[1:])
    if list(rest) != sorted(rest) or call.origins.sliced.setdefault(whole.index, seen) != seen:
        return None
    return InputStep(whole.index, index)


def _unbind(call: Tracked) -> Expr | None:
    axis = int(call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0))
    known = True
    for index, part in enumerate(call.result):
        expr = _step_of(call, axis, index)
        known = known and expr is not None
        if expr is not None:
            call.origins.know(part, expr)
    return call.before if known else None


def _split(call: Tracked) -> Expr | None:
    """``chunk`` and ``split`` along the channels."""
    axis = call.kwargs.get("dim", call.args[2] if len(call.args) > 2 else 0)
    if axis % call.args[0].ndim != 1:
        return None
    start, known = 0, True
    for part in call.result:
        end = start + part.shape[1]
        expr = selected(call, range(start, end), part)
        known = known and expr is not None
        if expr is not None:
            call.origins.know(part, expr)
        start = end
    return call.before if known else None


def _moved(call: Tracked) -> Expr | None:
    """Another order of dimensions: of a whole input, or of steps that were put together."""
    before, ndim = call.before, call.args[0].ndim
    probe = torch.empty([n + 1 for n in range(ndim)])
    moved = getattr(probe, call.name)(*call.args[1:], **call.kwargs).shape
    order = tuple(n - 1 for n in moved)
    if isinstance(before, Collected):
        return Collected(before.items, before.how, order.index(before.dim % ndim))
    dims = tuple(range(ndim))
    if isinstance(before, Permuted):
        dims, before = before.dims, before.of[0]
    if not isinstance(before, InputStep) or before.step != STATIC:
        return None
    dims = tuple(dims[n] for n in order)
    return before if dims == tuple(range(ndim)) else Permuted(call.name, (before,), dims)


# --- steps put together -------------------------------------------------------------------------------


def _collected(call: Tracked) -> Expr | None:
    """``stack`` and ``cat`` of signals, as networks return them for all steps, or ``cat`` of channels."""
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else 0)
    dim %= call.result.ndim
    if call.name != "stack" and dim == 1:
        return concatenated(call)
    exprs = [call.origins.expr(value) for value in call.args[0]]
    known = tuple(expr for expr in exprs if expr is not None)
    if len(known) != len(exprs) or (call.name != "stack" and dim != 0) or (dim and _at_once(known)):
        return None
    return Collected(known, call.name, dim)


def _at_once(exprs: Sequence[Expr]) -> bool:
    """Whether signals are all of one step, so that they stand side by side in it."""
    steps = {
        max((n for leaf in leaves(e) if (n := _step(leaf)) is not None), default=0) for e in exprs
    }
    return len(steps) == 1


def _step(leaf: Expr) -> int | None:
    if isinstance(leaf, InputStep):
        return leaf.step
    return leaf.call if isinstance(leaf, (LayerOutput, State)) else None


def _written(call: Tracked) -> Expr | None:
    """``out[t] = s``: steps put together in a tensor made before; any other write is unknown."""
    _, index, value = call.args
    expr, before = call.origins.expr(value), call.before
    if expr is None or not isinstance(index, int):
        return None
    if before is None and index == 0:
        return Collected((expr,), "stack")
    together = isinstance(before, Collected) and before.how == "stack" and before.dim == 0
    if not isinstance(before, Collected) or not together or index != len(before.items):
        return None
    return Collected((*before.items, expr), "stack")


def _reduced(call: Tracked) -> Expr | None:
    """Sum or mean over the steps that were stacked, or over all positions of a signal."""
    before, ndim = call.before, call.args[0].ndim
    axis = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    if before is None or any(not isinstance(n, int) for n in axes):
        return None
    axes = tuple(sorted(n % ndim for n in axes))
    if isinstance(before, Collected):
        together = before.how == "stack" and axes == (before.dim,)
        return Collected(before.items, call.name) if together else None
    if axes != tuple(range(2, ndim)) or ndim not in (3, 4):
        return None
    return _over_positions(call, before)


def _over_positions(call: Tracked, before: Expr) -> Expr:
    signal = call.args[0]
    size = tuple(signal.shape[2:])
    kinds: Any = (nn.AvgPool1d, nn.AvgPool2d) if call.name == "mean" else (nn.LPPool1d, nn.LPPool2d)
    kind = kinds[len(size) - 1]
    kernel: Any = size if len(size) > 1 else size[0]
    layer = kind(kernel) if call.name == "mean" else kind(1, kernel)
    pooled = signal.new_empty((*signal.shape[:2], *[1] * len(size)))
    expr = call.origins.applied(before, call.name, layer, signal, pooled)
    if call.result.ndim == signal.ndim:
        return expr
    return call.origins.applied(expr, "flatten", nn.Flatten(1), pooled, call.result)


Handler = Callable[[Tracked], "Expr | None"]
OPERATIONS: dict[str, Handler] = {
    **FUNCTIONS,
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__"), lambda c: _sum_of(c, 1)),
    **dict.fromkeys(("sub", "sub_", "subtract", "__isub__"), lambda c: _sum_of(c, -1)),
    **dict.fromkeys(("rsub", "__rsub__"), lambda c: _sum_of(c, -1, reverse=True)),
    **dict.fromkeys(
        ("mul", "mul_", "multiply", "__imul__", "__rmul__"), lambda c: _product(c, inverse=False)
    ),
    **dict.fromkeys(
        ("div", "div_", "true_divide", "__itruediv__"), lambda c: _product(c, inverse=True)
    ),
    **dict.fromkeys(("neg", "negative"), _negative),
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze", "unsqueeze"), _reshaped),
    **dict.fromkeys(
        ("detach", "detach_", "clone", "contiguous", "to", "float", "double", "cpu", "cuda", "data",
         "requires_grad_", "retain_grad", "type_as"), _same,
    ),
    **dict.fromkeys(("expand", "expand_as", "view_as", "reshape_as"), _if_same_shape),
    **dict.fromkeys(("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"), _dropout),
    "__getitem__": _item,
    "__setitem__": _written,
    "select": _select,
    "unbind": _unbind,
    "__iter__": _unbind,
    **dict.fromkeys(("chunk", "split"), _split),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis"), _moved),
    **dict.fromkeys(("stack", "cat", "concat", "concatenate"), _collected),
    **dict.fromkeys(("sum", "mean"), _reduced),
}  # fmt: skip
