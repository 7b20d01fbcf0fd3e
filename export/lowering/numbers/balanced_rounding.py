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

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.export.lowering.numbers.rounding_kernels import LARGEST, correct_sums, share_equal
from biril_nm.storage.platform import usable_cpus

__all__ = ["round_keeping_sums"]

CHUNK = 1 << 20  # weights that one thread rounds at a time


def round_keeping_sums(ideal: FloatArray, step: int, low: int, high: int) -> IntArray:
    """Grid integers for ``ideal``, row by row.

    Args:
        ideal: weights in integer units; each row is rounded by itself.
        step: distance of grid points.
        low: smallest allowed integer, a multiple of step.
        high: largest allowed integer, a multiple of step.

    Shape:
        ``(rows, weights)`` to the same.
    """
    grid = np.zeros(ideal.shape, dtype=np.int64)
    if ideal.size == 0:
        return grid

    def round_rows(first: int) -> None:
        rows = slice(first, first + height)
        # Plus 0, since -0.0 is 0.0.
        steps = np.ascontiguousarray(ideal[rows] / step, dtype=np.float64) + 0.0
        out, limits = grid[rows], (low // step, high // step)
        _share_equal(steps, limits, out)
        error = steps - out
        heap = np.empty(steps.shape[1], np.float64), np.empty(steps.shape[1], np.int64)
        correct_sums(error, error.sum(axis=1), limits, heap, out)
        out *= step

    height = max(1, CHUNK // ideal.shape[1])
    starts = range(0, len(ideal), height)
    if len(starts) == 1:
        round_rows(0)
        return grid
    with ThreadPoolExecutor(usable_cpus(), "biril-round") as pool:
        list(pool.map(round_rows, starts))
    return grid


def _share_equal(steps: FloatArray, limits: tuple[int, int], out: IntArray) -> None:
    """Step 1 of all rows."""
    n_rows, n = steps.shape
    places = 1 << (2 * n - 1).bit_length()
    owner, value = np.full(places, -1, np.int64), np.empty(places)
    count, seen, place = (np.empty(size, np.int64) for size in (places, places, n))
    crowded = np.zeros(n_rows, np.bool_)
    table = (owner, value, count, seen, place)
    share_equal(steps.view(np.uint64), steps, limits, table, out, crowded)
    for r in np.flatnonzero(crowded):
        out[r] = _shared_by_sorting(steps[r], limits)


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
