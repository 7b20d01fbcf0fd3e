"""Gradients of a convolution's weights from spikes, on the CPU: sums of rows.

With spikes x, 0 or 1, of channel c and the gradient g of channel o of the result,

    dw[o, c, k] = sum over spikes x[n, c, q] of g[n, o, p],    q = stride p + dilation k - padding

so that the work is that of the spikes alone, where the library of convolutions multiplies by the zeros too.
Channels of g lie side by side in blocks: those of a few pictures stay in the cache, and their sums in the
registers. The result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.neurons.kernels import compiled, side_by_side, threads_for
from biril_nm.neurons.memory import empty
from biril_nm.neurons.spike_loops import BLOCK, from_rows_loop, sum_loop, to_rows_loop

__all__ = ["LOW_SHARE", "SHARE", "pays", "weight_gradient"]

PLACES = 256  # of the result that are summed at a time, about: a block of them fits in the cache
# Where sums are faster, by benchmarks/spike_sums.py: outputs for each place of the input that a place of the
# result has, share of spikes, input channels and outputs; in bfloat16, whose products are twice as fast, LOW.
LOOKS = 8
SHARE, CHANNELS, OUTPUTS = 0.3, 4, BLOCK
LOW_SHARE, LOW_CHANNELS, LOW_OUTPUTS = 0.25, 128, 256
TABLE = 1 << 21  # most numbers of the table of a layer, which is kept: 8 MiB


def pays(x: Tensor, weight: Tensor, grad: Tensor, settings: Sequence[Any]) -> bool:
    """Whether sums over the spikes ``x``, kept as bytes, are faster than a convolution.

    Every tap looks at every spike, so the more places the input has for one of the result, the more
    outputs must share what is found. Without machine code there are no sums.
    """
    (outputs, channels), taps = weight.shape[:2], prod(weight.shape[2:])
    given, found = prod(x.shape[2:]), prod(grad.shape[2:])
    least: dict[torch.dtype, tuple[float, int, int]] = {
        torch.float32: (SHARE, CHANNELS, OUTPUTS),
        torch.bfloat16: (LOW_SHARE, LOW_CHANNELS, LOW_OUTPUTS),
    }
    if x.dtype != torch.bool or grad.dtype not in least:
        return False
    share, few_channels, few_outputs = least[grad.dtype]
    return (
        settings[-1] == 1
        and outputs >= few_outputs
        and channels >= few_channels
        and taps > 1
        and LOOKS * given <= outputs * found
        and taps * given * _together(found) <= TABLE
        and not numba.config.DISABLE_JIT
        and np.count_nonzero(x.numpy()) <= share * x.numel()
    )


def weight_gradient(x: Tensor, grad: Tensor, shape: torch.Size, settings: Sequence[Any]) -> Tensor:
    """The gradient of the weights of a convolution without groups.

    Values of ``grad`` that are not finite reach the weights that spikes join to them; torch's convolution
    spreads them to all weights of their output, as 0 times infinity is nan.

    Args:
        x: spikes as bool, on the CPU.
        grad: gradient of the result, in float32.
        shape: of the weights.
        settings: stride, padding and dilation, of each dimension.

    Shape:
        x ``(n, channels, ...)`` and grad ``(n, outputs, ...)`` to ``(outputs, channels, ...)``.
    """
    outputs, channels, blocks = shape[0], shape[1], -(-shape[0] // BLOCK)
    plan = _plan(tuple(x.shape[2:]), tuple(grad.shape[2:]), tuple(shape[2:]), *settings[:3])
    taps, sizes = len(plan.places), np.array([plan.together, plan.part])
    spikes = x.contiguous().view(torch.uint8).flatten(2).numpy()
    rows = _rows(grad.contiguous().flatten(2), blocks)
    sums = torch.zeros(blocks, channels, taps, BLOCK)
    calls = []
    for share in _shares(channels, x.numel()):
        own = share.stop - share.start
        listed = np.empty(own * plan.joined + 1, np.int32)  # one more is written to, and not used
        fired = np.empty(plan.together * plan.part + 1, np.uint32)
        lists = (fired, listed, np.empty((own, taps), np.int64))
        given = (spikes[:, share], rows.numpy(), plan.places, sizes, lists)
        calls.append((*given, sums[:, share].numpy()))
    side_by_side(compiled(sum_loop), calls)
    return _weights(sums.flatten(1, 2), outputs).reshape(shape)


def _rows(grad: Tensor, blocks: int) -> Tensor:
    """Gradient (n, outputs, places) with its channels side by side, (blocks, n, places, BLOCK)."""
    n, outputs, places = grad.shape
    rows = empty((blocks, n, places, BLOCK), grad)
    rows[-1, :, :, BLOCK - blocks * BLOCK + outputs :] = 0
    calls = [(grad[i].numpy(), rows[:, i].numpy()) for i in _shares(n, grad.numel())]
    side_by_side(compiled(to_rows_loop), calls)
    return rows


def _weights(sums: Tensor, outputs: int) -> Tensor:
    """The opposite: (blocks, places, BLOCK) to (outputs, places)."""
    found = empty((outputs, sums.shape[1]), sums)
    calls = []
    for i in _shares(len(sums), sums.numel()):
        calls.append((sums[i].numpy(), found[i.start * BLOCK : i.stop * BLOCK].numpy()))
    side_by_side(compiled(from_rows_loop), calls)
    return found


def _shares(n: int, size: int) -> list[slice]:
    """Of n parts, those of each thread, for work on so many numbers."""
    count = threads_for(size, n)
    return [slice(i * n // count, (i + 1) * n // count) for i in range(count)]


class _Plan(NamedTuple):
    """How the places of a convolution belong together.

    Attributes:
        places: of each tap and place of ``together`` pictures, the place of the result; -1: none.
        together: pictures at a time.
        part: places of a picture at a time.
        joined: most places that taps join at a time.
    """

    places: NDArray[np.int32]
    together: int
    part: int
    joined: int


def _together(n_places: int) -> int:
    """Pictures at a time, by the places of a result."""
    return max(1, PLACES // max(1, n_places))


@lru_cache(maxsize=32)
def _plan(
    given: tuple[int, ...],
    found: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> _Plan:
    total = np.zeros((1, 1), np.int64)
    for n, m, size, s, pad, d in zip(given, found, kernel, stride, padding, dilation):
        ahead = np.arange(n) + pad - d * np.arange(size)[:, None]
        inside = (ahead % s == 0) & (ahead >= 0) & (ahead // s < m)
        line = np.where(inside, ahead // s, -1)[None, :, None, :]
        before = total[:, None, :, None]
        total = np.where((line < 0) | (before < 0), -1, before * m + line)
        total = total.reshape(total.shape[0] * size, -1)
    length, n_places = total.shape[1], max(1, prod(found))
    together, part = _together(n_places), max(1, length * PLACES // max(PLACES, n_places))
    first = np.arange(together)[:, None] * n_places
    places = np.where(total[:, None] < 0, -1, total[:, None] + first).reshape(len(total), -1)
    ends = range(0, places.shape[1], together * part)
    joined = max(int((places[:, q : q + together * part] >= 0).sum()) for q in ends)
    return _Plan(places.astype(np.int32), together, part, joined)
