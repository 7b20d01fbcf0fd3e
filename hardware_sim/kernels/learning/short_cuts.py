"""Compiled short cuts for rules whose products take traces only: whole rows of a Dense at once.

Each product that does not depend on the synapse is a clipped shift of the accumulator. Clipped shifts in
sequence are one clipped shift, and rounding leaves it one: ``w <- clip(w + add, low, high)``. Arguments are
described in :mod:`biril_nm.hardware_sim.kernels.learning.phase`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import part
from biril_nm.hardware_sim.kernels.learning.plan import (
    ACTIVE_POST,
    BLOCK,
    BLOCK_SIZE,
    DEPENDENCY,
    GROUP_START,
    IS_EXCITATORY,
    IS_INHIBITORY,
    LUT_TRACE,
    MANTISSA,
    MASKS,
    N_POST,
    N_PRE,
    ON_Y0,
    PAIR_X0,
    PAIR_Y0,
    POST_PARTS,
    PRE_0,
    PRE_1,
    SHIFT_LEFT,
    SHIFT_RIGHT,
    SHIFT_TABLE,
    T_EPOCH,
    TERM_0,
    TERM_1,
    TX,
    TY,
    USES_X0,
    WEIGHT_HIGH,
    WEIGHT_LOW,
    WEIGHTS,
    X_HISTORY,
)
from biril_nm.hardware_sim.kernels.learning.traces import clip, factor_value, pre_part
from biril_nm.loihi import LEARN_ACC_MAX, LEARN_ACC_MIN, LEARN_ACC_SHIFT, TRACE_MAX

__all__ = ["finish_x0", "mask_targets", "pair_row", "shift_rows", "shift_table"]

UNIT = np.int32(1 << LEARN_ACC_SHIFT)
ACC_SHIFT = np.int32(LEARN_ACC_SHIFT)
LOW = np.int32(LEARN_ACC_MIN)
HIGH = np.int32(LEARN_ACC_MAX)
FAR = np.int32(1 << 30)
N_VALUES = TRACE_MAX + 1
SHIFT_ENTRIES = 4  # add, low, high of a weight; total of the accumulator
ONE, TWO = np.uint64(1), np.uint64(2)
SCATTER = 16  # below one target in so many, visiting them one by one is quicker than a masked row


@part
def _product(terms: Any, k: Any, x: Any) -> Any:
    x = np.int32(np.int32(x >> terms[k, SHIFT_RIGHT]) << terms[k, SHIFT_LEFT])
    return clip(x, LOW, HIGH)


@part
def _rounded(p: Any, shift: Any, out: Any, rounding: Any) -> None:
    """A clipped shift (total, low, high) of the accumulator as one of the weight; the total behind it."""
    total, low, high = shift
    if p[IS_EXCITATORY]:
        low, high = max(low, np.int32(0)), max(high, np.int32(0))
    elif p[IS_INHIBITORY]:
        low, high = min(low, np.int32(0)), min(high, np.int32(0))
    up = np.int32(UNIT - 1 - rounding)
    floor, top = np.int32(p[WEIGHT_LOW]), np.int32(p[WEIGHT_HIGH])
    out[0] = np.int32(np.int32(total + up) >> ACC_SHIFT)
    out[1] = clip(np.int32(np.int32(low + up) >> ACC_SHIFT), floor, top)
    out[2] = clip(np.int32(np.int32(high + up) >> ACC_SHIFT), floor, top)
    out[3] = total


@part
def shift_table(p: Any, store: Any, rules: Any, rounding: Any) -> None:
    """Clipped shift for each value of the only trace that the products with y0 take."""
    ints, terms, factors = store[0], rules[0], rules[1]
    for value in range(N_VALUES):
        total, low, high = np.int32(0), np.int32(-FAR), FAR
        for k in range(p[TERM_0], p[TERM_1]):
            if terms[k, DEPENDENCY] == ON_Y0:
                x = np.int32(terms[k, MANTISSA])
                for f in range(terms[k, PRE_0], terms[k, PRE_1]):
                    x = np.int32(x * factor_value(np.int32(value), factors[f]))
                x = _product(terms, k, x)
                total = np.int32(total + x)
                low = clip(np.int32(low + x), LOW, HIGH)
                high = clip(np.int32(high + x), LOW, HIGH)
        first = p[SHIFT_TABLE] + SHIFT_ENTRIES * value
        _rounded(p, (total, low, high), ints[first : first + SHIFT_ENTRIES], rounding)


@part
def _row_shift(p: Any, store: Any, rules: Any, j: Any, time: Any, rounding: Any) -> Any:
    """Where the clipped shift of row j for targets of one spike time is found in ints."""
    ints, terms = store[0], rules[0]
    if p[LUT_TRACE]:
        row = (p[LUT_TRACE] - 1) * (p[T_EPOCH] + 1) + time
        return p[SHIFT_TABLE] + SHIFT_ENTRIES * ints[p[X_HISTORY] + row * p[N_PRE] + j]
    total, low, high = np.int32(0), np.int32(-FAR), FAR
    for k in range(p[TERM_0], p[TERM_1]):
        if terms[k, DEPENDENCY] == ON_Y0:
            x = _product(terms, k, pre_part(p, store, rules, k, j, time))
            total = np.int32(total + x)
            low = clip(np.int32(low + x), LOW, HIGH)
            high = clip(np.int32(high + x), LOW, HIGH)
    first = p[SHIFT_TABLE]
    _rounded(p, (total, low, high), ints[first : first + SHIFT_ENTRIES], rounding)
    return first


@part
def mask_targets(p: Any, store: Any) -> None:
    """-1 for targets that spiked, by spike time, else 0."""
    ints, synapses = store
    n_post = p[N_POST]
    spike = ints[p[TY] : p[TY] + n_post]
    for time in range(1, p[T_EPOCH] + 1):
        first = p[MASKS] + (time - 1) * n_post
        mask = synapses[first : first + n_post]
        for i in range(n_post):
            mask[i] = np.int16(-1 if spike[i] == time else 0)


@part
def shift_rows(p: Any, store: Any, rules: Any, rounding: Any) -> None:
    """What targets that spiked change in the rows of sources that did not."""
    ints, synapses = store
    n_pre, n_post = p[N_PRE], p[N_POST]
    spiked = ints[p[TX] : p[TX] + n_pre]
    weights = synapses[p[WEIGHTS] : p[WEIGHTS] + n_pre * n_post]
    table = ints[p[SHIFT_TABLE] : p[SHIFT_TABLE] + SHIFT_ENTRIES * N_VALUES]
    uses_x0, lut = p[USES_X0], p[LUT_TRACE]
    floor, top = np.int32(p[WEIGHT_LOW]), np.int32(p[WEIGHT_HIGH])
    for time in range(1, p[T_EPOCH] + 1):
        begin, end = ints[p[GROUP_START] + time], ints[p[GROUP_START] + time + 1]
        if begin == end:
            continue
        mask = synapses[p[MASKS] + (time - 1) * n_post : p[MASKS] + time * n_post]
        active = ints[p[ACTIVE_POST] + begin : p[ACTIVE_POST] + end]
        many = (end - begin) * SCATTER > n_post
        first = p[X_HISTORY] + (max(lut, 1) - 1) * (p[T_EPOCH] + 1) * n_pre + time * n_pre
        trace = ints[first : first + n_pre]
        for j in range(n_pre):
            if uses_x0 and spiked[j] > 0:
                continue
            if lut:
                entry = np.uint64(SHIFT_ENTRIES * trace[j])
            else:
                entry = np.uint64(_row_shift(p, store, rules, j, time, rounding) - p[SHIFT_TABLE])
            add, low, high = table[entry], table[entry + ONE], table[entry + TWO]
            whole = low <= floor and high >= top
            if add == 0 and whole:
                continue
            row = weights[j * n_post : (j + 1) * n_post]
            if whole and many:
                _shift_masked(row, mask, np.int16(add), np.int16(low), np.int16(high))
            else:
                for q in range(active.size):
                    i = np.uint64(active[q])
                    row[i] = np.int16(clip(np.int32(row[i] + add), low, high))


@part
def _shift_masked(row: Any, mask: Any, add: Any, low: Any, high: Any) -> None:
    """Sums stay within 16 bits: a weight has 9, a shift 10."""
    for i in range(row.size):
        x = np.int16(row[i] + np.int16(mask[i] & add))
        row[i] = max(min(x, high), low)


@part
def finish_x0(p: Any, store: Any, rules: Any) -> None:
    """The product with x0 of a pair, where it is the same for all sources: shifted and clipped once."""
    ints, terms = store[0], rules[0]
    kx, n_post = p[PAIR_X0], p[N_POST]
    first = p[POST_PARTS] + ((kx - p[TERM_0]) * (p[T_EPOCH] + 1) + 1) * n_post
    post = ints[first : first + p[T_EPOCH] * n_post]
    _shift_and_clip(post, post, np.int32(terms[kx, MANTISSA]), terms[kx])


@part
def _shift_and_clip(post: Any, out: Any, scale: Any, term: Any) -> None:
    right, left = np.int32(term[SHIFT_RIGHT] & 31), np.int32(term[SHIFT_LEFT] & 31)
    for i in range(post.size):
        x = np.int32(np.int32(np.int32(post[i] * scale) >> right) << left)
        out[i] = clip(x, LOW, HIGH)


@part
def pair_row(p: Any, store: Any, rules: Any, j: Any, rounding: Any) -> None:
    """The whole row of a source that spiked, for one product with x0 and at most one with y0."""
    ints, synapses, terms = store[0], store[1], rules[0]
    n_post, steps = p[N_POST], p[T_EPOCH]
    kx, ky = p[PAIR_X0], p[PAIR_Y0]
    row = synapses[p[WEIGHTS] + j * n_post : p[WEIGHTS] + (j + 1) * n_post]
    time = np.int64(ints[p[TX] + j])
    first = p[POST_PARTS] + ((kx - p[TERM_0]) * (steps + 1) + time) * n_post
    if terms[kx, PRE_0] < terms[kx, PRE_1]:
        post = ints[first : first + n_post]
        first = p[BLOCK]
        scale = pre_part(p, store, rules, kx, j, time)
        _shift_and_clip(post, ints[first : first + n_post], scale, terms[kx])
    on_x0 = ints[first : first + n_post]
    on_y0 = ints[p[BLOCK] + p[BLOCK_SIZE] : p[BLOCK] + p[BLOCK_SIZE] + n_post]
    if ky < 0 or ints[p[GROUP_START] + steps + 1] == 0:
        for i in range(n_post):
            on_y0[i] = 0
    elif steps == 1:
        x = ints[_row_shift(p, store, rules, j, 1, rounding) + 3]
        mask = synapses[p[MASKS] : p[MASKS] + n_post]
        for i in range(n_post):
            on_y0[i] = np.int32(mask[i]) & x
    else:
        _pair_y0(p, store, rules, j, on_y0, rounding)
    alow = np.int32(0) if p[IS_EXCITATORY] else LOW
    ahigh = np.int32(0) if p[IS_INHIBITORY] else HIGH
    up = np.int32(UNIT - 1 - rounding)
    wlow, whigh = np.int32(p[WEIGHT_LOW]), np.int32(p[WEIGHT_HIGH])
    if kx < ky or ky < 0:
        _two_shifts(row, on_x0, on_y0, alow, ahigh, up, wlow, whigh)
    else:
        _two_shifts(row, on_y0, on_x0, alow, ahigh, up, wlow, whigh)


@part
def _pair_y0(p: Any, store: Any, rules: Any, j: Any, out: Any, rounding: Any) -> None:
    """The product with y0 for each target, by its spike time."""
    ints = store[0]
    steps, n_post = p[T_EPOCH], p[N_POST]
    start = p[BLOCK] + 2 * p[BLOCK_SIZE]
    at_time = ints[start : start + steps + 1]
    at_time[0] = 0
    for time in range(1, steps + 1):
        if ints[p[GROUP_START] + time] < ints[p[GROUP_START] + time + 1]:
            at_time[time] = ints[_row_shift(p, store, rules, j, time, rounding) + 3]
    spike = ints[p[TY] : p[TY] + n_post]
    for i in range(n_post):
        out[i] = at_time[np.uint64(spike[i])]


@part
def _two_shifts(
    row: Any, one: Any, two: Any, alow: Any, ahigh: Any, up: Any, wlow: Any, whigh: Any
) -> None:
    """Accumulate two products, take the sign, round and saturate."""
    for i in range(row.size):
        x = np.int32(np.int32(row[i]) << ACC_SHIFT)
        x = clip(np.int32(x + one[i]), LOW, HIGH)
        x = clip(np.int32(x + two[i]), LOW, HIGH)
        x = clip(x, alow, ahigh)
        row[i] = np.int16(clip(np.int32(np.int32(x + up) >> ACC_SHIFT), wlow, whigh))
