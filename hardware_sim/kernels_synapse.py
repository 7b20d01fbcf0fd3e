"""Compiled sums of the connections: what the spikes of one step add to the input of their targets.

Each sum lists what spiked, visits nothing else, and is delivered as a whole, as Lava does: the exponent
acts on the sum, and a convolution passes modulo 2**24. Oracle: lava-nc 0.10.0 ``PyDenseModelBitAcc``,
``PySparseModelBitAcc``, ``PyConvModelFixed``. Weights and sums are as narrow as their proven bounds
allow (:mod:`biril_nm.hardware_sim.synapses`).

Arguments that belong together travel as tuples:
    source: (src, start, lag, first, constant). ``src`` (batch, rows, n_pre or more) holds binary spikes
        as bytes 0 and 1, padded with zeros to whole blocks of 64, or payloads as int32. Its row
        ``start + t - lag`` arrives at step t; rows before ``first`` do not exist. A constant source has
        one row, which holds for every step.
    weights: of the kind of connection, source first.
    scratch: (row, active), the sums (n_post,) and the list of active sources (n_pre + 8,).
    finish: (left, right) shifts of the sums; of a convolution (left, whether to take the modulo).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.jit import clear, part
from biril_nm.loihi import CONV_SUM_BITS

__all__ = ["GROUP", "ROW_BLOCK", "receive_conv", "receive_dense", "receive_sparse"]

ROW_BLOCK = 64  # binary spike rows are padded to whole 64-bit masks
GROUP = 8  # weight rows that one pass over the sums adds

CONV_HALF = np.int64(1 << (CONV_SUM_BITS - 1))
CONV_MASK = np.int64((1 << CONV_SUM_BITS) - 1)
INT32_MIN = np.int64(-(1 << 31))
INT32_MAX = np.int64((1 << 31) - 1)

# Eight bytes 0/1 times GATHER carry their bits, in order, in the top byte of the product. A lone bit times
# a de Bruijn number has a different top six bits for each of its 64 places.
GATHER = np.uint64(0x0102040810204080)
DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
PLACE = np.zeros(64, dtype=np.int32)
for _bit in range(64):
    PLACE[((0x03F79D71B4CB0A89 << _bit) & 0xFFFFFFFFFFFFFFFF) >> 58] = _bit
TOP_BYTE, TOP_SIX, ONE, NONE = np.uint64(56), np.uint64(58), np.uint64(1), np.uint64(0)


@part
def _list_active(spikes: Any, active: Any) -> Any:
    """Write the indices of all elements that are not 0, return their number."""
    n = 0
    if spikes.itemsize == 1:
        words = spikes.view(np.uint64)
        for block in range(0, words.size, 8):
            mask = NONE
            for k in range(8):
                mask |= ((words[block + k] * GATHER) >> TOP_BYTE) << np.uint64(8 * k)
            while mask != NONE:
                lowest = mask & (~mask + ONE)
                active[n] = np.int32(8 * block + PLACE[(lowest * DE_BRUIJN) >> TOP_SIX])
                n += 1
                mask &= mask - ONE
    else:
        for j in range(spikes.size):
            active[n] = np.int32(j)
            n += spikes[j] != 0
    return n


@part
def _deliver(row: Any, out: Any, add: Any, left: Any, right: Any) -> None:
    """``out (+)= (row << left) >> right`` in 32 bits; a wide row is shifted before it is cut."""
    if row.itemsize == 8:
        for i in range(out.size):
            value = np.int32((row[i] << left) >> right)
            out[i] = np.int32(out[i] + value) if add else value
        return
    scale = np.int32(
        1 << left
    )  # a product, because shifts by a variable are not narrowed to 32 bits
    if add:
        for i in range(out.size):
            out[i] = np.int32(out[i] + np.int32(np.int32(np.int32(row[i]) * scale) >> right))
    elif right == 0:
        for i in range(out.size):
            out[i] = np.int32(np.int32(row[i]) * scale)
    else:
        for i in range(out.size):
            out[i] = np.int32(np.int32(np.int32(row[i]) * scale) >> right)


@part
def _deliver_modulo(row: Any, out: Any, add: Any, left: Any) -> None:
    """``out (+)= row << left`` modulo 2**24, signed.

    Lava sums in float64 and casts to int32, which on x86 gives -2**31 for what does not fit;
    modulo 2**24 that is 0.
    """
    for i in range(out.size):
        value = np.int64(row[i]) << left
        if value < INT32_MIN or value > INT32_MAX:
            value = np.int64(0)
        value = ((value + CONV_HALF) & CONV_MASK) - CONV_HALF
        out[i] = np.int32(out[i] + value) if add else np.int32(value)


@part
def _sum_dense(spikes: Any, weight: Any, row: Any, active: Any) -> None:
    """``row = W s``: eight weight rows per pass; the last row of ``weight`` is zero and fills up."""
    clear(row)
    n = _list_active(spikes, active)
    if spikes.itemsize == 1:
        for q in range(n, n + GROUP):
            active[q] = weight.shape[0] - 1
        for q in range(0, n, GROUP):
            j0, j1, j2, j3 = active[q], active[q + 1], active[q + 2], active[q + 3]
            j4, j5, j6, j7 = active[q + 4], active[q + 5], active[q + 6], active[q + 7]
            for i in range(row.size):
                row[i] += (
                    weight[j0, i]
                    + weight[j1, i]
                    + weight[j2, i]
                    + weight[j3, i]
                    + weight[j4, i]
                    + weight[j5, i]
                    + weight[j6, i]
                    + weight[j7, i]
                )
    else:
        for q in range(n):
            j = active[q]
            payload = np.int32(spikes[j])
            for i in range(row.size):
                row[i] += np.int32(payload * np.int32(weight[j, i]))


@part
def receive_dense(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    b: int,
    t: int,
    known: bool,
    out: Any,
    add: bool,
) -> bool:
    """``out (+)= (W s) << left >> right`` of sample b at step t.

    Payloads of graded spikes multiply; sums and products wrap in 32 bits. ``known`` says that the row holds
    the sum of a constant source already; returns whether it does now.

    Shape:
        weights is ((n_pre + 1, n_post),), the last row zero.
    """
    src, start, lag, first, constant = source
    row, active = scratch
    k = start + t - lag
    if k < first:
        clear(row)
    elif not (known and constant):
        _sum_dense(src[b, 0 if constant else k], weights[0], row, active)
        known = True
    _deliver(row, out, add, finish[0], finish[1])
    return known


@part
def _sum_sparse(spikes: Any, weights: Any, row: Any, active: Any) -> None:
    pointers, targets, weight = weights
    clear(row)
    n = _list_active(spikes, active)
    for q in range(n):
        j = active[q]
        payload = np.int32(spikes[j])
        for p in range(pointers[j], pointers[j + 1]):
            row[targets[p]] += np.int32(payload * np.int32(weight[p]))


@part
def receive_sparse(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    b: int,
    t: int,
    known: bool,
    out: Any,
    add: bool,
) -> bool:
    """Like :func:`receive_dense`; weights is (pointers, targets, values), source j owning the synapses
    ``pointers[j]`` to ``pointers[j + 1]``.
    """
    src, start, lag, first, constant = source
    row, active = scratch
    k = start + t - lag
    if k < first:
        clear(row)
    elif not (known and constant):
        _sum_sparse(src[b, 0 if constant else k], weights, row, active)
        known = True
    _deliver(row, out, add, finish[0], finish[1])
    return known


@part
def _sum_conv(spikes: Any, weights: Any, row: Any, active: Any) -> None:
    """Add the kernel rows of every spike; each is one contiguous run of output values."""
    weight, y_taps, x_runs, size = weights
    width_out, n_out, group_in, n_in, k_height, k_width, n_group = size
    width_in = x_runs.shape[0]
    clear(row)
    n = _list_active(spikes, active)
    for q in range(n):
        j = active[q]
        payload = spikes[j]
        pixel = np.uint32(j) // np.uint32(n_in)
        c = np.int64(j) - np.int64(pixel) * n_in
        y = np.int64(pixel // np.uint32(width_in))
        x = np.int64(pixel) - y * width_in
        shift = (c // group_in) * n_group if group_in < n_in else np.int64(0)
        for p in range(1, 1 + 2 * y_taps[y, 0], 2):
            line = y_taps[y, p] * width_out
            kernel = (c * k_height + y_taps[y, p + 1]) * k_width
            for r in range(1, 1 + 3 * x_runs[x, 0], 3):
                # Unsigned indices: numba checks signed ones for wraparound, which stops vector code.
                o = np.uint64((line + x_runs[x, r]) * n_out + shift)
                w = np.uint64((kernel + x_runs[x, r + 1]) * n_group)
                if spikes.itemsize == 1:
                    for i in range(np.uint64(x_runs[x, r + 2] * n_group)):
                        row[o + i] += weight[w + i]
                else:
                    for i in range(np.uint64(x_runs[x, r + 2] * n_group)):
                        row[o + i] += payload * weight[w + i]


@part
def receive_conv(
    source: Any,
    weights: Any,
    scratch: Any,
    finish: Any,
    b: int,
    t: int,
    known: bool,
    out: Any,
    add: bool,
) -> bool:
    """Like :func:`receive_dense` for a convolution, channels last.

    Shape:
        weights is (kernel, y_taps, x_runs, size): kernel (in, kH, kW, out/groups), flat, with kW
        reordered so that the taps of one run are neighbours; y_taps (H, 1 + 2 n): count, then (output
        line, kernel line) pairs; x_runs (W, 1 + 3 n): count, then (output column, kernel column,
        taps) triples; size: output width, output channels, input channels per group, input
        channels, kH, kW, out/groups.
    """
    src, start, lag, first, constant = source
    row, active = scratch
    k = start + t - lag
    if k < first:
        clear(row)
    elif not (known and constant):
        _sum_conv(src[b, 0 if constant else k], weights, row, active)
        known = True
    if finish[1]:
        _deliver_modulo(row, out, add, finish[0])
    else:
        _deliver(row, out, add, finish[0], 0)
    return known
