"""Compiled products: what a rule makes of traces, weights and tags for a block of synapses.

A block is a row (one source), part of a row, or a column (one target). ``fill_row`` and ``fill_column``
write the trace parts of all products into scratch rows, ``update`` does the rest: factors w, t, d,
accumulation, rounding, saturation. Oracle: lava-nc 0.10.0 ``learning_rule_applier.py``. Arguments are
described in :mod:`biril_nm.hardware_sim.kernels.learning.phase`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import part
from biril_nm.hardware_sim.kernels.learning.plan import (
    ALIVE,
    BLOCK,
    BLOCK_SIZE,
    CHANGE_D,
    CHANGE_T,
    CHANGE_W,
    CODE,
    CONSTANT,
    DEPENDENCY,
    GROUP_START,
    IS_EXCITATORY,
    IS_INHIBITORY,
    IS_SIGN,
    IS_SPARSE,
    N_POST,
    ON_U,
    ON_X0,
    ON_Y0,
    POST_PARTS,
    POST_POINTERS,
    POST_SOURCES,
    POST_SYNAPSES,
    SHIFT_LEFT,
    SHIFT_RIGHT,
    SYN_0,
    SYN_1,
    T_EPOCH,
    TERM_0,
    TERM_1,
    TOUCH_ALL,
    TX,
    TY,
    USES_D,
    USES_T,
    USES_X0,
    VARIABLE,
    WEIGHT_HIGH,
    WEIGHT_LOW,
    WEIGHTS,
    WIDTH,
)
from biril_nm.hardware_sim.kernels.learning.traces import clip, pre_part
from biril_nm.loihi import LEARN_ACC_MAX, LEARN_ACC_MIN, LEARN_ACC_SHIFT, TAG_MAX, TAG_T_MIN

__all__ = ["PLACES_ROW", "fill_column", "fill_row", "scratch_row", "update"]

UNIT = np.int32(1 << LEARN_ACC_SHIFT)
ACC_SHIFT = np.int32(LEARN_ACC_SHIFT)
LOW = np.int32(LEARN_ACC_MIN)
HIGH = np.int32(LEARN_ACC_MAX)
# Scratch rows after those of the products.
ACC_ROW, ONE_ROW, PLACES_ROW, TIMES_ROW = 3, 4, 5, 6


@part
def scratch_row(p: Any, row: Any) -> Any:
    """Where a row of the scratch block begins: products, w, t, d, accumulator, one product, places, times."""
    return p[BLOCK] + row * p[BLOCK_SIZE]


@part
def _accumulate(
    p: Any, store: Any, rules: Any, n: Any, variable: Any, low: Any, high: Any, rounding: Any
) -> None:
    """New values of w, t or d of the n synapses in the block, in the row of the accumulator.

    ``acc = clip(acc + clip((p >> right) << left))`` product by product, then the sign, rounding and the
    range of the variable. The last element of a row of products tells whether they can differ from 0.
    """
    ints, terms, factors = store[0], rules[0], rules[1]
    n_terms = p[TERM_1] - p[TERM_0]
    old = ints[scratch_row(p, n_terms + variable) :]
    acc = ints[scratch_row(p, n_terms + ACC_ROW) :]
    one = ints[scratch_row(p, n_terms + ONE_ROW) :]
    for q in range(n):
        acc[q] = np.int32(old[q] << ACC_SHIFT)
    for k in range(p[TERM_0], p[TERM_1]):
        if terms[k, VARIABLE] != variable:
            continue
        product = ints[scratch_row(p, k - p[TERM_0]) :]
        if product[p[BLOCK_SIZE] - 1] == 0 and not p[TOUCH_ALL]:
            continue
        right, left = np.int32(terms[k, SHIFT_RIGHT]), np.int32(terms[k, SHIFT_LEFT])
        if terms[k, SYN_0] < terms[k, SYN_1]:
            for q in range(n):
                one[q] = product[q]
            for f in range(terms[k, SYN_0], terms[k, SYN_1]):
                value = ints[scratch_row(p, n_terms + factors[f, CODE]) :]
                _multiply(one, value, n, factors[f])
            product = one
        _add_product(acc, product, n, right, left)
    if variable == CHANGE_W and p[IS_INHIBITORY]:
        for q in range(n):
            acc[q] = min(acc[q], np.int32(0))
    elif variable == CHANGE_D or (variable == CHANGE_W and p[IS_EXCITATORY]):
        for q in range(n):
            acc[q] = max(acc[q], np.int32(0))
    up = np.int32(UNIT - 1 - rounding)
    for q in range(n):
        acc[q] = clip(np.int32(np.int32(acc[q] + up) >> ACC_SHIFT), low, high)


@part
def _multiply(one: Any, value: Any, n: Any, factor: Any) -> None:
    constant = np.int32(factor[CONSTANT])
    if factor[IS_SIGN]:
        for q in range(n):
            x = np.int32(value[q] + constant)
            one[q] = np.int32(one[q] * np.int32(np.int32(x > 0) - np.int32(x < 0)))
    else:
        limit = np.int32(1 << factor[WIDTH])
        low, high = np.int32(-limit), np.int32(limit - 1)
        for q in range(n):
            one[q] = np.int32(one[q] * clip(np.int32(value[q] + constant), low, high))


@part
def _add_product(acc: Any, product: Any, n: Any, right: Any, left: Any) -> None:
    right, left = right & np.int32(31), left & np.int32(31)
    for q in range(n):
        x = np.int32(np.int32(product[q] >> right) << left)
        acc[q] = clip(np.int32(acc[q] + clip(x, LOW, HIGH)), LOW, HIGH)


@part
def update(p: Any, store: Any, rules: Any, n: Any, rounding: Any, base: Any, places: Any) -> None:
    """Evaluate the rule on a block of n synapses, at ``base + places`` (none listed: from base on)."""
    ints, synapses = store
    n_terms = p[TERM_1] - p[TERM_0]
    for variable in range(3):
        if variable == CHANGE_W or p[USES_T if variable == CHANGE_T else USES_D]:
            first = p[WEIGHTS + variable] + base
            row = ints[scratch_row(p, n_terms + variable) :]
            if places.size:
                for q in range(n):
                    row[q] = synapses[first + places[q]]
            else:
                for q in range(n):
                    row[q] = synapses[first + q]
    changed = 0
    for k in range(p[TERM_0], p[TERM_1]):
        changed |= 1 << rules[0][k, VARIABLE]
    for variable in range(3):
        if changed & (1 << variable):
            _change(p, store, rules, n, variable, rounding, base, places)


@part
def _change(
    p: Any, store: Any, rules: Any, n: Any, variable: Any, rounding: Any, base: Any, places: Any
) -> None:
    """Write the new values of one variable."""
    ints, synapses = store
    low, high = np.int32(0), np.int32(TAG_MAX)
    if variable == CHANGE_W:
        low, high = np.int32(p[WEIGHT_LOW]), np.int32(p[WEIGHT_HIGH])
    elif variable == CHANGE_T:
        low = np.int32(TAG_T_MIN)
    _accumulate(p, store, rules, n, variable, low, high, rounding)
    new = ints[scratch_row(p, p[TERM_1] - p[TERM_0] + ACC_ROW) :]
    first = p[WEIGHTS + variable] + base
    if variable == CHANGE_W and p[IS_SPARSE]:
        for q in range(n):
            place = places[q] if places.size else q
            if ints[p[ALIVE] + base + place]:
                synapses[first + place] = np.int16(new[q])
    elif places.size:
        for q in range(n):
            synapses[first + places[q]] = np.int16(new[q])
    else:
        for q in range(n):
            synapses[first + q] = np.int16(new[q])


@part
def fill_row(p: Any, store: Any, rules: Any, j: Any, n: Any, targets: Any, due: Any) -> None:
    """Trace parts of all products for the synapses from source j to ``targets`` (none listed: all)."""
    ints, terms = store[0], rules[0]
    steps, n_post = p[T_EPOCH], p[N_POST]
    any_active = ints[p[GROUP_START] + steps + 1] > 0
    for k in range(p[TERM_0], p[TERM_1]):
        out = ints[scratch_row(p, k - p[TERM_0]) :]
        base = p[POST_PARTS] + (k - p[TERM_0]) * (steps + 1) * n_post
        dependency, time = terms[k, DEPENDENCY], np.int64(steps)
        live = (dependency == ON_U and due) or (dependency == ON_Y0 and any_active)
        if dependency == ON_X0:
            time = np.int64(ints[p[TX] + j])
            base += time * n_post
            live = time > 0
        out[p[BLOCK_SIZE] - 1] = live
        if not live:
            for q in range(n if p[TOUCH_ALL] else 0):
                out[q] = 0
        elif dependency == ON_Y0 and steps > 1:
            _scale_by_time(p, store, rules, k, j, out, n, targets, ints[base : base + n_post])
        else:
            scale = pre_part(p, store, rules, k, j, time)
            _scale(out, n, targets, ints[base : base + n_post], scale)


@part
def _scale(out: Any, n: Any, targets: Any, post: Any, scale: Any) -> None:
    """Post-factors times one number."""
    if targets.size:
        for q in range(n):
            out[q] = np.int32(post[targets[q]] * scale)
    else:
        for q in range(n):
            out[q] = np.int32(post[q] * scale)


@part
def _scale_by_time(
    p: Any,
    store: Any,
    rules: Any,
    k: Any,
    j: Any,
    out: Any,
    n: Any,
    targets: Any,
    post: Any,
) -> None:
    """Post-factors of a product with y0 times the pre-factors at the target's spike time."""
    ints = store[0]
    at_time = ints[scratch_row(p, p[TERM_1] - p[TERM_0] + TIMES_ROW) :]
    at_time[0] = 0
    for step in range(1, p[T_EPOCH] + 1):
        if ints[p[GROUP_START] + step] < ints[p[GROUP_START] + step + 1]:
            at_time[step] = pre_part(p, store, rules, k, j, step)
    spike = ints[p[TY] : p[TY] + p[N_POST]]
    if targets.size:
        for q in range(n):
            out[q] = np.int32(post[targets[q]] * at_time[spike[targets[q]]])
    else:
        for q in range(n):
            out[q] = np.int32(post[q] * at_time[spike[q]])


