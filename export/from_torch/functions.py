"""Torch functions that are layers without a module: each becomes the layer that computes the same.

``F.linear``, ``x @ w``, ``F.conv2d``, pooling functions, means over all positions, constant offsets, and
parts of a signal, which are selections: a matrix, or a convolution of size 1, of zeros and ones. A
concatenation is the sum of its parts, each put to its place by such a selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from biril_nm.export.from_torch.call import Tracked
from biril_nm.export.from_torch.signals import Expr, add

__all__ = ["FUNCTIONS", "concatenated", "offset", "selected"]

_CONVOLUTIONS: tuple[type[Any], ...] = (nn.Conv1d, nn.Conv2d)


def _with(layer: Any, **values: Any) -> nn.Module:
    """``layer``, made without values, with these."""
    for name, value in values.items():
        old = getattr(layer, name)
        fixed = None if value is None else value.detach().clone()
        if isinstance(old, nn.Parameter) and fixed is not None:
            fixed = nn.Parameter(fixed, requires_grad=False)
        setattr(layer, name, fixed)
    return layer  # type: ignore[no-any-return]


def _arguments(call: Tracked, *names: str) -> dict[str, Any]:
    """Arguments behind the signal, by their names; those not given are left out."""
    return {**dict(zip(names, call.args[1:])), **call.kwargs}


def _constant(call: Tracked, *values: Any) -> bool:
    return all(call.origins.expr(value) is None for value in values)


def _of(call: Tracked, layer: nn.Module) -> Expr | None:
    if call.before is None:
        return None
    return call.origins.applied(call.before, call.name.strip("_"), layer, call.args[0], call.result)


def _dense(call: Tracked, weight: torch.Tensor, bias: torch.Tensor | None) -> Expr | None:
    n_out, n_in = weight.shape
    layer = nn.Linear(n_in, n_out, bias=bias is not None, device="meta")
    return _of(call, _with(layer, weight=weight, **({} if bias is None else {"bias": bias})))


def _linear(call: Tracked) -> Expr | None:
    given = _arguments(call, "weight", "bias")
    if not _constant(call, *given.values()):
        return None
    return _dense(call, given["weight"], given.get("bias"))


def _matmul(call: Tracked) -> Expr | None:
    """``x @ W`` with a constant matrix."""
    if len(call.args) != 2 or not _constant(call, call.args[1]) or call.args[1].ndim != 2:
        return None
    return _dense(call, call.args[1].T, None)


def _conv(call: Tracked) -> Expr | None:
    given = _arguments(call, "weight", "bias", "stride", "padding", "dilation", "groups")
    weight, bias = given.pop("weight"), given.pop("bias", None)
    if not _constant(call, weight, bias):
        return None
    channels = weight.shape[1] * given.get("groups", 1)
    kind = _CONVOLUTIONS[weight.ndim - 3]
    layer = kind(
        channels,
        weight.shape[0],
        tuple(weight.shape[2:]),
        bias=bias is not None,
        device="meta",
        **given,
    )
    return _of(call, _with(layer, weight=weight, **({} if bias is None else {"bias": bias})))


def _pool(call: Tracked) -> Expr | None:
    kind = {"avg_pool1d": nn.AvgPool1d, "avg_pool2d": nn.AvgPool2d}[call.name]
    names = (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    )
    return _of(call, kind(**_arguments(call, *names)))


def _power_pool(call: Tracked) -> Expr | None:
    kind = {"lp_pool1d": nn.LPPool1d, "lp_pool2d": nn.LPPool2d}[call.name]
    return _of(call, kind(**_arguments(call, "norm_type", "kernel_size", "stride", "ceil_mode")))


def _adaptive(call: Tracked) -> Expr | None:
    kind = nn.AdaptiveAvgPool1d if call.name.endswith("1d") else nn.AdaptiveAvgPool2d
    return _of(call, kind(**_arguments(call, "output_size")))


def _batch_norm(call: Tracked) -> Expr | None:
    """With running statistics; in training mode the result depends on the whole batch."""
    given = _arguments(
        call, "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"
    )
    mean, training = given.get("running_mean"), given.get("training", False)
    if call.before is None or training or mean is None or call.args[0].ndim not in (2, 3, 4):
        return None
    scale, shift = given.get("weight"), given.get("bias")
    layer = _norm(call.args[0].ndim, mean.numel(), given.get("eps", 1e-5))
    _with(layer, running_mean=mean, running_var=given["running_var"])
    layer.affine = scale is not None or shift is not None
    if layer.affine:
        layer.weight = nn.Parameter(torch.ones_like(mean) if scale is None else scale.detach())
        layer.bias = nn.Parameter(torch.zeros_like(mean) if shift is None else shift.detach())
    return _of(call, layer)


def _norm(ndim: int, channels: int, eps: float) -> Any:
    kind: Any = nn.BatchNorm2d if ndim == 4 else nn.BatchNorm1d
    return kind(channels, eps=eps, affine=False)


def offset(call: Tracked, expr: Expr, value: Any) -> Expr | None:
    """A constant added: one number, or one per channel, which is what a BatchNorm can say."""
    shape = tuple(call.result.shape)
    constant = torch.as_tensor(value, dtype=torch.float64)
    if len(shape) not in (2, 3, 4) or constant.ndim > len(shape):
        return None
    full = constant.broadcast_to(shape)
    per_channel = full[0].flatten(1)[:, :1] if len(shape) > 2 else full[0][:, None]
    if not torch.equal(full, per_channel.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)):
        return None
    layer = _with(_norm(len(shape), shape[1], 0.0), running_mean=-per_channel[:, 0])
    return call.origins.applied(expr, "offset", layer, call.result, call.result)


def _selection(weight: torch.Tensor, ndim: int) -> nn.Module:
    """A matrix over channels as a layer for signals of ``ndim`` dimensions."""
    n_out, n_in = weight.shape
    if ndim == 2:
        layer: nn.Module = nn.Linear(n_in, n_out, bias=False, device="meta")
    else:
        kind = _CONVOLUTIONS[ndim - 3]
        layer = kind(n_in, n_out, 1, bias=False, device="meta")
    return _with(layer, weight=weight.reshape(n_out, n_in, *[1] * (ndim - 2)))


def selected(call: Tracked, channels: Sequence[int], part: torch.Tensor) -> Expr | None:
    """Some channels of a signal."""
    whole = call.args[0]
    if call.before is None or whole.ndim not in (2, 3, 4) or part.ndim != whole.ndim:
        return None
    weight = torch.eye(whole.shape[1])[list(channels)]
    layer = _selection(weight, whole.ndim)
    return call.origins.applied(call.before, "select", layer, whole, part)


def concatenated(call: Tracked) -> Expr | None:
    """Signals side by side along the channels: each by a selection at its place, added up."""
    parts, result = call.args[0], call.result
    if result.ndim not in (2, 3, 4):
        return None
    terms, start = [], 0
    places = torch.eye(result.shape[1])
    for part in parts:
        expr, end = call.origins.expr(part), start + part.shape[1]
        if expr is not None:
            layer = _selection(places[:, start:end], result.ndim)
            terms.append(call.origins.applied(expr, "cat", layer, part, result))
        elif bool(torch.any(part != 0)):
            return None
        start = end
    return add(*terms)


FUNCTIONS = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _matmul),
    **dict.fromkeys(("conv1d", "conv2d"), _conv),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), _pool),
    **dict.fromkeys(("lp_pool1d", "lp_pool2d"), _power_pool),
    **dict.fromkeys(("adaptive_avg_pool1d", "adaptive_avg_pool2d"), _adaptive),
    "batch_norm": _batch_norm,
}
