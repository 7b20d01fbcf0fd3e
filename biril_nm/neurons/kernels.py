"""snnTorch's ``Leaky`` over all steps in compiled loops for the CPU, average pooling of 2x2 included.

The loops, ``biril_nm/neurons/loops.py``, release the GIL and run in plain threads, because a second pool of
OpenMP beside torch's would wait for it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.neurons.loops import OPTIONS, SCRATCH_ROWS, F, backward_loop, forward_loop
from biril_nm.neurons.memory import empty
from biril_nm.neurons.recurrence import Reset
from biril_nm.storage.machine_code import kept

__all__ = ["Layer", "backward", "compiled", "forward", "numbers", "side_by_side", "threads_for"]

BUFFER = 1 << 14  # numbers of state that a block of neurons may hold
LONG = 256  # numbers over which factors of channels are laid out, if channels are fewer
SMALL = 1 << 15  # numbers below which one thread does it


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code of a loop."""
    return kept(function, **OPTIONS)


class Layer:
    """A population as the loops take it: float32, one beta, threshold and reset, a surrogate with a formula.

    Attributes:
        learned: whether beta needs a gradient.
        affine: factor and summand of each channel of the input, ``(2, channels)``.
        last: channels are the last dimension of the input, not the third.
    """

    def __init__(
        self,
        beta: float,
        threshold: float,
        reset: Reset,
        slope: tuple[int, float],
        learned: bool = False,
        last: bool = False,
    ) -> None:
        self.learned, self.last = learned, last
        soft = threshold if reset.subtract else 0.0
        self.constants = np.array([beta, threshold, soft, slope[1]], F)
        self.flags = (int(reset.zero), int(reset.now), slope[0])
        self.affine = np.zeros((2, 0), F)

    def line(self, current: Tensor) -> tuple[int, int]:
        """Numbers of a line of a picture, and of a pixel."""
        pixel = current.shape[-1] if self.last else 1
        return current.shape[-2 if self.last else -1] * pixel, pixel

    def block(self, current: Tensor, n_steps: int, pooled: bool) -> int:
        """How many neurons a loop takes at once: two lines where they are pooled, or a plane."""
        if pooled:
            return 2 * self.line(current)[0] if self.last else math.prod(current.shape[-2:])
        return max(BUFFER // max(n_steps, 1), 64)

    def pooled(self, shape: torch.Size) -> torch.Size:
        """``shape`` with half as many lines and columns."""
        further = shape[-1:] if self.last else ()
        *more, height, width = shape[:-1] if self.last else shape
        return torch.Size((*more, height // 2, width // 2, *further))

    def given(self, current: Tensor, pooled: bool, start: Tensor | None) -> tuple[Any, ...]:
        """What the loops take of a layer: input, constants, flags, affine, start."""
        zero, now, kind = self.flags
        plane, affine = 0, self.affine
        if affine.size and self.last:
            channels = current.shape[-1]
            affine = np.tile(affine, max(1, LONG // channels))
        elif affine.size:
            plane = current[0, 0, 0].numel()
        width, pixel = self.line(current) if pooled else (0, 1)
        flags = np.array([zero, now, width, kind, plane, pixel], np.int64)
        return _flat(current), self.constants, flags, affine, _vector(start)


def forward(
    layer: Layer, current: Tensor, n_steps: int, pooled: bool, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps, averaged over 2x2 where pooled, and the last membrane, in float32.

    Args:
        layer: the neurons.
        current: their input, contiguous, float32 or bfloat16.
        n_steps: number of steps.
        pooled: whether to average.
        start: membrane before the first step; None: rest.

    Shape:
        current ``(n_steps or 1, batch, ...)``, start ``(batch, ...)``.
    """
    shape = current.shape[1:]
    if pooled:
        shape = layer.pooled(shape)
    spikes = empty((n_steps, *shape), current)
    last = empty(current.shape[1:], current, torch.float32)
    if n_steps == 0 or last.numel() == 0:
        return spikes, last.zero_() if start is None else start.clone()
    cut = (layer.block(current, n_steps, pooled), last.numel(), n_steps)
    out = (_flat(spikes), _vector(last))
    _in_blocks(compiled(forward_loop), cut, layer.given(current, pooled, start), out)
    return spikes, last


def backward(
    layer: Layer,
    current: Tensor,
    grads: tuple[Tensor | None, ...],
    n_steps: int,
    pooled: bool,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of ``current``, ``start`` and a learned beta, from spikes and membrane; None is zero.

    Where the layer has factors and summands, the gradient of what they make of ``current``.
    """
    grad = empty(current.shape, current)
    grad_start = None if start is None else torch.empty_like(start)
    by_beta = torch.zeros(current[0].shape) if layer.learned else None
    if n_steps == 0 or current[0].numel() == 0:
        return grad.zero_(), None if start is None else grads[1], by_beta
    given = current.new_empty((n_steps, 0)) if grads[0] is None else grads[0].to(current.dtype)
    last = _vector(None if grads[1] is None else grads[1].contiguous())
    cut = (layer.block(current, n_steps, pooled), current[0].numel(), n_steps)
    ends = (last, _vector(grad_start), _vector(by_beta))
    out = (_flat(given.contiguous()), _flat(grad), ends)
    _in_blocks(compiled(backward_loop), cut, layer.given(current, pooled, start), out)
    return grad, grad_start, by_beta


def numbers(x: Tensor) -> NDArray[Any]:
    """The numbers of a contiguous tensor in one row: float32, or the bits of bfloat16."""
    x = x.detach()
    if x.dtype == torch.bfloat16:
        bits: NDArray[Any] = x.view(torch.int16).numpy().view(np.uint16).reshape(-1)
        return bits
    found: NDArray[Any] = x.numpy().reshape(-1)
    return found


def _vector(x: Tensor | None) -> NDArray[Any]:
    """(neurons,); empty for None."""
    return np.zeros(0, F) if x is None else numbers(x)


def _flat(x: Tensor) -> NDArray[Any]:
    """(steps, neurons)."""
    return numbers(x).reshape(len(x), -1)


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    del process  # a forked process has none of the threads
    return ThreadPoolExecutor(n_threads, thread_name_prefix="biril-neurons")


def threads_for(n_numbers: int, parts: int) -> int:
    """Threads that are worth it for so much work in so many parts."""
    return max(1, min(torch.get_num_threads(), parts)) if n_numbers > SMALL else 1


def side_by_side(kernel: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
    """Call ``kernel`` with each of the arguments, in a thread each."""
    others = [_pool(len(calls), os.getpid()).submit(kernel, *call) for call in calls[1:]]
    kernel(*calls[0])
    for other in others:
        other.result()


def _in_blocks(
    kernel: Callable[..., Any],
    cut: tuple[int, int, int],
    given: tuple[Any, ...],
    out: tuple[Any, ...],
) -> None:
    """Give each thread its share of the neurons, in whole blocks; ``cut``: block, neurons and steps."""
    block, size, n_steps = cut
    blocks = -(-size // block)
    n_threads = threads_for(size * n_steps, blocks)
    ends = [min(i * blocks // n_threads * block, size) for i in range(n_threads + 1)]
    calls = [
        (given, np.array([*pair, block]), np.empty((2 * n_steps + SCRATCH_ROWS, block), F), *out)
        for pair in pairwise(ends)
    ]
    side_by_side(kernel, calls)
