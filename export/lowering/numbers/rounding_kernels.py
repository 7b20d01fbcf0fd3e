"""Compiled loops over weights: rounding to a grid, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.storage.machine_code import kept, part

__all__ = ["LARGEST", "correct_sums", "deviations", "grid_error", "share_equal"]

# Constants of splitmix64 (Steele, Lea and Flood 2014), which mixes all bits of a value.
MIX = (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9), np.uint64(27), np.uint64(0x94D049BB133111EB))
PROBES = 64  # places that a value may be away from its own
LARGEST = float(1 << 62)


OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}  # loops allocate nothing


def _loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that lets other threads run."""
    return kept(function, **OPTIONS)


def _part(function: Callable[..., Any]) -> Callable[..., Any]:
    return part(function, **OPTIONS)


@_part
def _round(value: float) -> int:
    """Nearest integer, halves away from zero."""
    return int(math.copysign(min(np.floor(abs(value) + 0.5), LARGEST), value))


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
    difference and integer, and how many ideal values exceed ``limit``, integers are 0, and are so of a value.
    """
    power = error = worst = 0.0
    largest = clipped = zeros = vanished = 0
    for value, integer in zip(values, integers):
        ideal = value * units
        difference = abs(integer - ideal)
        power += ideal * ideal
        error += difference * difference
        worst = max(worst, difference)
        largest = max(largest, abs(integer))
        clipped += abs(ideal) > limit
        zeros += integer == 0
        vanished += integer == 0 and value != 0
    return power, error, worst, float(largest), float(clipped), float(zeros), float(vanished)


@_part
def _mixed(key: Any) -> Any:
    """All bits of a number depend on all bits of the key."""
    key = (key ^ (key >> MIX[0])) * MIX[1]
    key = (key ^ (key >> MIX[2])) * MIX[3]
    return key ^ (key >> np.uint64(31))


@_loop
def share_equal(keys: Any, steps: Any, limits: Any, table: Any, grid: Any, crowded: Any) -> None:
    """``grid[r, i]``: m equal values v of a row are ``round(m v)`` in all, the first ones one more, clipped.

    A table of places by value counts the equal ones. A row made to overfill a part of it is left out, and
    marked in ``crowded``.

    Args:
        keys: bits of ``steps``.
        steps: (rows, n) values, none of them -0.0.
        limits: smallest and largest result.
        table: owner (-1 at first), value, count and seen of each place, whose number is a power of two and at
            least 2 n; and the place of each value (n,).
        grid, crowded: results (rows, n), (rows,).
    """
    n_rows, n = steps.shape
    low, high = limits
    owner, value, count, seen, place = table
    mask, shift, size = owner.size - 1, np.uint64(64), 1
    while size < owner.size:
        size, shift = 2 * size, shift - np.uint64(1)
    for r in range(n_rows):
        row, away = steps[r], 0
        for i in range(n):
            at, away = np.int64(_mixed(keys[r, i]) >> shift), 0
            while owner[at] == r and value[at] != row[i] and away < PROBES:
                at, away = (at + 1) & mask, away + 1
            if away == PROBES:
                break
            if owner[at] != r:
                owner[at], value[at], count[at], seen[at] = r, row[i], 0, 0
            count[at] += 1
            place[i] = at
        if away == PROBES:
            crowded[r] = True
            continue
        for i in range(n):
            at = place[i]
            total = _round(row[i] * count[at])
            base = total // count[at]
            more = seen[at] < total - base * count[at]
            seen[at] += 1
            grid[r, i] = min(max(base + more, low), high)


@_part
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


@_part
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
def correct_sums(error: Any, sums: Any, limits: Any, heap: Any, grid: Any) -> None:
    """Move weights of each row one step towards ``sums``, largest errors first, as long as that gains.

    With the sum of errors s, moving e to e - 1 changes ``e^2 + s^2`` by ``2 (1 - e - s)``. Only weights that
    lie on the other side may move, else they would end beyond one step. ``heap`` has room for (n,) errors and
    places.
    """
    n_rows, n = error.shape
    low, high = limits
    key, index = heap
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
