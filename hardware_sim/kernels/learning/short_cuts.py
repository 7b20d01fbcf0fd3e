"""Compiled short cuts for rules whose products take traces only: whole rows of a Dense at once.

Each product that does not depend on the synapse is a clipped shift of the accumulator. Clipped shifts in
sequence are one clipped shift, and rounding leaves it one: ``w <- clip(w + add, low, high)``. Arguments are
described in :mod:`biril_nm.hardware_sim.kernels.learning.phase`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import part
from biril_nm.hardware_sim.kernels.learning.plan import ON_Y0
from biril_nm.hardware_sim.kernels.learning.products import (
    ACC_SHIFT,
    HIGH,
    LOW,
    UNIT,
    first_number,
    rounding_up,
)
from biril_nm.hardware_sim.kernels.learning.traces import N_VALUES, clip, factor_value, pre_part

__all__ = ["delta_rows", "finish_x0", "mask_targets", "pair_row", "shift_rows", "shift_table"]

FAR = np.int32(1 << 30)
SHIFT_ENTRIES = 4  # add, low, high of a weight; total of the accumulator
ONE, TWO = np.uint64(1), np.uint64(2)
SCATTER = 16  # below one target in so many, visiting them one by one is quicker than a masked row


@part
def _product(terms: Any, k: Any, x: Any) -> Any:
    x = np.int32(np.int32(x >> terms[k].shift_right) << terms[k].shift_left)
    return clip(x, LOW, HIGH)


@part
def _rounded(plan: Any, shift: Any, out: Any, rounding: Any) -> None:
    """A clipped shift (total, low, high) of the accumulator as one of the weight; the total behind it."""
    total, low, high = shift
    if plan.is_excitatory:
        low, high = max(low, np.int32(0)), max(high, np.int32(0))
    elif plan.is_inhibitory:
        low, high = min(low, np.int32(0)), min(high, np.int32(0))
    up = np.int32(UNIT - 1 - rounding)
    floor, top = np.int32(plan.weight_low), np.int32(plan.weight_high)
    out[0] = np.int32(np.int32(total + up) >> ACC_SHIFT)
    out[1] = clip(np.int32(np.int32(low + up) >> ACC_SHIFT), floor, top)
    out[2] = clip(np.int32(np.int32(high + up) >> ACC_SHIFT), floor, top)
    out[3] = total


@part
def shift_table(plan: Any, store: Any, rules: Any, rounding: Any) -> None:
    """Clipped shift for each value of the only trace that the products with y0 take."""
    ints, terms, factors = store.ints, rules.terms, rules.factors
    for value in range(N_VALUES):
        total, low, high = np.int32(0), np.int32(-FAR), FAR
        for k in range(plan.first_term, plan.end_term):
            if terms[k].dependency == ON_Y0:
                x = np.int32(terms[k].mantissa)
                for f in range(terms[k].pre_0, terms[k].pre_1):
                    x = np.int32(x * factor_value(np.int32(value), factors[f]))
                x = _product(terms, k, x)
                total = np.int32(total + x)
                low = clip(np.int32(low + x), LOW, HIGH)
                high = clip(np.int32(high + x), LOW, HIGH)
        first = plan.shift_table + SHIFT_ENTRIES * value
        _rounded(plan, (total, low, high), ints[first : first + SHIFT_ENTRIES], rounding)


@part
def _row_shift(plan: Any, store: Any, rules: Any, j: Any, time: Any, rounding: Any) -> Any:
    """Where the clipped shift of row j for targets of one spike time is found in ints."""
    ints, terms = store.ints, rules.terms
    if plan.table_trace:
        row = (plan.table_trace - 1) * (plan.t_epoch + 1) + time
        return plan.shift_table + SHIFT_ENTRIES * ints[plan.x_history + row * plan.n_pre + j]
    total, low, high = np.int32(0), np.int32(-FAR), FAR
    for k in range(plan.first_term, plan.end_term):
        if terms[k].dependency == ON_Y0:
            x = _product(terms, k, pre_part(plan, store, rules, k, j, time))
            total = np.int32(total + x)
            low = clip(np.int32(low + x), LOW, HIGH)
            high = clip(np.int32(high + x), LOW, HIGH)
    first = plan.shift_table
    _rounded(plan, (total, low, high), ints[first : first + SHIFT_ENTRIES], rounding)
    return first


@part
def mask_targets(plan: Any, store: Any) -> None:
    """-1 for targets that spiked, by spike time, else 0."""
    ints, synapses = store.ints, store.synapses
    n_post = plan.n_post
    spike = ints[plan.post_times : plan.post_times + n_post]
    for time in range(1, plan.t_epoch + 1):
        first = plan.masks + (time - 1) * n_post
        mask = synapses[first : first + n_post]
        for i in range(n_post):
            mask[i] = np.int16(-1 if spike[i] == time else 0)


@part
def shift_rows(plan: Any, store: Any, rules: Any, rounding: Any) -> None:
    """What targets that spiked change in the rows of sources that did not."""
    ints, synapses = store.ints, store.synapses
    n_pre, n_post = plan.n_pre, plan.n_post
    spiked = ints[plan.pre_times : plan.pre_times + n_pre]
    weights = synapses[plan.weights : plan.weights + n_pre * n_post]
    table = ints[plan.shift_table : plan.shift_table + SHIFT_ENTRIES * N_VALUES]
    uses_x0, lut = plan.uses_x0, plan.table_trace
    floor, top = np.int32(plan.weight_low), np.int32(plan.weight_high)
    for time in range(1, plan.t_epoch + 1):
        begin, end = ints[plan.time_starts + time], ints[plan.time_starts + time + 1]
        if begin == end:
            continue
        mask = synapses[plan.masks + (time - 1) * n_post : plan.masks + time * n_post]
        active = ints[plan.active_post + begin : plan.active_post + end]
        many = (end - begin) * SCATTER > n_post
        first = plan.x_history + (max(lut, 1) - 1) * (plan.t_epoch + 1) * n_pre + time * n_pre
        trace = ints[first : first + n_pre]
        for j in range(n_pre):
            if uses_x0 and spiked[j] > 0:
                continue
            if lut:
                entry = np.uint64(SHIFT_ENTRIES * trace[j])
            else:
                entry = np.uint64(
                    _row_shift(plan, store, rules, j, time, rounding) - plan.shift_table
                )
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
def finish_x0(plan: Any, store: Any, rules: Any) -> None:
    """The product with x0 of a pair, where it is the same for all sources: shifted and clipped once."""
    ints, terms = store.ints, rules.terms
    kx, n_post = plan.pair_x0, plan.n_post
    first = plan.post_parts + ((kx - plan.first_term) * (plan.t_epoch + 1) + 1) * n_post
    post = ints[first : first + plan.t_epoch * n_post]
    _shift_and_clip(post, post, np.int32(terms[kx].mantissa), terms[kx])


@part
def _shift_and_clip(post: Any, out: Any, scale: Any, term: Any) -> None:
    right, left = np.int32(term.shift_right & 31), np.int32(term.shift_left & 31)
    for i in range(post.size):
        x = np.int32(np.int32(np.int32(post[i] * scale) >> right) << left)
        out[i] = clip(x, LOW, HIGH)


@part
def pair_row(plan: Any, store: Any, rules: Any, j: Any, rounding: Any) -> None:
    """The whole row of a source that spiked, for one product with x0 and at most one with y0."""
    ints, synapses, terms = store.ints, store.synapses, rules.terms
    n_post, steps = plan.n_post, plan.t_epoch
    kx, ky = plan.pair_x0, plan.pair_y0
    row = synapses[plan.weights + j * n_post : plan.weights + (j + 1) * n_post]
    time = np.int64(ints[plan.pre_times + j])
    first = plan.post_parts + ((kx - plan.first_term) * (steps + 1) + time) * n_post
    if terms[kx].pre_0 < terms[kx].pre_1:
        post = ints[first : first + n_post]
        first = plan.block
        scale = pre_part(plan, store, rules, kx, j, time)
        _shift_and_clip(post, ints[first : first + n_post], scale, terms[kx])
    on_x0 = ints[first : first + n_post]
    on_y0 = ints[plan.block + plan.block_size : plan.block + plan.block_size + n_post]
    if ky < 0 or ints[plan.time_starts + steps + 1] == 0:
        for i in range(n_post):
            on_y0[i] = 0
    elif steps == 1:
        x = ints[_row_shift(plan, store, rules, j, np.int64(1), rounding) + 3]
        mask = synapses[plan.masks : plan.masks + n_post]
        for i in range(n_post):
            on_y0[i] = np.int32(mask[i]) & x
    else:
        _pair_y0(plan, store, rules, j, on_y0, rounding)
    alow = np.int32(0) if plan.is_excitatory else LOW
    ahigh = np.int32(0) if plan.is_inhibitory else HIGH
    up = np.int32(UNIT - 1 - rounding)
    wlow, whigh = np.int32(plan.weight_low), np.int32(plan.weight_high)
    if kx < ky or ky < 0:
        _two_shifts(row, on_x0, on_y0, alow, ahigh, up, wlow, whigh)
    else:
        _two_shifts(row, on_y0, on_x0, alow, ahigh, up, wlow, whigh)


@part
def delta_rows(plan: Any, store: Any, rules: Any, rounding: Any) -> None:
    """All rows of a Dense, for two products with u: sources without a trace change nothing."""
    ints, synapses, terms = store.ints, store.synapses, rules.terms
    n_post, steps, k = plan.n_post, plan.t_epoch, plan.first_term
    one = ints[plan.post_parts : plan.post_parts + n_post]
    first = plan.post_parts + (steps + 1) * n_post
    two = ints[first : first + n_post]
    if not (_any(one) or _any(two)):
        return
    first = plan.block + plan.block_size
    on_one, on_two = ints[plan.block : plan.block + n_post], ints[first : first + n_post]
    alow = np.int32(0) if plan.is_excitatory else LOW
    ahigh = np.int32(0) if plan.is_inhibitory else HIGH
    up = np.int32(UNIT - 1 - rounding)
    wlow, whigh = np.int32(plan.weight_low), np.int32(plan.weight_high)
    for j in range(plan.n_pre):
        x = pre_part(plan, store, rules, k, j, steps)
        y = pre_part(plan, store, rules, k + 1, j, steps)
        if x == 0 and y == 0:
            continue
        _shift_and_clip(one, on_one, x, terms[k])
        _shift_and_clip(two, on_two, y, terms[k + 1])
        row = synapses[plan.weights + j * n_post : plan.weights + (j + 1) * n_post]
        if plan.per_synapse:
            start = first_number(rounding, j * n_post)
            _two_rounded(row, on_one, on_two, alow, ahigh, start, wlow, whigh)
        else:
            _two_shifts(row, on_one, on_two, alow, ahigh, up, wlow, whigh)


@part
def _any(values: Any) -> Any:
    found = np.int32(0)
    for i in range(values.size):
        found |= values[i]
    return found != 0


@part
def _pair_y0(plan: Any, store: Any, rules: Any, j: Any, out: Any, rounding: Any) -> None:
    """The product with y0 for each target, by its spike time."""
    ints = store.ints
    steps, n_post = plan.t_epoch, plan.n_post
    start = plan.block + 2 * plan.block_size
    at_time = ints[start : start + steps + 1]
    at_time[0] = 0
    for time in range(1, steps + 1):
        if ints[plan.time_starts + time] < ints[plan.time_starts + time + 1]:
            at_time[time] = ints[_row_shift(plan, store, rules, j, time, rounding) + 3]
    spike = ints[plan.post_times : plan.post_times + n_post]
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


@part
def _two_rounded(
    row: Any, one: Any, two: Any, alow: Any, ahigh: Any, start: Any, wlow: Any, whigh: Any
) -> None:
    """The same, each synapse rounded by a number of its own."""
    for i in range(row.size):
        x = np.int32(np.int32(row[i]) << ACC_SHIFT)
        x = clip(np.int32(x + one[i]), LOW, HIGH)
        x = clip(np.int32(x + two[i]), LOW, HIGH)
        x = clip(x, alow, ahigh)
        up = rounding_up(start, i)
        row[i] = np.int16(clip(np.int32(np.int32(x + up) >> ACC_SHIFT), wlow, whigh))
