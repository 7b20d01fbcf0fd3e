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

import numpy as np

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.loihi.fixed_point import round_half_away

__all__ = ["round_keeping_sums"]


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
    if ideal.size == 0:
        return np.zeros(ideal.shape, dtype=np.int64)
    steps = ideal / step
    grid = np.clip(_share_equal(steps), low // step, high // step)
    return np.asarray(_correct_sums(steps, grid, low // step, high // step) * step, dtype=np.int64)


def _share_equal(steps: FloatArray) -> IntArray:
    """Round so that m equal values v of a row become ``round(m v)`` in all, evenly shared."""
    order = np.argsort(steps, axis=1, kind="stable")
    value = np.take_along_axis(steps, order, axis=1).ravel()
    starts = np.ones(value.size, dtype=bool)
    starts[1:] = value[1:] != value[:-1]
    starts[:: steps.shape[1]] = True
    group = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    size = np.diff(np.append(first, value.size))
    total = round_half_away(value[first] * size)
    base = total // size
    within = np.arange(value.size) - first[group]
    rounded = base[group] + (within < (total - base * size)[group])
    grid = np.empty(steps.shape, dtype=np.int64)
    np.put_along_axis(grid, order, rounded.reshape(steps.shape), axis=1)
    return grid


def _correct_sums(steps: FloatArray, grid: IntArray, low: int, high: int) -> IntArray:
    """Move the fewest weights towards each row's float sum that make the error of its current smaller."""
    error = steps - grid
    missing = round_half_away(error.sum(axis=1))
    direction = np.sign(missing)[:, None]
    # Only weights that lie on the other side may move, else they would end beyond one step.
    movable = np.where(direction > 0, grid < high, grid > low) & (direction * error > 0)
    rank = np.argsort(np.where(movable, -direction * error, np.inf), axis=1, kind="stable")
    position = np.empty_like(rank)
    np.put_along_axis(position, rank, np.arange(steps.shape[1])[None, :], axis=1)
    # Moving e to e - 1 where the sum of errors is s changes e^2 + s^2 by 2 (1 - e - s).
    left = np.abs(error.sum(axis=1))[:, None] - position
    gains = direction * error + left > 1.0
    moves = movable & gains & (position < np.abs(missing)[:, None])
    return np.asarray(grid + moves * direction, dtype=np.int64)
