"""Compiled sums of the connections: what the spikes of one step add to the input of their targets.

Each sum lists what spiked, visits nothing else, and is finished as a whole, as Lava does: the exponent
acts on the sum, and a convolution passes modulo 2**24. Oracle: lava-nc 0.10.0 ``PyDenseModelBitAcc``,
``PySparseModelBitAcc``, ``PyConvModelFixed``. Weights and sums are as narrow as their proven bounds
allow (:mod:`biril_nm.hardware_sim.engine.synapses`); binary spikes add whole blocks of lanes.

Arguments that belong together travel as tuples:
    source: (src, start, lag, first, constant). ``src`` (batch, rows, n_pre or more) holds binary spikes
        as bytes 0 and 1, padded with zeros to whole masks, or payloads as int32. Its row
        ``start + t - lag`` arrives at step t; rows before ``first`` do not exist. A constant source has
        one row, which holds for every step.
    weights: of the kind of connection, source first, flat.
    scratch: (sums, active), the sums (n_post and slack,) and the list of active sources (n_pre + 8,).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, part
from biril_nm.hardware_sim.kernels.lanes import (
    FEW,
    GROUP,
    LANES,
    MASK,
    add_few,
    add_lanes,
    add_rows,
    lowest_bit,
    spike_mask,
)

__all__ = ["CONV_COLUMNS", "sum_conv", "sum_dense", "sum_sparse"]

SINGLE = 2  # rows left over that are added one by one
ONE, NONE = np.uint64(1), np.uint64(0)

# Columns of the table of a convolution: what a source pixel adds, see ``conv_tables``.
OUT, WEIGHT, LINES, RUNS, WHOLE, SMALL, LENGTH = range(7)
CONV_COLUMNS = 7


@part
def _list_active(spikes: Any, active: Any) -> Any:
    """Write the indices of all elements that are not 0, return their number."""
    n = 0
    if spikes.itemsize == 1:
        for first in range(0, spikes.size, MASK):
            mask = spike_mask(spikes, first)
            while mask != NONE:
                active[n] = np.int32(first + lowest_bit(mask))
                n += 1
                mask &= mask - ONE
    else:
        for j in range(spikes.size):
            active[n] = np.int32(j)
            n += spikes[j] != 0
    return n


@part
def _known(source: Any, t: Any, known: Any, sums: Any) -> Any:
    """(row of the source, whether there is something to sum); clears the sums where nothing arrives."""
    _, start, lag, first, constant = source
    k = start + t - lag
    if k < first:
        clear(sums)
        return 0, False
    return (0 if constant else k), not (known and constant)


@part
def _add_dense(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """``sums = W s``; the last row of the weights is zero and fills a group up."""
    weight, width, none = weights
    clear(sums)
    n = _list_active(spikes, active)
    if spikes.itemsize == 1:
        whole = n if n % GROUP > SINGLE else n - n % GROUP
        for q in range(n, n + GROUP):
            active[q] = none
        for q in range(0, whole, GROUP):
            rows = (
                np.intp(active[q]) * width,
                np.intp(active[q + 1]) * width,
                np.intp(active[q + 2]) * width,
                np.intp(active[q + 3]) * width,
                np.intp(active[q + 4]) * width,
                np.intp(active[q + 5]) * width,
                np.intp(active[q + 6]) * width,
                np.intp(active[q + 7]) * width,
            )
            for at in range(0, width, LANES):
                add_rows(sums, at, weight, rows)
        for q in range(whole, n):
            row = np.intp(active[q]) * width
            for at in range(0, width, LANES):
                add_lanes(sums, at, weight, row + at)
    else:
        for q in range(n):
            payload = np.int32(spikes[active[q]])
            row = np.intp(active[q]) * width
            for i in range(sums.size):
                sums[i] += np.int32(payload * np.int32(weight[row + i]))


@part
def sum_dense(source: Any, weights: Any, scratch: Any, b: int, t: int, known: bool) -> bool:
    """``sums = W s`` of sample b at step t.

    Payloads of graded spikes multiply; sums and products wrap in 32 bits. ``known`` says that the sums
    are those of a constant source already; returns whether they are now.

    Shape:
        weights is (values, width, n_pre): values (n_pre + 1, width), flat, the last row zero, width the
        targets padded with zeros to whole blocks of lanes.
    """
    sums, active = scratch
    k, fresh = _known(source, t, known, sums)
    if fresh:
        _add_dense(source[0][b, k], weights, sums, active)
    return known or fresh


@part
def _add_sparse(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    pointers, targets, weight = weights
    clear(sums)
    n = _list_active(spikes, active)
    for q in range(n):
        j = active[q]
        payload = np.int32(spikes[j])
        for p in range(pointers[j], pointers[j + 1]):
            sums[targets[p]] += np.int32(payload * np.int32(weight[p]))


@part
def sum_sparse(source: Any, weights: Any, scratch: Any, b: int, t: int, known: bool) -> bool:
    """Like :func:`sum_dense`; weights is (pointers, targets, values), source j owning the synapses
    ``pointers[j]`` to ``pointers[j + 1]``.
    """
    sums, active = scratch
    k, fresh = _known(source, t, known, sums)
    if fresh:
        _add_sparse(source[0][b, k], weights, sums, active)
    return known or fresh


@part
def _add_lines(sums: Any, o: Any, weight: Any, w: Any, place: Any, steps: Any) -> None:
    """Lines of one run in whole blocks of lanes: all pixels but those at a border."""
    whole = np.int64(place[WHOLE])
    for _ in range(np.int64(place[LINES])):
        for i in range(0, whole, LANES):
            add_lanes(sums, o + i, weight, w + i)
        o += steps[0]
        w += steps[1]


@part
def _add_runs(sums: Any, o: Any, weight: Any, w: Any, place: Any, steps: Any) -> None:
    """Lines of runs: whole blocks, small blocks, single values."""
    whole, small, length = np.int64(place[WHOLE]), np.int64(place[SMALL]), np.int64(place[LENGTH])
    for line in range(np.int64(place[LINES])):
        for run in range(np.int64(place[RUNS])):
            to = o + line * steps[0] + run * steps[2]
            at = w + line * steps[1] + run * steps[3]
            for i in range(0, whole, LANES):
                add_lanes(sums, to + i, weight, at + i)
            for i in range(whole, small, FEW):
                add_few(sums, to + i, weight, at + i)
            for i in range(small, length):
                sums[np.uint64(to + i)] += weight[np.uint64(at + i)]


@part
def _add_payload(
    sums: Any, o: Any, weight: Any, w: Any, place: Any, steps: Any, payload: Any
) -> None:
    """The same for a graded spike."""
    length = np.int64(place[LENGTH])
    for line in range(np.int64(place[LINES])):
        for run in range(np.int64(place[RUNS])):
            to = o + line * steps[0] + run * steps[2]
            at = w + line * steps[1] + run * steps[3]
            for i in range(length):
                sums[np.uint64(to + i)] += payload * weight[np.uint64(at + i)]


@part
def _add_conv(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """Add the kernel of every spike, line by line and run by run."""
    weight, pixels, steps, order = weights
    divisor, reciprocal, shift, channel_first, kernel, group_in, n_group = order
    clear(sums)
    n = _list_active(spikes, active)
    for q in range(n):
        j = np.int64(active[q])
        whole = (j * reciprocal) >> shift if shift else j // divisor
        rest = j - whole * divisor
        c, pixel = (whole, rest) if channel_first else (rest, whole)
        place = pixels[pixel]
        o, w = np.int64(place[OUT]), place[WEIGHT] + c * kernel
        if n_group:
            o += c // group_in * n_group
        if spikes.itemsize > 1:
            _add_payload(sums, o, weight, w, place, steps, spikes[j])
        elif place[RUNS] == 1 and place[WHOLE] == place[LENGTH]:
            _add_lines(sums, o, weight, w, place, steps)
        else:
            _add_runs(sums, o, weight, w, place, steps)


@part
def sum_conv(source: Any, weights: Any, scratch: Any, b: int, t: int, known: bool) -> bool:
    """Like :func:`sum_dense` for a convolution, targets channels last.

    Shape:
        weights is (values, pixels, steps, order) as
        :mod:`biril_nm.hardware_sim.engine.conv_tables` makes them.
    """
    sums, active = scratch
    k, fresh = _known(source, t, known, sums)
    if fresh:
        _add_conv(source[0][b, k], weights, sums, active)
    return known or fresh
