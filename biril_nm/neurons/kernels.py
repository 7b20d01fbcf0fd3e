"""snnTorch's ``Leaky`` over all steps in compiled loops for the CPU, average pooling of 2x2 included.

The equations of :mod:`biril_nm.neurons.recurrence`, block by block of neurons, so that states stay in the
cache. The backward loop computes the states again. Loops release the GIL and run in plain threads,
because a second pool of OpenMP beside torch's would wait for it.
"""

from __future__ import annotations

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

from biril_nm.neurons.recurrence import Reset
from biril_nm.storage.machine_code import kept, part

__all__ = ["Layer", "backward", "forward"]

F = np.float32
ZERO, ONE, HALF, QUARTER = F(0), F(1), F(0.5), F(0.25)
SIGMOID, ATAN, FAST_SIGMOID, STRAIGHT, QGATE, RECTANGLE = range(6)
BUFFER = 1 << 14  # numbers of state that a block of neurons may hold
SCRATCH_ROWS = 4  # of the backward loop, beside two for each step
SMALL = 1 << 15  # neurons times steps below which one thread does it
# Loops allocate nothing, so reference counting is off.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def _part(function: Callable[..., Any]) -> Callable[..., Any]:
    return part(function, **OPTIONS)


# Each loop is a function of its own: LLVM then knows what it needs to make vectors of it.


@_part
def _sigmoid_slopes(v, threshold, k, psi):  # type: ignore[no-untyped-def]
    """k/4 (1 - tanh^2(k x / 2)), tanh as a quotient of polynomials."""
    for i in range(len(v)):
        y = min(max(HALF * k * (v[i] - threshold), F(-7.9053111)), F(7.9053111))
        z = y * y
        p = F(-2.76076847742355e-16) * z + F(2.00018790482477e-13)
        p = (p * z + F(-8.60467152213735e-11)) * z + F(5.12229709037114e-08)
        p = (p * z + F(1.48572235717979e-05)) * z + F(6.37261928875436e-04)
        p = (p * z + F(4.89352455891786e-03)) * y
        q = (F(1.19825839466702e-06) * z + F(1.18534705686654e-04)) * z
        q = (q + F(2.26843463243900e-03)) * z + F(4.89352518554385e-03)
        y = p / q
        psi[i] = QUARTER * k * (ONE - y * y)


@_part
def _slopes(v, threshold, kind, k, psi):  # type: ignore[no-untyped-def]
    """Slope of the surrogate at v - threshold."""
    if kind == ATAN:
        for i in range(len(v)):
            y = F(np.pi / 2) * k * (v[i] - threshold)
            psi[i] = HALF * k / (ONE + y * y)
    elif kind == FAST_SIGMOID:
        for i in range(len(v)):
            y = k * abs(v[i] - threshold) + ONE
            psi[i] = ONE / (y * y)
    elif kind == QGATE:
        for i in range(len(v)):
            psi[i] = max(ZERO, k - k * k * abs(v[i] - threshold))
    elif kind == RECTANGLE:
        for i in range(len(v)):
            psi[i] = k if (k + k) * abs(v[i] - threshold) < ONE else ZERO
    elif kind == SIGMOID:
        _sigmoid_slopes(v, threshold, k, psi)
    else:
        psi[:] = ONE


@_part
def _first_step(x, threshold, soft_now, zero_now, v, m):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y = x[i]
        s = y > threshold
        v[i] = y
        m[i] = ZERO if zero_now and s else y - (soft_now if s else ZERO)


@_part
def _step(x, before, constants, zero_late, zero_now, v, m):  # type: ignore[no-untyped-def]
    beta, threshold, soft, soft_now = constants
    for i in range(len(x)):
        q = before[i]
        r = q > threshold
        q = ZERO if r and zero_late else q
        y = beta * q + x[i] - (soft if r else ZERO)
        s = y > threshold
        after = y - ((ONE if s else ZERO) - (ONE if r else ZERO)) * soft_now
        v[i] = y
        m[i] = ZERO if zero_now and s else after


@_part
def _states(x, at, n, constants, flags, start, vs, ms):  # type: ignore[no-untyped-def]
    """V and the membrane after each step, of n neurons from ``at`` on; x is (n_steps or 1, neurons)."""
    zero, now = flags[0] > 0, flags[1] > 0
    threshold, soft_now = constants[1], constants[2] if now else ZERO
    numbers = (constants[0], threshold, constants[2], soft_now)
    for t in range(vs.shape[0]):
        current = x[t if x.shape[0] > 1 else 0][at : at + n]
        if t == 0 and len(start) > 0:
            before = start[at : at + n]
            _step(current, before, numbers, zero and not now, zero and now, vs[0], ms[0])
        elif t == 0:
            _first_step(current, threshold, soft_now, zero and now, vs[0], ms[0])
        else:
            _step(current, ms[t - 1], numbers, zero and not now, zero and now, vs[t], ms[t])


