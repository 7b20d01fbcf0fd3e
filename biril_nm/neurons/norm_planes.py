"""Sums of BatchNorm over contiguous pictures, plane by plane, in compiled loops for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from biril_nm.neurons.kernels import compiled, numbers, side_by_side, threads_for
from biril_nm.neurons.loops import OPTIONS, F, narrow, piece, widen
from biril_nm.storage.machine_code import part

__all__ = ["blend", "moments", "sums"]

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


def moments(x: Tensor) -> tuple[NDArray[Any], ...]:
    """Count, mean and sum of squared deviations of each channel of ``(samples, channels, ...)``."""
    parts = _over_planes(_moments_loop, (numbers(x),), x, np.zeros((x.shape[1], 3)))
    return joined(np.stack(parts).transpose(2, 0, 1))


def joined(parts: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Count, mean and squares of all parts; ``parts``: those of each, ``(3, parts, channels)``."""
    count, mean, squares = parts[:, 0]
    for n, other, further in parts[:, 1:].transpose(1, 0, 2):
        apart, both = other - mean, np.maximum(count + n, 1)
        squares = squares + further + apart**2 * count * n / both
        mean, count = mean + apart * n / both, count + n
    return count, mean, squares


def sums(g: Tensor, x: Tensor, means: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Sums of g and of g (x - mean) of each channel."""
    given = (numbers(g), numbers(x), means)
    parts = _over_planes(_sums_loop, given, x, np.zeros((x.shape[1], 2)))
    total, products = np.sum(parts, axis=0).T
    return total, products


def blend(g: Tensor, x: Tensor, factors: NDArray[Any], out: Tensor) -> None:
    """Write ``a g + b x + c``, of the factors a, b and c of each channel, ``(channels, 3)``."""
    _over_planes(_blend_loop, (numbers(g), numbers(x), factors), x, numbers(out))


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
