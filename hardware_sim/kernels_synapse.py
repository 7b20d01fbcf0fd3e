"""Compiled loops of the connections: what spikes add to the input of their targets.

Each kernel walks over samples and steps of one block, visits only what spiked, and delivers the
summed input of a whole connection at once, as Lava does: the exponent acts on the sum, and a
convolution passes modulo 2**24. Oracle: lava-nc 0.10.0 ``PyDenseModelBitAcc``,
``PySparseModelBitAcc``, ``PyConvModelFixed``.

Shape:
    ``src`` (batch, rows, n_pre), ``a`` (batch, steps, n_post), ``row`` (n_post,) is scratch.
    Row ``start + t - lag`` of ``src`` arrives at step t; rows before ``first`` do not exist.
    A constant source has one row, which holds for every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.jit import compiled, inlined
from biril_nm.loihi import CONV_SUM_BITS

__all__ = ["accumulate_conv", "accumulate_dense", "accumulate_sparse"]

CONV_HALF = np.int64(1 << (CONV_SUM_BITS - 1))
CONV_MASK = np.int64((1 << CONV_SUM_BITS) - 1)
INT32_MIN = np.int64(-(1 << 31))
INT32_MAX = np.int64((1 << 31) - 1)


@inlined
def _deliver(row: Any, out: Any, add: Any, left: Any, right: Any) -> None:
    """``out (+)= (row << left) >> right`` in 32 bits; a wide row is shifted before it is cut."""
    if row.itemsize == 8:
        for i in range(row.size):
            value = np.int32((row[i] << left) >> right)
            out[i] = np.int32(out[i] + value) if add else value
    elif add:
        for i in range(row.size):
            out[i] = np.int32(out[i] + np.int32(np.int32(row[i] << left) >> right))
    else:
        for i in range(row.size):
            out[i] = np.int32(np.int32(row[i] << left) >> right)


@inlined
def _deliver_modulo(row: Any, out: Any, add: Any) -> None:
    """``out (+)= row`` modulo 2**24, signed.

    Lava sums in float64 and casts to int32, which on x86 gives -2**31 for what does not fit;
    modulo 2**24 that is 0.
    """
    for i in range(row.size):
        value = np.int64(row[i])
        if value < INT32_MIN or value > INT32_MAX:
            value = np.int64(0)
        value = ((value + CONV_HALF) & CONV_MASK) - CONV_HALF
        out[i] = np.int32(out[i] + value) if add else np.int32(value)


@compiled
def accumulate_dense(
    src: Any,
    start: int,
    lag: int,
    first: int,
    constant: bool,
    weight: Any,
    row: Any,
    a: Any,
    ta: int,
    tb: int,
    add: bool,
    left: int,
    right: int,
) -> None:
    """Add ``(W s) << left >> right`` to a[:, ta:tb]; ``weight`` is (n_pre, n_post).

    Payloads of graded spikes multiply; sums and products wrap in 32 bits.
    """
    n_pre, n_post = weight.shape
    for b in range(a.shape[0]):
        done = False
        for t in range(ta, tb):
            k = start + t - lag
            if not (done and constant):
                row[:] = 0
                if k >= first:
                    spikes = src[b, 0 if constant else k]
                    for j in range(n_pre):
                        if spikes[j]:
                            if src.itemsize == 1:
                                for i in range(n_post):
                                    row[i] += weight[j, i]
                            else:
                                payload = np.int32(spikes[j])
                                for i in range(n_post):
                                    row[i] += np.int32(payload * np.int32(weight[j, i]))
                    done = True
            _deliver(row, a[b, t], add, left, right)


@compiled
def accumulate_sparse(
    src: Any,
    start: int,
    lag: int,
    first: int,
    constant: bool,
    pointers: Any,
    targets: Any,
    weight: Any,
    row: Any,
    a: Any,
    ta: int,
    tb: int,
    add: bool,
    left: int,
    right: int,
) -> None:
    """Like :func:`accumulate_dense` on the synapses ``pointers[j]:pointers[j + 1]`` of source j."""
    for b in range(a.shape[0]):
        done = False
        for t in range(ta, tb):
            k = start + t - lag
            if not (done and constant):
                row[:] = 0
                if k >= first:
                    spikes = src[b, 0 if constant else k]
                    for j in range(pointers.size - 1):
                        if spikes[j]:
                            payload = np.int32(1) if src.itemsize == 1 else np.int32(spikes[j])
                            for p in range(pointers[j], pointers[j + 1]):
                                row[targets[p]] += np.int32(payload * np.int32(weight[p]))
                    done = True
            _deliver(row, a[b, t], add, left, right)


@inlined
def _scatter_pixel(
    spikes: Any,
    pixel: int,
    y: int,
    x: int,
    weight: Any,
    y_taps: Any,
    x_runs: Any,
    row: Any,
    size: Any,
) -> None:
    """Add the kernel rows of every channel that spiked at one pixel (y, x)."""
    n_in, k_height, k_width, n_group = weight.shape
    width_out, n_out, group_in = size
    flat = weight.reshape(-1)
    for c in range(n_in):
        payload = spikes[pixel * n_in + c]
        if payload:
            shift = (c // group_in) * n_group
            for q in range(1, 1 + 2 * y_taps[y, 0], 2):
                line = y_taps[y, q] * width_out
                kernel = (c * k_height + y_taps[y, q + 1]) * k_width
                for r in range(1, 1 + 3 * x_runs[x, 0], 3):
                    o = (line + x_runs[x, r]) * n_out + shift
                    w = (kernel + x_runs[x, r + 1]) * n_group
                    n = x_runs[x, r + 2] * n_group
                    if spikes.itemsize == 1:
                        for i in range(n):
                            row[o + i] += flat[w + i]
                    else:
                        for i in range(n):
                            row[o + i] += payload * flat[w + i]


@compiled
def accumulate_conv(
    src: Any,
    start: int,
    lag: int,
    first: int,
    constant: bool,
    weight: Any,
    y_taps: Any,
    x_runs: Any,
    size: Any,
    row: Any,
    a: Any,
    ta: int,
    tb: int,
    add: bool,
    modulo: bool,
) -> None:
    """Add a convolution, channels last, to a[:, ta:tb].

    Shape:
        weight (in, kH, kW, out/groups) with kW reordered so that the taps of one run are
        neighbours; y_taps (H, 1 + 2 n): count, then (output line, kernel line) pairs; x_runs
        (W, 1 + 3 n): count, then (output column, kernel column, taps) triples; size is
        (output width, output channels, input channels per group).
    """
    for b in range(a.shape[0]):
        done = False
        for t in range(ta, tb):
            k = start + t - lag
            if not (done and constant):
                row[:] = 0
                if k >= first:
                    spikes = src[b, 0 if constant else k]
                    pixel = 0
                    for y in range(y_taps.shape[0]):
                        for x in range(x_runs.shape[0]):
                            _scatter_pixel(spikes, pixel, y, x, weight, y_taps, x_runs, row, size)
                            pixel += 1
                    done = True
            if modulo:
                _deliver_modulo(row, a[b, t], add)
            else:
                _deliver(row, a[b, t], add, 0, 0)