@part
def fill_column(p: Any, store: Any, rules: Any, i: Any) -> Any:
    """Trace parts for the synapses onto target i that no row has visited; returns their number."""
    ints, terms = store[0], rules[0]
    n_terms = p[TERM_1] - p[TERM_0]
    places, sources = (
        ints[scratch_row(p, n_terms + PLACES_ROW) :],
        ints[scratch_row(p, n_terms + TIMES_ROW) :],
    )
    n = 0
    for q in range(ints[p[POST_POINTERS] + i], ints[p[POST_POINTERS] + i + 1]):
        j = ints[p[POST_SOURCES] + q]
        if not (p[USES_X0] and ints[p[TX] + j] > 0):
            places[n] = ints[p[POST_SYNAPSES] + q]
            sources[n] = j
            n += 1
    time = ints[p[TY] + i]
    for k in range(p[TERM_0], p[TERM_1]):
        out = ints[scratch_row(p, k - p[TERM_0]) :]
        live = terms[k, DEPENDENCY] == ON_Y0
        out[p[BLOCK_SIZE] - 1] = live
        if live:
            post = ints[p[POST_PARTS] + (k - p[TERM_0]) * (p[T_EPOCH] + 1) * p[N_POST] + i]
            for q in range(n):
                out[q] = np.int32(post * pre_part(p, store, rules, k, sources[q], time))
    return n
