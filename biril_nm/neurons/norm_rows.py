"""Sums of BatchNorm over pictures whose channels are last in memory, in compiled loops for the CPU.

A row is all channels of some pixels, as many as make vectors of it; its places keep sums of their own, in
float32 for some rows, then in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.neurons.kernels import compiled, numbers, side_by_side, threads_for
from biril_nm.neurons.loops import F, add, narrow, piece, widen
from biril_nm.neurons.norm_planes import joined

__all__ = ["blend", "moments", "repeats", "sums"]

WIDTH = 256  # numbers of a row, if channels are fewer
TILE = 4096  # numbers whose sums are in float32
ZERO = F(0)


@piece
def _fill(out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = ZERO


@piece
def _share(total, n):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        total[i] /= n


@piece
def _add_squares(x, mean, total):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        total[i] += (x[i] - mean[i]) * (x[i] - mean[i])


@piece
def _add_products(g, x, mean, total):  # type: ignore[no-untyped-def]
    for i in range(len(total)):
        total[i] += g[i] * (x[i] - mean[i])


@piece
def _join(n, mean, squares, out):  # type: ignore[no-untyped-def]
    """Join count, mean and squares, as of Chan, Golub and LeVeque, with those of n rows."""
    before = out[0, 0]
    share = n / (before + n)
    for i in range(len(mean)):
        apart = np.float64(mean[i]) - out[1, i]
        out[2, i] += np.float64(squares[i]) + apart * apart * before * share
        out[1, i] += apart * share
        out[0, i] = before + n


@piece
def _blended(g, x, a, b, c):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        g[i] = a[i] * g[i] + b[i] * x[i] + c[i]


def _moments_loop(x, rows, span, out):  # type: ignore[no-untyped-def]
    """Count, mean and sum of squared deviations at each place, ``(3, width)``."""
    width, most = rows.shape[1], rows.shape[0] - 2
    mean, squares = rows[most], rows[most + 1]
    for at in range(span[0], span[1], most):
        n = min(most, span[1] - at)
        _fill(mean)
        _fill(squares)
        for i in range(n):
            widen(x[(at + i) * width : (at + i + 1) * width], rows[i])
            add(rows[i], mean)
        _share(mean, F(n))
        for i in range(n):
            _add_squares(rows[i], mean, squares)
        _join(np.float64(n), mean, squares, out)


def _sums_loop(g, x, means, rows, span, out):  # type: ignore[no-untyped-def]
    """Sums of g and of g (x - mean) at each place, ``(2, width)``."""
    width, most = rows.shape[1], rows.shape[0] - 2
    total, products = rows[most], rows[most + 1]
    for at in range(span[0], span[1], most):
        _fill(total)
        _fill(products)
        for i in range(at, min(at + most, span[1])):
            widen(g[i * width : (i + 1) * width], rows[0])
            widen(x[i * width : (i + 1) * width], rows[1])
            add(rows[0], total)
            _add_products(rows[0], rows[1], means, products)
        add(total, out[0])
        add(products, out[1])


def _blend_loop(g, x, factors, rows, span, out):  # type: ignore[no-untyped-def]
    """``a g + b x + c`` with a, b and c of each place."""
    width = rows.shape[1]
    for i in range(span[0], span[1]):
        widen(g[i * width : (i + 1) * width], rows[0])
        widen(x[i * width : (i + 1) * width], rows[1])
        _blended(rows[0], rows[1], factors[0], factors[1], factors[2])
        narrow(rows[0], out[i * width : (i + 1) * width])


def repeats(channels: int, pixels: int) -> int:
    """How many pixels make a row: a power of 2 that divides them."""
    n = 1
    while 2 * n * channels <= WIDTH and pixels % (2 * n) == 0:
        n *= 2
    return n


def moments(x: Tensor) -> tuple[NDArray[Any], ...]:
    """Count, mean and sum of squared deviations of each channel of ``(..., channels)``."""
    parts = _over_rows(_moments_loop, (numbers(x),), x, 3)
    return joined(parts.transpose(1, 0, 2, 3).reshape(3, -1, x.shape[-1]))


def sums(g: Tensor, x: Tensor, means: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Sums of g and of g (x - mean) of each channel."""
    wide = np.tile(means, _repeats(x))
    total, products = _over_rows(_sums_loop, (numbers(g), numbers(x), wide), x, 2).sum((0, 2))
    return total, products


def blend(g: Tensor, x: Tensor, factors: NDArray[Any], out: Tensor) -> None:
    """Write ``a g + b x + c``, of the factors a, b and c of each channel, ``(channels, 3)``."""
    wide = np.tile(np.ascontiguousarray(factors.T), _repeats(x))
    _over_rows(_blend_loop, (numbers(g), numbers(x), wide), x, numbers(out))


def _repeats(x: Tensor) -> int:
    return repeats(x.shape[-1], x.numel() // x.shape[-1])


def _over_rows(
    kernel: Callable[..., Any], given: tuple[Any, ...], x: Tensor, out: int | NDArray[Any]
) -> NDArray[Any]:
    """Each thread takes some rows; the sums of each, ``(threads, out, pixels of a row, channels)``."""
    width = x.shape[-1] * _repeats(x)
    n_rows = x.numel() // width
    n_threads = threads_for(x.numel(), n_rows)
    ends = [i * n_rows // n_threads for i in range(n_threads + 1)]
    made = [np.zeros((out, width)) if isinstance(out, int) else out for _ in range(n_threads)]
    scratch = [np.empty((max(TILE // width, 2) + 2, width), F) for _ in made]
    calls = [(*given, s, np.array(pair), o) for s, pair, o in zip(scratch, pairwise(ends), made)]
    side_by_side(compiled(kernel), calls)
    if isinstance(out, int):
        return np.reshape(made, (n_threads, out, -1, x.shape[-1]))
    return out
