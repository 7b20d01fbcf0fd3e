"""BatchNorm that takes its statistics from the batch, in compiled loops for the CPU.

    y = weight (x - mean) / sqrt(var + eps) + bias

Per channel that is a factor and a summand, which the loops of the neurons behind apply when they read
their input (:mod:`biril_nm.neurons.loops`), so that y is never stored. With g the gradient of y and N the
numbers of a channel, a = weight / sqrt(var + eps):

    dx = a (g - sum(g) / N - (x - mean) / (var + eps) sum(g (x - mean)) / N)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from biril_nm.neurons.kernels import compiled, numbers, side_by_side, threads_for
from biril_nm.neurons.loops import OPTIONS, F, narrow, piece, widen
from biril_nm.neurons.memory import empty
from biril_nm.storage.machine_code import part

__all__ = ["Moments", "called_plainly", "can_normalise", "moments_of", "normalise", "through_norm"]

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # not those that share statistics
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
LEAST_PLANE = 16  # numbers of a channel in a row, below which loops over them are too short
Floats = NDArray[np.float64]


def _sum(function: Callable[..., Any]) -> Callable[..., Any]:
    """A sum that may run in any order, which vectors need."""
    return part(function, **OPTIONS, fastmath={"reassoc", "contract", "nsz"})


@_sum
def _total(x):  # type: ignore[no-untyped-def]
    total = F(0)
    for i in range(len(x)):
        total += x[i]
    return total


@_sum
def _squares(x, mean):  # type: ignore[no-untyped-def]
    total = F(0)
    for i in range(len(x)):
        total += (x[i] - mean) * (x[i] - mean)
    return total


@_sum
def _products(g, x, mean):  # type: ignore[no-untyped-def]
    total = F(0)
    for i in range(len(x)):
        total += g[i] * (x[i] - mean)
    return total


@piece
def _blended(g, x, a, b, c):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        g[i] = a * g[i] + b * x[i] + c


def _moments_loop(x, rows, planes, out):  # type: ignore[no-untyped-def]
    """Count, mean and sum of squared deviations of each channel, joined as of Chan, Golub and LeVeque."""
    row, plane = rows[0], rows.shape[1]
    for p in range(planes[0], planes[1]):
        found = out[p % len(out)]
        widen(x[p * plane : (p + 1) * plane], row)
        mean = _total(row) / F(plane)
        n = found[0] + plane
        apart = np.float64(mean) - found[1]
        found[2] += np.float64(_squares(row, mean)) + apart * apart * found[0] * plane / n
        found[1] += apart * plane / n
        found[0] = n


def _sums_loop(g, x, means, rows, planes, out):  # type: ignore[no-untyped-def]
    """Sums of g and of g (x - mean) of each channel."""
    plane = rows.shape[1]
    for p in range(planes[0], planes[1]):
        channel = p % len(out)
        widen(g[p * plane : (p + 1) * plane], rows[0])
        widen(x[p * plane : (p + 1) * plane], rows[1])
        out[channel, 0] += np.float64(_total(rows[0]))
        out[channel, 1] += np.float64(_products(rows[0], rows[1], means[channel]))


def _blend_loop(g, x, factors, rows, planes, out):  # type: ignore[no-untyped-def]
    """``a g + b x + c`` with a, b and c of each channel."""
    plane = rows.shape[1]
    for p in range(planes[0], planes[1]):
        a, b, c = factors[p % len(factors)]
        widen(g[p * plane : (p + 1) * plane], rows[0])
        widen(x[p * plane : (p + 1) * plane], rows[1])
        _blended(rows[0], rows[1], a, b, c)
        narrow(rows[0], out[p * plane : (p + 1) * plane])


def called_plainly(layer: nn.Module) -> bool:
    """Whether a call of ``layer`` runs the forward of its class and nothing else.

    Training in several processes gives norms a forward of their own
    (:mod:`biril_nm.training.world`), users give layers hooks: both must be called.
    """
    return "forward" not in vars(layer) and not any(getattr(layer, name) for name in HOOKS)


def can_normalise(norm: Any, x: Any) -> bool:
    """Whether :func:`normalise` does what ``norm(x)`` does."""
    plain = type(norm) in KINDS and norm.training and called_plainly(norm)
    if not plain or not isinstance(x, Tensor) or x.ndim < 3 or x.device.type != "cpu":
        return False
    weights = [p for p in (norm.weight, norm.bias) if p is not None]
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[1] == norm.num_features
        and x[0, 0].numel() >= LEAST_PLANE
        and len(x) > 0
        and len(weights) in (0, 2)
        and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in weights)
    )


@dataclass(frozen=True)
class Moments:
    """What a norm found in a batch.

    Attributes:
        mean: of each channel.
        scale: ``1 / sqrt(var + eps)`` of each channel.
    """

    mean: Floats
    scale: Floats

    def affine(self, weight: Tensor | None, bias: Tensor | None) -> NDArray[np.float32]:
        """Factor and summand of each channel, ``(2, channels)``."""
        factor = self.scale if weight is None else weight.detach().numpy() * self.scale
        summand = -self.mean * factor + (0.0 if bias is None else bias.detach().numpy())
        found: NDArray[np.float32] = np.stack([factor, summand]).astype(F)
        return found


def moments_of(norm: nn.Module, x: Tensor) -> Moments:
    """Statistics of ``x``, contiguous; the running ones of ``norm`` move as torch moves them."""
    parts = _over_planes(_moments_loop, (numbers(x),), x, np.zeros((x.shape[1], 3)))
    count, mean, squares = parts[0].T
    for more in parts[1:]:
        n, other, further = more.T
        apart, both = other - mean, np.maximum(count + n, 1)
        squares = squares + further + apart**2 * count * n / both
        mean, count = mean + apart * n / both, count + n
    owner = cast(Any, norm)
    _move(owner, mean, squares / np.maximum(count - 1, 1))
    return Moments(mean, 1 / np.sqrt(squares / count + owner.eps))


def _move(norm: Any, mean: Floats, variance: Floats) -> None:
    """The running statistics, by the momentum or as the mean of all batches."""
    if not norm.track_running_stats or norm.running_mean is None:
        return
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        share = norm.momentum
        share = 1 / float(norm.num_batches_tracked) if share is None else share
        for running, found in ((norm.running_mean, mean), (norm.running_var, variance)):
            running.mul_(1 - share).add_(torch.from_numpy(found).to(running), alpha=share)


def _over_planes(
    kernel: Callable[..., Any], given: tuple[Any, ...], x: Tensor, out: NDArray[Any]
) -> list[NDArray[Any]]:
    """Each thread takes some planes, and a copy of ``out`` of its own if that is one row per channel."""
    n_planes = x.shape[0] * x.shape[1]
    n_threads = threads_for(x.numel(), n_planes)
    ends = [i * n_planes // n_threads for i in range(n_threads + 1)]
    outs = [out.copy() if out.ndim > 1 else out for _ in range(n_threads)]
    rows = [np.empty((2, x[0, 0].numel()), F) for _ in outs]
    calls = [(*given, r, np.array(pair), o) for r, pair, o in zip(rows, pairwise(ends), outs)]
    side_by_side(compiled(kernel), calls)
    return outs


def through_norm(
    grad: Tensor, x: Tensor, weight: Tensor | None, moments: Moments, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``x`` into ``out``, which may be ``grad``; return those of weight and bias."""
    channels, n = x.shape[1], x.numel() // x.shape[1]
    given = (numbers(grad), numbers(x))
    means = moments.mean.astype(F)
    parts = _over_planes(_sums_loop, (*given, means), x, np.zeros((channels, 2)))
    total, products = sum(parts).T  # type: ignore[union-attr]
    a = moments.scale if weight is None else weight.detach().numpy() * moments.scale
    b = -a * moments.scale**2 * products / n
    factors = np.stack([a, b, -a * total / n - b * moments.mean], axis=1).astype(F)
    _over_planes(_blend_loop, (*given, factors), x, numbers(out))
    by_weight, by_bias = products * moments.scale, np.ascontiguousarray(total)
    return torch.from_numpy(by_weight).float(), torch.from_numpy(by_bias).float()


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)`` of a layer that :func:`can_normalise`."""
    x, owner = x.contiguous(), cast(Any, norm)
    node: Any = _Norm
    found: Tensor = node.apply(x, owner.weight, owner.bias, moments_of(norm, x))
    return found


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, moments: Moments
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.moments = moments
        factor, summand = moments.affine(weight, bias)
        factors = np.stack([factor, np.zeros_like(factor), summand], axis=1)
        out = empty(x.shape, x)
        _over_planes(_blend_loop, (numbers(x), numbers(x), factors), x, numbers(out))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous()
        out = empty(x.shape, x)
        shared = through_norm(grad, x, weight, ctx.moments, out)
        return out, *(shared if weight is not None else (None, None)), None