@_part
def _fired(v, threshold, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = ONE if v[i] > threshold else ZERO


@_part
def _average(upper, lower, threshold, out):  # type: ignore[no-untyped-def]
    """Spikes of two lines of a picture, averaged over 2x2."""
    for j in range(len(out)):
        out[j] = QUARTER * (
            (ONE if upper[2 * j] > threshold else ZERO)
            + (ONE if upper[2 * j + 1] > threshold else ZERO)
            + (ONE if lower[2 * j] > threshold else ZERO)
            + (ONE if lower[2 * j + 1] > threshold else ZERO)
        )


@_part
def _spread(given, upper, lower):  # type: ignore[no-untyped-def]
    """The gradient of each spike of two lines from those of the averages."""
    for j in range(len(given)):
        g = QUARTER * given[j]
        upper[2 * j] = g
        upper[2 * j + 1] = g
        lower[2 * j] = g
        lower[2 * j + 1] = g


@_part
def _step_back(v, threshold, zero_now, soft_now, psi, given, carried, out):  # type: ignore[no-untyped-def]
    """Gradient of v from those of the spikes and of the membrane after the step."""
    for i in range(len(out)):
        kept = (ZERO if v[i] > threshold else ONE) - v[i] * psi[i]
        out[i] = given[i] * psi[i] + carried[i] * (kept if zero_now else ONE - soft_now * psi[i])


@_part
def _carry(g, before, beta, threshold, zero_late, carried):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        carried[i] = ZERO if zero_late and before[i] > threshold else beta * g[i]


@_part
def _by_beta(g, before, threshold, zero_late, out):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        out[i] += ZERO if zero_late and before[i] > threshold else g[i] * before[i]


@_part
def _add(g, out):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        out[i] += g[i]


@_part
def _put(given, out):  # type: ignore[no-untyped-def]
    """``out[:] = given``, whose error message of unequal shapes takes longer to compile than all of this."""
    for i in range(len(out)):
        out[i] = given[i]


def _forward(x, constants, flags, block, scratch, start, spikes, last):  # type: ignore[no-untyped-def]
    """Spikes (n_steps, neurons), a quarter of them where flags[2], the width, is not 0; last (neurons,)."""
    threshold, width, size = constants[1], flags[2], x.shape[1]
    n_steps = spikes.shape[0]
    vs, ms = scratch[:n_steps], scratch[n_steps : 2 * n_steps]
    for at in range(block[0], block[1], block[2]):
        n = min(block[2], size - at)
        _states(x, at, n, constants, flags, start, vs, ms)
        _put(ms[n_steps - 1], last[at : at + n])
        for t in range(n_steps):
            if width == 0:
                _fired(vs[t], threshold, spikes[t][at : at + n])
                continue
            for i in range(n // width // 2):
                up = 2 * i * width
                line = at // 4 + i * (width // 2)
                _average(
                    vs[t][up : up + width],
                    vs[t][up + width : up + 2 * width],
                    threshold,
                    spikes[t][line : line + width // 2],
                )


def _backward(x, constants, flags, block, scratch, given, grad, ends):  # type: ignore[no-untyped-def]
    """Gradients of x, (n_steps or 1, neurons), start and beta; psi: formula flags[3] with constants[3]."""
    start, last, grad_start, by_beta = ends
    beta, threshold, k = constants[0], constants[1], constants[3]
    width, kind, size = flags[2], flags[3], x.shape[1]
    soft_now = constants[2] if flags[1] > 0 else ZERO
    zero_late, zero_now = flags[0] > 0 and flags[1] == 0, flags[0] > 0 and flags[1] > 0
    n_steps, once = given.shape[0], grad.shape[0] == 1
    vs, ms, more = scratch[:n_steps], scratch[n_steps : 2 * n_steps], scratch[2 * n_steps :]
    carried, spikes, psi, g = more[0], more[1], more[2], more[3]
    for at in range(block[0], block[1], block[2]):
        n = min(block[2], size - at)
        _states(x, at, n, constants, flags, start, vs, ms)
        carried[:] = ZERO
        if len(last) > 0:
            _put(last[at : at + n], carried[:n])
        for t in range(n_steps - 1, -1, -1):
            _slopes(vs[t][:n], threshold, kind, k, psi)
            if given.shape[1] == 0:
                spikes[:] = ZERO
            elif width == 0:
                _put(given[t][at : at + n], spikes[:n])
            else:
                for i in range(n // width // 2):
                    up = 2 * i * width
                    line = at // 4 + i * (width // 2)
                    _spread(
                        given[t][line : line + width // 2],
                        spikes[up : up + width],
                        spikes[up + width : up + 2 * width],
                    )
            _step_back(vs[t], threshold, zero_now, soft_now, psi, spikes, carried, g[:n])
            if t > 0 or len(start) > 0:
                before = ms[t - 1][:n] if t > 0 else start[at : at + n]
                if len(by_beta) > 0:
                    _by_beta(g[:n], before, threshold, zero_late, by_beta[at : at + n])
                to = carried if t > 0 else grad_start[at : at + n]
                _carry(g[:n], before, beta, threshold, zero_late, to)
            if once and t < n_steps - 1:
                _add(g[:n], grad[0][at : at + n])
            else:
                _put(g, grad[0 if once else t][at : at + n])


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code of a loop."""
    return kept(function, **OPTIONS)


class Layer:
    """A population as the loops take it: float32, one beta, threshold and reset, a surrogate with a formula.

    Attributes:
        learned: whether beta needs a gradient.
    """

    def __init__(
        self,
        beta: float,
        threshold: float,
        reset: Reset,
        slope: tuple[int, float],
        learned: bool = False,
    ) -> None:
        self.learned = learned
        soft = threshold if reset.subtract else 0.0
        self.constants = np.array([beta, threshold, soft, slope[1]], F)
        self.flags = (int(reset.zero), int(reset.now), slope[0])

    def block(self, current: Tensor, n_steps: int, pooled: bool) -> int:
        """How many neurons a loop takes at once: a picture where it is pooled."""
        if pooled:
            return current.shape[-2] * current.shape[-1]
        return max(BUFFER // max(n_steps, 1), 64)

    def all_flags(self, current: Tensor, pooled: bool) -> NDArray[np.int64]:
        """Flags of the loops."""
        zero, now, kind = self.flags
        return np.array([zero, now, current.shape[-1] if pooled else 0, kind], np.int64)


def forward(
    layer: Layer, current: Tensor, n_steps: int, pooled: bool, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Spikes of all steps, averaged over 2x2 where pooled, and the last membrane.

    Args:
        layer: the neurons.
        current: their input, contiguous.
        n_steps: number of steps.
        pooled: whether to average.
        start: membrane before the first step; None: rest.

    Shape:
        current ``(n_steps or 1, batch, ...)``, start ``(batch, ...)``.
    """
    shape = current.shape[1:]
    if pooled:
        shape = torch.Size((*shape[:-2], shape[-2] // 2, shape[-1] // 2))
    spikes, last = current.new_empty((n_steps, *shape)), current.new_empty(current.shape[1:])
    if n_steps == 0 or last.numel() == 0:
        return spikes, last.zero_() if start is None else start.clone()
    given = (_flat(current), layer.constants, layer.all_flags(current, pooled))
    cut = (layer.block(current, n_steps, pooled), last.numel(), n_steps)
    _side_by_side(compiled(_forward), cut, given, (_vector(start), _flat(spikes), _vector(last)))
    return spikes, last


def backward(
    layer: Layer,
    current: Tensor,
    grads: tuple[Tensor | None, Tensor | None],
    n_steps: int,
    pooled: bool,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of ``current``, ``start`` and a learned beta, from spikes and membrane; None is zero."""
    grad = torch.empty_like(current)
    grad_start = None if start is None else torch.empty_like(start)
    by_beta = current.new_zeros(current[0].shape) if layer.learned else None
    if n_steps == 0 or current[0].numel() == 0:
        return grad.zero_(), None if start is None else grads[1], by_beta
    given = (_flat(current), layer.constants, layer.all_flags(current, pooled))
    spikes = np.zeros((n_steps, 0), F) if grads[0] is None else _flat(grads[0].contiguous())
    last = _vector(None if grads[1] is None else grads[1].contiguous())
    cut = (layer.block(current, n_steps, pooled), current[0].numel(), n_steps)
    out = (spikes, _flat(grad), (_vector(start), last, _vector(grad_start), _vector(by_beta)))
    _side_by_side(compiled(_backward), cut, given, out)
    return grad, grad_start, by_beta


def _vector(x: Tensor | None) -> NDArray[np.float32]:
    """(neurons,); empty for None."""
    return np.zeros(0, F) if x is None else x.detach().numpy().reshape(-1)


def _flat(x: Tensor) -> NDArray[np.float32]:
    """(steps, neurons)."""
    flat: NDArray[np.float32] = x.detach().numpy().reshape(len(x), -1)
    return flat


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    del process  # a forked process has none of the threads
    return ThreadPoolExecutor(n_threads, thread_name_prefix="biril-neurons")


def _side_by_side(
    kernel: Callable[..., Any],
    cut: tuple[int, int, int],
    given: tuple[Any, ...],
    out: tuple[Any, ...],
) -> None:
    """Give each thread its share of the neurons, in whole blocks; ``cut``: block, neurons and steps."""
    block, size, n_steps = cut
    blocks = -(-size // block)
    n_threads = min(torch.get_num_threads(), blocks) if size * n_steps > SMALL else 1
    ends = [min(i * blocks // n_threads * block, size) for i in range(n_threads + 1)]
    calls = [
        (*given, np.array([*pair, block]), np.empty((2 * n_steps + SCRATCH_ROWS, block), F), *out)
        for pair in pairwise(ends)
    ]
    others = [_pool(n_threads, os.getpid()).submit(kernel, *call) for call in calls[1:]]
    kernel(*calls[0])
    for other in others:
        other.result()
