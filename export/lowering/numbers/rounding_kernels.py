"""Compiled loops over weights: rounding to a grid, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.storage.machine_code import kept, part

__all__ = ["LARGEST", "correct_sums", "deviations", "grid_errors", "share_equal"]

# Constants of splitmix64 (Steele, Lea and Flood 2014), which mixes all bits of a value.
MIX = (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9), np.uint64(27), np.uint64(0x94D049BB133111EB))
GOLDEN = np.uint64(
    0x9E3779B97F4A7C15
)  # 2**64 / golden ratio: the upper bits of a product depend on all
ONE = np.uint64(1)
PROBES = 64  # places that a value may be away from its own
LARGEST = float(1 << 62)


OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False}  # loops allocate nothing


def _loop(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that lets other threads run."""
    return kept(function, **OPTIONS)


def _part(function: Callable[..., Any]) -> Callable[..., Any]:
    return part(function, **OPTIONS)


@_part
def _nearest(value: float) -> float:
    """Nearest whole number, halves away from zero."""
    return math.copysign(np.floor(abs(value) + 0.5), value)


@_part
def _round(value: float) -> int:
    """The same as an integer."""
    return int(math.copysign(min(np.floor(abs(value) + 0.5), LARGEST), value))


@_loop
def grid_errors(values: Any, units: Any, grid: Any, totals: Any) -> None:
    """Add to ``totals`` the squares of what rounding ``values`` to the nearest grid point leaves, at each of
    some ``units`` per value. ``grid``: step, smallest and largest integer.
    """
    step, low, high = grid
    for k in range(units.size):
        total, steps, size = totals[k], units[k] / step, 1.0 / units[k]
        for value in values:
            nearest = min(max(_nearest(value * steps) * step, low), high)
            total += (nearest * size - value) ** 2
        totals[k] = total


@_loop
def deviations(ideal: Any, integers: Any, limit: float, found: Any) -> None:
    """Add to ``found`` what a report says of integers: sums of squares of the ideal values and of the
    differences, the largest difference and integer, and how many ideal values exceed ``limit``, integers are
    0, and are so of a value.
    """
    power, error, worst, largest = found[0], found[1], found[2], found[3]
    clipped = zeros = vanished = 0
    for value, integer in zip(ideal, integers):
        difference = abs(integer - value)
        power += value * value
        error += difference * difference
        worst = max(worst, difference)
        largest = max(largest, float(abs(integer)))
        clipped += abs(value) > limit
        zeros += integer == 0
        vanished += integer == 0 and value != 0
    found[0], found[1], found[2], found[3] = power, error, worst, largest
    found[4] += clipped
    found[5] += zeros
    found[6] += vanished


@_part
def _mixed(key: Any) -> Any:
    """All bits of a number depend on all bits of the key."""
    key = (key ^ (key >> MIX[0])) * MIX[1]
    key = (key ^ (key >> MIX[2])) * MIX[3]
    return key ^ (key >> np.uint64(31))


@_part
def _unused_bits(size: int) -> Any:
    """How far 64 bits are shifted to leave numbers below a power of two."""
    shift, reached = np.uint64(64), 1
    while reached < size:
        reached, shift = 2 * reached, shift - np.uint64(1)
    return shift


@_part
def _find_shared(keys: Any, used: Any, shared: Any, place: Any) -> None:
    """``place[i]``: -1 where the bit of a key is that of no other one."""
    shift = _unused_bits(64 * used.size)
    used[:] = 0
    shared[:] = 0
    for i in range(keys.size):
        at = np.int64((keys[i] * GOLDEN) >> shift)
        bit = ONE << np.uint64(at & 63)
        shared[at >> 6] |= used[at >> 6] & bit
        used[at >> 6] |= bit
        place[i] = at
    for i in range(keys.size):
        if not shared[place[i] >> 6] >> np.uint64(place[i] & 63) & ONE:
            place[i] = -1


@_loop
def share_equal(
    keys: Any, steps: Any, limits: Any, table: Any, grid: Any, error: Any, crowded: Any
) -> None:
    """``grid[r, i]``: m equal values v of a row are ``round(m v)`` in all, the first ones one more, clipped.

    A value whose bit no other one of the row has is rounded by itself. A table of places by value counts the
    others. A row made to overfill a part of it is left out, and noted in ``crowded``.

    Args:
        keys: bits of ``steps``.
        steps: (rows, n) values, none of them -0.0.
        limits: smallest and largest result.
        table: bits that values have, and that several have, in words of 64; owner (-1 at first), count and
            seen of each place; value of each place; the place of each value (n,). The numbers of bits and of
            places are powers of two, at least 2 n.
        grid, error, crowded: results (rows, n), steps - grid, (rows,).
    """
    n_rows, n = steps.shape
    low, high = limits
    bits, counts, value, place = table
    owner, count, seen = counts[0], counts[1], counts[2]
    mask, shift = owner.size - 1, _unused_bits(owner.size)
    for r in range(n_rows):
        row, away = steps[r], 0
        _find_shared(keys[r], bits[0], bits[1], place)
        for i in range(n):
            if place[i] < 0:
                continue
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
            if at < 0:
                grid[r, i] = int(min(max(_nearest(row[i]), float(low)), float(high)))
            else:
                total = _round(row[i] * count[at])
                base = total // count[at]
                more = seen[at] < total - base * count[at]
                seen[at] += 1
                grid[r, i] = min(max(base + more, low), high)
            error[r, i] = row[i] - grid[r, i]


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
            if e <= (key[0] if size == wanted else 0.0):
                continue
            if not (grid[r, i] < high if up else grid[r, i] > low):
                continue
            if size < wanted:
                key[size], index[size] = e, i
                _lift(key, index, size)
                size += 1
            else:
                key[0], index[0] = e, i
                _sink(key, index, size)
        while size > 0:
            size -= 1  # the worst of the chosen ones would be the move of this number
            if key[0] + (abs(sums[r]) - size) > 1.0:
                grid[r, index[0]] += sign
            key[0], index[0] = key[size], index[size]
            _sink(key, index, size)
