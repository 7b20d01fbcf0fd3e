"""Compiled sums of the connections: what the spikes of one step add to the input of their targets.

Each sum lists what spiked, visits nothing else, and is finished as a whole, as Lava does: the exponent
acts on the sum, and a convolution passes modulo 2**24. Oracle: lava-nc 0.10.0 ``PyDenseModelBitAcc``,
``PySparseModelBitAcc``, ``PyConvModelFixed``. Weights and sums are as narrow as their proven bounds
allow (:mod:`biril_nm.hardware_sim.engine.synapses`); binary spikes add whole blocks of lanes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import choice, clear, inlined, part
from biril_nm.hardware_sim.kernels.lanes import (
    FEW,
    GROUP,
    LANES,
    MASK,
    add_few,
    add_lanes,
    add_rows,
    fetch,
    lowest_bit,
    spike_mask,
)
from biril_nm.hardware_sim.kernels.records import ConvWeights, DenseWeights, SparseWeights

__all__ = ["sum_spikes"]

SINGLE = 2  # rows left over that are added one by one
ONE, NONE, ALL = np.uint64(1), np.uint64(0), np.uint64(2**64 - 1)
AHEAD = 16  # sources between the one whose synapses are asked for and the one that adds them
BYTE = 8  # bits of a binary spike


@part
def _list_active(spikes: Any, active: Any, flipped: Any) -> Any:
    """Write the indices of all bytes that are not 0, or, with ``ALL``, that are 0; return their number."""
    n = 0
    for first in range(0, spikes.size, MASK):
        mask = spike_mask(spikes, first) ^ flipped
        while mask != NONE:
            active[n] = np.int32(first + lowest_bit(mask))
            n += 1
            mask &= mask - ONE
    return n


@part
def _known(source: Any, t: Any, known: Any, sums: Any) -> Any:
    """(row of the source, whether there is something to sum); clears the sums where nothing arrives."""
    k = source.start + t - source.lag
    if k < source.first:
        clear(sums)
        return 0, False
    return (0 if source.constant else k), not (known and source.constant)


def _sum_dense(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """``sums = W s``; the last row of the weights is zero and fills a group up."""
    weight, width, none = weights.values, weights.width, weights.n_pre
    clear(sums)
    n = _list_active(spikes, active, NONE)
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


def _sum_graded_dense(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """The same for spikes with payloads."""
    weight, width = weights.values, weights.width
    clear(sums)
    for j in range(weights.n_pre):
        payload, row = np.int32(spikes[j]), np.intp(j) * width
        if payload:
            for i in range(sums.size):
                sums[i] += np.int32(payload * np.int32(weight[row + i]))


def _sum_sparse(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """``sums = W s``: weights of what spiked, or, where most have, of all less those of the rest."""
    n = _list_active(spikes, active, NONE)
    n_synapses = np.int64(0)
    for q in range(n):
        n_synapses += weights.degrees[np.uint64(active[q])]
    rest = n_synapses >= weights.least
    if rest:
        n = _list_active(spikes, active, ALL)
        while n > 0 and active[n - 1] >= weights.n_pre:  # what fills the last mask up
            n -= 1
    clear(sums)
    for q in range(n, n + 2 * AHEAD):
        active[q] = 0
    _add_synapses(weights, sums, active, n)
    if rest:
        for i in range(sums.size):
            sums[i] = weights.total[i] - sums[i]


@part
def _add_synapses(weights: Any, sums: Any, listed: Any, n: Any) -> None:
    """Block by block, so that sums stay in the cache; the synapses of a source there are neighbours."""
    pointers, targets, weight = weights.pointers, weights.targets, weights.values
    row = 0
    for first in range(0, sums.size, weights.size):
        for q in range(n):
            fetch(pointers, np.intp(row + listed[q + 2 * AHEAD]))
            ahead = np.intp(pointers[row + listed[q + AHEAD]])
            fetch(targets, ahead)
            fetch(weight, ahead)
            j = row + listed[q]
            for p in range(np.uint64(pointers[j]), np.uint64(pointers[j + 1])):
                sums[np.uint64(first) + np.uint64(targets[p])] += weight[p]
        row += weights.n_pre + 1


def _sum_graded_sparse(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """Synapse by synapse of the sources whose spikes carry a payload."""
    pointers, targets, weight = weights.pointers, weights.targets, weights.values
    clear(sums)
    row = 0
    for first in range(0, sums.size, weights.size):
        for j in range(weights.n_pre):
            payload = np.int32(spikes[j])
            if payload:
                for p in range(np.uint64(pointers[row + j]), np.uint64(pointers[row + j + 1])):
                    place = np.uint64(first) + np.uint64(targets[p])
                    sums[place] += np.int32(payload * np.int32(weight[p]))
        row += weights.n_pre + 1


@part
def _add_lines(sums: Any, o: Any, weight: Any, w: Any, place: Any, steps: Any) -> None:
    """Lines of one run in whole blocks of lanes: all pixels but those at a border."""
    whole = np.int64(place.whole)
    for _ in range(np.int64(place.lines)):
        for i in range(0, whole, LANES):
            add_lanes(sums, o + i, weight, w + i)
        o += steps.line_out
        w += steps.line_weight


@part
def _add_runs(sums: Any, o: Any, weight: Any, w: Any, place: Any, steps: Any) -> None:
    """Lines of runs: whole blocks, small blocks, single values."""
    whole, small, length = np.int64(place.whole), np.int64(place.small), np.int64(place.length)
    for line in range(np.int64(place.lines)):
        for run in range(np.int64(place.runs)):
            to = o + line * steps.line_out + run * steps.run_out
            at = w + line * steps.line_weight + run * steps.run_weight
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
    length = np.int64(place.length)
    for line in range(np.int64(place.lines)):
        for run in range(np.int64(place.runs)):
            to = o + line * steps.line_out + run * steps.run_out
            at = w + line * steps.line_weight + run * steps.run_weight
            for i in range(length):
                sums[np.uint64(to + i)] += payload * weight[np.uint64(at + i)]


@part
def _place(j: Any, weights: Any) -> Any:
    """Pixel, first output and first weight of source j."""
    order = weights.order
    whole = (j * order.factor) >> order.shift if order.shift else j // order.divisor
    rest = j - whole * order.divisor
    c, pixel = (whole, rest) if order.channel_first else (rest, whole)
    place = weights.pixels[pixel]
    o, w = np.int64(place.out), place.weight + c * order.n_kernel
    if order.n_group:
        o += c // order.group_in * order.n_group
    return pixel, o, w


def _sum_conv(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """Add the kernel of every spike, line by line and run by run; targets are channels last."""
    clear(sums)
    n = _list_active(spikes, active, NONE)
    for q in range(n):
        pixel, o, w = _place(np.int64(active[q]), weights)
        place = weights.pixels[pixel]
        if place.runs == 1 and place.whole == place.length:
            _add_lines(sums, o, weights.values, w, place, weights.steps)
        else:
            _add_runs(sums, o, weights.values, w, place, weights.steps)


def _sum_graded_conv(spikes: Any, weights: Any, sums: Any, active: Any) -> None:
    """The same for spikes with payloads."""
    clear(sums)
    for j in range(spikes.size):
        if spikes[j]:
            pixel, o, w = _place(np.int64(j), weights)
            place = weights.pixels[pixel]
            _add_payload(sums, o, weights.values, w, place, weights.steps, spikes[j])


# By the class of weights: sums of binary spikes, and of payloads.
SUMS = {
    DenseWeights: (_sum_dense, _sum_graded_dense),
    SparseWeights: (_sum_sparse, _sum_graded_sparse),
    ConvWeights: (_sum_conv, _sum_graded_conv),
}


@choice
def _sum(spikes: Any, weights: Any, sums: Any, active: Any) -> Any:
    """The sum of a kind of connection, by the class of its weights and the width of its spikes."""
    return SUMS[weights.instance_class][spikes.dtype.bitwidth > BYTE]


@inlined
def sum_spikes(source: Any, weights: Any, scratch: Any, b: int, t: int, known: bool) -> bool:
    """``scratch.sums = W s`` of what reaches sample b at step t.

    Payloads of graded spikes multiply; sums and products wrap in the width of the sums. ``known`` says
    that the sums are those of a constant source already; returns whether they are now.
    """
    k, fresh = _known(source, t, known, scratch.sums)
    if fresh:
        _sum(source.spikes[b, k], weights, scratch.sums, scratch.active)
    return known or fresh
