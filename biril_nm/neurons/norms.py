"""BatchNorm that takes its statistics from the batch, in compiled loops for the CPU.

    y = weight (x - mean) / sqrt(var + eps) + bias

Per channel that is a factor and a summand, which the loops of the neurons behind apply when they read
their input (:mod:`biril_nm.neurons.loops`), so that y is never stored. With g the gradient of y and N the
numbers of a channel, a = weight / sqrt(var + eps):

    dx = a (g - sum(g) / N - (x - mean) / (var + eps) sum(g (x - mean)) / N)

The loops see memory as it lies, contiguous: ``(samples, channels, ...)``, or ``(samples, ..., channels)``
where channels are last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from biril_nm.neurons import norm_planes, norm_rows
from biril_nm.neurons.again import Again
from biril_nm.neurons.loops import F
from biril_nm.neurons.memory import are_last, empty, put_last, to_order

__all__ = [
    "HOOKS",
    "Moments",
    "called_plainly",
    "can_normalise",
    "moments_of",
    "normalise",
    "through_norm",
]

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # not those that share statistics
# Attributes of modules that hold functions of the user.
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
LEAST_PLANE = 16  # numbers of a channel in a row, below which loops over them are too short
Floats = NDArray[np.float64]


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
        last: channels of the batch were last.
    """

    mean: Floats
    scale: Floats
    last: bool = False

    @property
    def loops(self) -> Any:
        """The module of the loops over such a batch."""
        return norm_rows if self.last else norm_planes

    def affine(self, weight: Tensor | None, bias: Tensor | None) -> NDArray[np.float32]:
        """Factor and summand of each channel, ``(2, channels)``."""
        factor = self.scale if weight is None else weight.detach().numpy() * self.scale
        summand = -self.mean * factor + (0.0 if bias is None else bias.detach().numpy())
        found: NDArray[np.float32] = np.stack([factor, summand]).astype(F)
        return found


def moments_of(norm: nn.Module, x: Tensor, last: bool = False) -> Moments:
    """Statistics of ``x``, contiguous; the running ones of ``norm`` move as torch moves them."""
    count, mean, squares = (norm_rows if last else norm_planes).moments(x)
    owner = cast(Any, norm)
    _move(owner, mean, squares / np.maximum(count - 1, 1))
    return Moments(mean, 1 / np.sqrt(squares / count + owner.eps), last)


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


def through_norm(
    grad: Tensor, x: Tensor, weight: Tensor | None, moments: Moments, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the gradient of ``x`` into ``out``, which may be ``grad``; return those of weight and bias."""
    n = x.numel() // len(moments.mean)
    total, products = moments.loops.sums(grad, x, moments.mean.astype(F))
    a = moments.scale if weight is None else weight.detach().numpy() * moments.scale
    b = -a * moments.scale**2 * products / n
    factors = np.stack([a, b, -a * total / n - b * moments.mean], axis=1).astype(F)
    moments.loops.blend(grad, x, factors, out)
    by_weight, by_bias = products * moments.scale, np.ascontiguousarray(total)
    return torch.from_numpy(by_weight).float(), torch.from_numpy(by_bias).float()


def normalise(norm: nn.Module, x: Tensor) -> tuple[Tensor, Again]:
    """``norm(x)`` of a layer that :func:`can_normalise`, and how it is computed again."""
    last, owner = are_last(x), cast(Any, norm)
    x = put_last(x, 1) if last else x.contiguous()
    moments = moments_of(norm, x, last)
    factor, summand = moments.affine(owner.weight, owner.bias)
    factors = np.stack([factor, np.zeros_like(factor), summand], axis=1)

    def apply(x: Tensor) -> Tensor:
        out = empty(x.shape, x)
        moments.loops.blend(x, x, factors, out)
        return out

    def ordered(x: Tensor) -> Tensor:
        return to_order(x, 1) if last else x

    node: Any = _Norm
    found: Tensor = node.apply(x, owner.weight, owner.bias, moments, apply)
    return ordered(found), Again((x,), lambda kept: ordered(apply(kept)))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        moments: Moments,
        apply: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.moments = moments
        return apply(x)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.to(x.dtype).contiguous()
        out = empty(x.shape, x)
        shared = through_norm(grad, x, weight, ctx.moments, out)
        return out, *(shared if weight is not None else (None, None)), None, None
