"""Layers that see a whole batch while each of several processes runs a part of it: BatchNorm and Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from biril_nm.errors import ConfigError

if TYPE_CHECKING:
    from biril_nm.training.world import Together

__all__ = ["DROPOUT", "joined"]

DROPOUT = (_DropoutNd,)  # layers that draw masks in training
NORMALISES = (_BatchNorm.forward, nn.SyncBatchNorm.forward)  # whose work :func:`_normalise` does


@contextmanager
def joined(net: nn.Module, world: Together) -> Iterator[None]:
    """While it is open, layers of ``net`` in training see the samples of all processes.

    Raises:
        ConfigError: a BatchNorm has a forward of its own.
    """
    for name, layer in net.named_modules():
        plain = type(layer).forward in NORMALISES and "forward" not in vars(layer)
        if isinstance(layer, _BatchNorm) and not plain:
            raise ConfigError(
                f"'{name}' is a {type(layer).__name__}, a BatchNorm with a forward of its own, which would "
                f"see the samples of one process; expected one of torch.nn. Hold one inside of your layer "
                f"instead of deriving from it, or train in one process"
            )
    forwards = ((_BatchNorm, _normalise), (_DropoutNd, _drop))
    layers = [(m, f) for m in net.modules() for kind, f in forwards if isinstance(m, kind)]
    for layer, forward in layers:
        layer.forward = partial(forward, world, layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer, _ in layers:
            del layer.forward  # the class has its own


def _drop(world: Together, layer: Any, x: Tensor) -> Tensor:
    """Dropout by the rows of this process in the masks of the whole batch.

    Rows of ``x`` are samples, of one step or of several after one another, ``(n_steps * samples, ...)``.
    """
    run = partial(type(layer).forward, layer)
    own, batch = world.samples
    if not layer.training or world.copies > 1:
        return run(x)  # type: ignore[no-any-return]
    n_steps, rest = divmod(len(x), own)
    # Other rows get masks of their own in each process.
    shape = (n_steps, batch) if not rest else (1, world.size * len(x))
    rows = slice(world.rank, None, world.size)
    whole = x.new_zeros(*shape, *x.shape[1:])
    whole[:, rows] = x.reshape(shape[0], -1, *x.shape[1:])
    dropped: Tensor = run(whole.flatten(0, 1)).view(whole.shape)
    return dropped[:, rows].flatten(0, 1)


class _Sum(torch.autograd.Function):
    """Sum over processes, each of which follows the gradient of the mean over its own samples.

    :meth:`Together.average_gradients` weights the gradients of a process by its part p_r. So
    ``dx_r = sum_q(p_q dy_q) / p_r``, and what it makes of them is the gradient of the mean over all.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: Together) -> Tensor:
        ctx.world, ctx.part = world, world.part
        return world.sum(x.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return ctx.world.sum(grads[0] * ctx.part) / ctx.part, None


def _normalise(world: Together, layer: Any, x: Tensor) -> Tensor:
    """BatchNorm over the samples of all processes; gradients flow through their statistics.

    ``torch.nn.SyncBatchNorm`` does the same on CUDA only.
    """
    if not layer.training:
        return type(layer).forward(layer, x)  # type: ignore[no-any-return]
    node: Any = _Sum
    given, x = x.dtype, x.float()  # counts and sums do not fit bfloat16
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = x.new_full((1,), x.numel() // x.shape[1])
    sums = node.apply(torch.cat([x.sum(dims), count]), world)
    n = sums[-1].detach()
    mean = sums[:-1] / n
    centred = x - mean.view(shape)
    variance = node.apply(centred.square().sum(dims), world) / n
    if layer.track_running_stats:
        different = n / world.copies
        _follow(layer, mean.detach(), variance.detach() * different / (different - 1).clamp(min=1))
    y: Tensor = centred * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.weight is not None:
        y = y * layer.weight.view(shape) + layer.bias.view(shape)
    return y.to(given)


@torch.no_grad()
def _follow(layer: Any, mean: Tensor, variance: Tensor) -> None:
    """Running statistics as :class:`torch.nn.BatchNorm1d` keeps them."""
    layer.num_batches_tracked += 1
    share = layer.momentum if layer.momentum is not None else 1.0 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean, share)
    layer.running_var.lerp_(variance, share)
