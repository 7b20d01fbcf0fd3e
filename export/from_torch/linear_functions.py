"""Torch functions that are linear in a signal and have no layer of their own: they are run again later.

What a call does to its signal is found by :mod:`biril_nm.export.from_torch.effects`, when a layer needs it.
A function of several signals (``cat``, ``stack``, sums that broadcast) is the sum of what it does to each
of them while the others are 0.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

from biril_nm.export.from_torch.call import Tracked, all_of
from biril_nm.export.from_torch.module import tensors_in
from biril_nm.export.from_torch.replayed import HERE, Replayed, replaced
from biril_nm.export.from_torch.signals import (
    STATIC,
    Collected,
    Expr,
    InputStep,
    Operation,
    Permuted,
    add,
    leaves,
)

__all__ = ["followed", "is_linear"]

_MOVES = """
view reshape flatten unflatten ravel squeeze unsqueeze permute transpose t T mT swapaxes swapdims movedim
moveaxis flip fliplr flipud roll rot90 tile repeat repeat_interleave expand expand_as broadcast_to view_as
reshape_as atleast_2d atleast_3d __getitem__ select narrow index_select gather take_along_dim diagonal
diag_embed tril triu chunk split tensor_split split_with_sizes hsplit vsplit dsplit unbind pad
constant_pad_nd pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle fold unfold im2col
col2im masked_fill
"""
_WEIGHS = """
linear matmul __matmul__ __rmatmul__ mm bmm einsum tensordot inner kron conv1d conv2d conv3d
conv_transpose1d conv_transpose2d conv_transpose3d interpolate upsample upsample_nearest upsample_bilinear
avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d lp_pool1d
lp_pool2d lp_pool3d batch_norm sum mean cumsum diff mul multiply __mul__ __rmul__ div divide true_divide
__truediv__ neg negative __neg__
"""
_ADDS = """
add __add__ __radd__ sub subtract __sub__ rsub __rsub__ cat concat concatenate stack hstack vstack dstack
column_stack where
"""
_ADDING = frozenset(_ADDS.split())
_LINEAR = frozenset(_MOVES.split()) | frozenset(_WEIGHS.split()) | _ADDING
# Functions along dimensions, which must not be that of the samples.
_ALONG = frozenset({"sum", "mean", "cumsum", "diff"})
_STEPS = frozenset({"select", "unbind", "__getitem__"})


def is_linear(name: str) -> bool:
    """Whether a function is linear in a signal if the other arguments are constants."""
    return name in _LINEAR


def followed(call: Tracked, function: Any) -> Expr | None:
    """What a linear function made of its signals; None if it is not followed here.

    Every part of a result in several parts is noted by itself.
    """
    signals = [s for s in tensors_in((call.args, call.kwargs)) if call.origins.expr(s) is not None]
    if call.kwargs.get("out") is not None or (len(signals) > 1 and call.name not in _ADDING):
        return None
    stopped = any(_is_unknown(call, signal) or _takes_steps(call, signal) for signal in signals)
    if stopped or _over_samples(call):
        return None
    if call.name == "__getitem__":
        function = operator.getitem  # torch's own is another one in every run
    if isinstance(call.result, torch.Tensor):
        return _part(call, function, signals, call.result, None)
    if not isinstance(call.result, (tuple, list)):
        return None
    known: list[Expr] = []
    for place, part in enumerate(call.result):
        expr = _part(call, function, signals, part, place)
        if expr is None:
            return None
        call.origins.know(part, expr)
        known.append(expr)
    return known[0] if known else None


def _is_unknown(call: Tracked, signal: torch.Tensor) -> bool:
    expr = call.origins.expr(signal)
    return isinstance(expr, (Collected, Operation)) and not isinstance(expr, Permuted)


def _takes_steps(call: Tracked, signal: torch.Tensor) -> bool:
    """Whether steps may be taken out of a whole input, which is not a linear map of one step."""
    expr = call.origins.expr(signal)
    found = () if expr is None else leaves(expr)
    whole = any(isinstance(leaf, InputStep) and leaf.step == STATIC for leaf in found)
    whole = whole and not call.origins.parts
    return whole and call.name in _STEPS and not (call.name == "__getitem__" and _of_each(call))


def _of_each(call: Tracked) -> bool:
    """Whether an index takes a part of each sample (``x[:, 2:-2]``, ``x[:, order]``), no step or sample."""
    index = call.args[1]
    parts = index if isinstance(index, tuple) else (index,)
    behind = sum(part is not None and part is not Ellipsis for part in parts) < call.args[0].ndim
    first = all_of(parts[0]) or (parts[0] is Ellipsis and behind)
    return first and not any(isinstance(part, int) for part in parts)


def _over_samples(call: Tracked) -> bool:
    if call.name not in _ALONG:
        return False
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    ndim = call.args[0].ndim if call.args else 0
    return any(not isinstance(n, int) or n % ndim == 0 for n in dims)


def _part(
    call: Tracked, function: Any, signals: Sequence[torch.Tensor], result: Any, place: int | None
) -> Expr | None:
    """One result as the sum of what the call does to each signal."""
    if not isinstance(result, torch.Tensor) or result.ndim < 2:
        return None
    occurrences = range(len(signals))
    terms = []
    for number in occurrences:
        signal = signals[number]
        expr = call.origins.expr(signal)
        if expr is None or signal.ndim < 2 or len(signal) != len(result):
            return None
        again = _with_one_signal(call, function, number, place, len(signal))
        terms.append(call.origins.applied(expr, call.name.strip("_"), again, signal, result))
    return add(*terms)


def _with_one_signal(
    call: Tracked, function: Any, number: int, place: int | None, batch: int
) -> Replayed:
    """The call with all signals but one set to 0; constants that are added count once."""
    met = 0

    def leaf(value: Any) -> Any:
        nonlocal met
        if not isinstance(value, torch.Tensor):
            return value
        if call.origins.expr(value) is None:
            fixed = value.detach().clone()
            later = number > 0 and call.name in _ADDING and fixed.is_floating_point()
            return torch.zeros_like(fixed) if later else fixed
        met += 1
        return HERE if met - 1 == number else torch.zeros_like(value)

    args = tuple(replaced(value, leaf) for value in call.args)
    kwargs = {key: replaced(value, leaf) for key, value in call.kwargs.items()}
    return Replayed(function, args, kwargs, batch, place)
