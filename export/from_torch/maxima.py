"""The largest of some spikes, as layers and functions of torch write it: 1 where one of them is 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from biril_nm.export.from_torch.call import Tracked
from biril_nm.export.from_torch.origins import Origins
from biril_nm.export.from_torch.replayed import HERE, Replayed, replaced
from biril_nm.export.from_torch.signals import Applied, Either, Expr, add

__all__ = ["MAXIMA", "largest", "maximum", "only_spikes"]

WINDOWS = "windows"
_POOLS: dict[str, type[nn.Module]] = {
    "max_pool1d": nn.MaxPool1d,
    "max_pool2d": nn.MaxPool2d,
    "max_pool3d": nn.MaxPool3d,
    "adaptive_max_pool1d": nn.AdaptiveMaxPool1d,
    "adaptive_max_pool2d": nn.AdaptiveMaxPool2d,
    "adaptive_max_pool3d": nn.AdaptiveMaxPool3d,
}
_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_ALONG = frozenset({"amax", "max"})
_OF_TWO = frozenset({"maximum", "max", "logical_or", "__or__", "bitwise_or"})
MAXIMA = frozenset({*_POOLS, *_ALONG, *_OF_TWO})


def largest(
    origins: Origins, of: Expr, label: str, function: Any, ends: Sequence[torch.Tensor]
) -> Either:
    """The largest of each window of a signal; ``ends`` are the tensors before and behind."""
    before, after = ends
    windows = origins.applied(of, f"{label}.{WINDOWS}", function, before, after)
    return Either(windows, label, tuple(after.shape[1:]))


def maximum(call: Tracked, function: Any) -> Expr | None:
    """What a call of :data:`MAXIMA` stands for; None if it takes no largest value over windows."""
    if call.name in _POOLS and call.before is not None:
        return _pooled(call)
    if call.name in _OF_TWO and len(call.args) == 2:
        exprs = [call.origins.expr(value) for value in call.args]
        whole = all(getattr(v, "shape", None) == call.args[0].shape for v in call.args)
        if whole and isinstance(call.result, torch.Tensor) and None not in exprs:
            terms = [expr for expr in exprs if expr is not None]
            return Either(add(*terms), call.name.strip("_"), tuple(call.result.shape[1:]))
    return _along(call, function) if call.name in _ALONG and call.before is not None else None


def _pooled(call: Tracked) -> Expr | None:
    names = _SETTINGS if call.name.startswith("max") else ("output_size", "return_indices")
    given = {**dict(zip(names, call.args[1:])), **call.kwargs}
    if given.pop("return_indices", False) or call.before is None:
        return None
    if given.get("stride", 0) in ([], ()):
        given["stride"] = None
    layer = _POOLS[call.name](**given)
    return largest(call.origins, call.before, call.name, layer, (call.args[0], call.result))


def _along(call: Tracked, function: Any) -> Expr | None:
    """The largest along dimensions behind that of the samples."""
    dim = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    signal = call.args[0]
    if call.before is None or any(not isinstance(n, int) or n % signal.ndim == 0 for n in dims):
        return None
    several = not isinstance(call.result, torch.Tensor)
    result = call.result[0] if several else call.result
    if result.ndim < 2:
        return None
    args = tuple(replaced(value, lambda v: HERE if v is signal else v) for value in call.args)
    again = Replayed(function, args, dict(call.kwargs), len(signal), 0 if several else None)
    expr = largest(call.origins, call.before, call.name, again, (signal, result))
    if several:
        call.origins.know(result, expr)
    return expr


def only_spikes(expr: Either) -> tuple[Expr, ...]:
    """The signals that must be spikes for the largest of them to be 1 where one of them is."""
    if isinstance(expr.of, Applied):
        return (expr.of.of,)
    return expr.of.terms if hasattr(expr.of, "terms") else (expr.of,)
