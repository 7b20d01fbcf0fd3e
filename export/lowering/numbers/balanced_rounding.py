"""Rounding that keeps sums: weights go to the grid so that each receptive field keeps its total.

Nearest rounding leaves the errors of a kernel's weights independent, so their sum wanders. Inputs that
share a mean (neighbouring pixels, spikes of a similar rate) meet exactly that sum. Two steps, on every row
of a matrix and every kernel of a convolution:

1. Equal weights share their rounding. Folded pooling gives all inputs of a window the same weight; m equal
   weights v become ``round(m v)`` in all, some rounded up and some down, so that the window as a whole is
   resolved m times finer than one weight.
2. What is then missing in the row's sum is made up by moving weights one more step, those first that were
   closest to the other side, as long as that makes ``sum of e^2 + (sum of e)^2`` smaller: twice the mean
   square of what the errors e add to the current when each input spikes every other step. In a row of few
   weights a large move may cost more than the sum gains.

Each weight stays within one step of its float value, and so does the sum of a row, as long as nothing
saturates; with many weights the sum stays within half a step. Weights on the grid do not move.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.export.lowering.numbers.rounding_kernels import LARGEST, correct_sums, share_equal

__all__ = ["round_keeping_sums"]

BLOCK = 1 << 13  # weights that are rounded at a time, so that they stay in the cache
BITS = 8  # for each place of the table, a multiple of 8


def round_keeping_sums(
    ideal: FloatArray, step: int, low: int, high: int, out: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """Grid integers for ``ideal``, row by row.

    Args:
        ideal: weights in integer units; each row is rounded by itself.
        step: distance of grid points, a power of two.
        low: smallest allowed integer, a multiple of step.
        high: largest allowed integer, a multiple of step.
        out: where the result goes, instead of a new array.

    Shape:
        ``(rows, weights)`` to the same.
    """
    grid = np.empty(ideal.shape, dtype=np.int32) if out is None else out
    if ideal.size == 0:
        return grid
    n = ideal.shape[1]
    height = max(1, BLOCK // n)
    table, limits = _table(n), (low // step, high // step)
    steps, error = np.empty((2, min(height, len(ideal)), n))
    crowded, heap = np.zeros(len(steps), np.bool_), (np.empty(n), np.empty(n, np.int64))
    for first in range(0, len(ideal), height):
        rows = slice(first, first + height)
        part, out = ideal[rows], grid[rows]
        now, left = steps[: len(part)], error[: len(part)]
        np.multiply(part, 1.0 / step, out=now)
        now += 0.0  # since -0.0 is 0.0
        table[1][0] = -1
        share_equal(now.view(np.uint64), now, limits, table, out, left, crowded)
        for r in np.flatnonzero(crowded):
            out[r], crowded[r] = _shared_by_sorting(now[r], limits), False
            left[r] = now[r] - out[r]
        correct_sums(left, left.sum(axis=1), limits, heap, out)
    grid *= np.int32(step)
    return grid


def _table(n: int) -> tuple[Any, ...]:
    """What :func:`share_equal` counts the equal values of n in."""
    places = 1 << (2 * n - 1).bit_length()
    bits = np.empty((2, max(1, places * BITS // 64)), np.uint64)
    return bits, np.empty((3, places), np.int64), np.empty(places), np.empty(n, np.int64)


def _shared_by_sorting(row: FloatArray, limits: tuple[int, int]) -> IntArray:
    """The same for one row, of any values."""
    values, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    scaled = values * counts
    total = np.copysign(np.minimum(np.floor(np.abs(scaled) + 0.5), LARGEST), scaled).astype(
        np.int64
    )
    base = total // counts
    order = np.argsort(inverse, kind="stable")
    rank = np.empty_like(order)  # among its equals
    rank[order] = np.arange(len(row)) - (np.cumsum(counts) - counts)[inverse[order]]
    more = rank < (total - base * counts)[inverse]
    return np.asarray(np.clip(base[inverse] + more, *limits))
