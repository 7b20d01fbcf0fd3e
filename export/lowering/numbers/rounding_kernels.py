"""Compiled loops over weights: rounding to a grid, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.storage.machine_code import kept

__all__ = ["correct_sums", "deviations", "grid_error", "share_equal"]

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: near values fall far apart


def _loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that lets other threads run."""
    return kept(function, nogil=True)


@_loop
def _round(value: float) -> int:
    """Nearest integer, halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


@_loop
def grid_error(values: Any, units: float, step: int, low: int, high: int) -> float:
    """Sum of squares of what rounding ``values`` to the nearest grid point leaves; ``units`` per value."""
    total = 0.0
    for value in values:
        nearest = min(max(_round(value * (units / step)) * step, low), high)
        total += (nearest * (1.0 / units) - value) ** 2
    return total


@_loop
def deviations(values: Any, units: float, integers: Any, limit: float) -> tuple[float, ...]:
    """What a report says of integers: sums of squares of the ideal values and of the differences, the largest
    difference and integer, and how many ideal values exceed ``limit``, and integers are 0.
    """
    power = error = worst = 0.0
    largest = clipped = zeros = 0
    for value, integer in zip(values, integers):
        ideal = value * units
        difference = abs(integer - ideal)
        power += ideal * ideal
        error += difference * difference
        worst = max(worst, difference)
        largest = max(largest, abs(integer))
        clipped += abs(ideal) > limit
        zeros += integer == 0
    return power, error, worst, float(largest), float(clipped), float(zeros)


@_loop
def share_equal(steps: Any, low: int, high: int, grid: Any) -> None:
    """``grid[r, i]``: m equal values v of a row are ``round(m v)`` in all, the first ones one more, clipped.

    A table of places by value counts the equal ones, so that nothing is sorted.
    """
    n_rows, n = steps.shape
    bits = 1
    while 1 << bits < 2 * n:
        bits += 1
    mask, shift = (1 << bits) - 1, np.uint64(64 - bits)
    owner = np.full(1 << bits, -1, np.int64)  # the row whose value stands at a place
    value = np.empty(1 << bits, np.float64)
    count = np.empty(1 << bits, np.int64)
    seen = np.empty(1 << bits, np.int64)
    place = np.empty(n, np.int64)
    for r in range(n_rows):
        row = steps[r] + 0.0  # -0.0 is 0.0
        keys = row.view(np.uint64)
        for i in range(n):
            at = np.int64((keys[i] * SPREAD) >> shift)
            while owner[at] == r and value[at] != row[i]:
                at = (at + 1) & mask
            if owner[at] != r:
                owner[at], value[at], count[at], seen[at] = r, row[i], 0, 0
            count[at] += 1
            place[i] = at
        for i in range(n):
            at = place[i]
            total = _round(row[i] * count[at])
            base = total // count[at]
            more = seen[at] < total - base * count[at]
            seen[at] += 1
            grid[r, i] = min(max(base + more, low), high)


@_loop
def _sink(key: Any, index: Any, size: int) -> None:
    """Bring the root of a heap to its place; the worst is on top: small keys, and of equal ones the last."""
    at = 0
    while True:
        worst = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < size and (
                key[child] < key[worst]
                or (key[child] == key[worst] and index[child] > index[worst])
            ):
                worst = child
        if worst == at:
            return
        key[at], key[worst] = key[worst], key[at]
        index[at], index[worst] = index[worst], index[at]
        at = worst


@_loop
def _lift(key: Any, index: Any, at: int) -> None:
    """Bring a new last element of a heap to its place."""
    while at > 0:
        above = (at - 1) // 2
        if key[at] > key[above] or (key[at] == key[above] and index[at] < index[above]):
            return
        key[at], key[above] = key[above], key[at]
        index[at], index[above] = index[above], index[at]
        at = above


@_loop
def correct_sums(error: Any, sums: Any, low: int, high: int, grid: Any) -> None:
    """Move weights of each row one step towards ``sums``, largest errors first, as long as that gains.

    With the sum of errors s, moving e to e - 1 changes ``e^2 + s^2`` by ``2 (1 - e - s)``. Only weights that
    lie on the other side may move, else they would end beyond one step.
    """
    n_rows, n = error.shape
    key, index = np.empty(n, np.float64), np.empty(n, np.int64)
    for r in range(n_rows):
        wanted = abs(_round(sums[r]))
        if wanted == 0:
            continue
        up = sums[r] > 0
        sign = 1 if up else -1
        size = 0
        for i in range(n):
            e = sign * error[r, i]
            if not (e > 0 and (grid[r, i] < high if up else grid[r, i] > low)):
                continue
            if size < wanted:
                key[size], index[size] = e, i
                _lift(key, index, size)
                size += 1
            elif e > key[0]:
                key[0], index[0] = e, i
                _sink(key, index, size)
        while size > 0:
            size -= 1  # the worst of the chosen ones would be the move of this number
            if key[0] + (abs(sums[r]) - size) > 1.0:
                grid[r, index[0]] += sign
            key[0], index[0] = key[size], index[size]
            _sink(key, index, size)
