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
from biril_nm.export.lowering.numbers.rounding_kernels import correct_sums, share_equal
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
        steps, out = np.asarray(ideal[rows] / step, dtype=np.float64), grid[rows]
        share_equal(steps, low // step, high // step, out)
        error = steps - out
        correct_sums(error, error.sum(axis=1), low // step, high // step, out)
        out *= step

    height = max(1, CHUNK // ideal.shape[1])
    starts = range(0, len(ideal), height)
    if len(starts) == 1:
        round_rows(0)
        return grid
    with ThreadPoolExecutor(usable_cpus(), "biril-round") as pool:
        list(pool.map(round_rows, starts))
    return grid
