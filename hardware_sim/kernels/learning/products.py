"""Compiled products: what a rule makes of traces, weights and tags for a block of synapses.

A block is a row (one source), part of a row, or a column (one target). ``fill_row`` and ``fill_column``
write the trace parts of all terms into scratch rows, ``update`` does the rest: factors w, t, d,
accumulation, rounding, saturation. Oracle: lava-nc 0.10.0 ``learning_rule_applier.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import inlined, part
from biril_nm.hardware_sim.kernels.learning.plan import (
    CHANGE_D,
    CHANGE_T,
    CHANGE_W,
    ON_U,
    ON_X0,
    ON_Y0,
)
from biril_nm.hardware_sim.kernels.learning.traces import clip, pre_part
from biril_nm.loihi import LEARN_ACC_MAX, LEARN_ACC_MIN, LEARN_ACC_SHIFT, TAG_MAX, TAG_T_MIN

__all__ = [
    "ACC_SHIFT",
    "HIGH",
    "LOW",
    "PLACES_ROW",
    "UNIT",
    "fill_column",
    "fill_row",
    "first_number",
    "rounding_up",
    "scratch_row",
    "update",
]

# The accumulator: one weight LSB in its units, and its range.
UNIT = np.int32(1 << LEARN_ACC_SHIFT)
ACC_SHIFT = np.int32(LEARN_ACC_SHIFT)
LOW = np.int32(LEARN_ACC_MIN)
HIGH = np.int32(LEARN_ACC_MAX)
# Scratch rows after those of the terms.
ACC_ROW, ONE_ROW, PLACES_ROW, TIMES_ROW = 3, 4, 5, 6
# Numbers of single synapses: a counter through the finalizer of MurmurHash3 (A. Appleby, public domain).
STRIDE, FIRST, SECOND = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)


@part
def scratch_row(plan: Any, row: Any) -> Any:
    """Where a row of the scratch block begins: terms, w, t, d, accumulator, one product, places, times."""
    return plan.block + row * plan.block_size


@part
def first_number(draw: Any, place: Any) -> Any:
    """Where the counter stands for the synapse at ``place``."""
    return np.uint32(np.uint32(draw) + np.uint32(np.uint32(place) * STRIDE))


@part
def rounding_up(first: Any, i: Any) -> Any:
    """What is added before the shift, 0 to 127, for synapse i from the first on."""
    x = np.uint32(first + np.uint32(np.uint32(i) * STRIDE))
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(16))) * FIRST)
    x = np.uint32(np.uint32(x ^ (x >> np.uint32(13))) * SECOND)
    return np.int32(np.uint32(x ^ (x >> np.uint32(16))) >> np.uint32(32 - LEARN_ACC_SHIFT))


@inlined
def _accumulate(plan: Any, store: Any, rules: Any, n: Any, variable: Any) -> None:
    """Add up what w, t or d of the n synapses in the block become, in the row of the accumulator.

    ``acc = clip(acc + clip((x >> right) << left))`` term by term, x being the product of its factors.
    """
    ints, terms = store.ints, rules.terms
    n_terms = plan.end_term - plan.first_term
    old = ints[scratch_row(plan, n_terms + variable) :]
    acc = ints[scratch_row(plan, n_terms + ACC_ROW) :]
    one = ints[scratch_row(plan, n_terms + ONE_ROW) :]
    for q in range(n):
        acc[q] = np.int32(old[q] << ACC_SHIFT)
    for k in range(plan.first_term, plan.end_term):
        live = ints[plan.live + k - plan.first_term] != 0 or plan.touch_all != 0
        if terms[k].variable != variable or not live:
            continue
        traces = ints[scratch_row(plan, k - plan.first_term) :]
        if terms[k].syn_0 < terms[k].syn_1:
            _multiply_factors(plan, store, rules, n, k, traces, one)
            _add_product(acc, one, n, terms[k])
        else:
            _add_product(acc, traces, n, terms[k])


@inlined
def _multiply_factors(
    plan: Any, store: Any, rules: Any, n: Any, k: Any, traces: Any, out: Any
) -> None:
    """Trace part of term k times its factors w, t and d."""
    n_terms = plan.end_term - plan.first_term
    for q in range(n):
        out[q] = traces[q]
    for f in range(rules.terms[k].syn_0, rules.terms[k].syn_1):
        factor = rules.factors[f]
        _multiply(out, store.ints[scratch_row(plan, n_terms + factor.code) :], n, factor)


@part
def _keep_sign(plan: Any, acc: Any, n: Any, variable: Any) -> None:
    """Cut the accumulator at 0 where the variable has one sign only."""
    if variable == CHANGE_W and plan.is_inhibitory:
        for q in range(n):
            acc[q] = min(acc[q], np.int32(0))
    elif variable == CHANGE_D or (variable == CHANGE_W and plan.is_excitatory):
        for q in range(n):
            acc[q] = max(acc[q], np.int32(0))


@part
def _multiply(one: Any, value: Any, n: Any, factor: Any) -> None:
    constant = np.int32(factor.constant)
    if factor.is_sign:
        for q in range(n):
            x = np.int32(value[q] + constant)
            one[q] = np.int32(one[q] * np.int32(np.int32(x > 0) - np.int32(x < 0)))
    else:
        limit = np.int32(1 << factor.width)
        low, high = np.int32(-limit), np.int32(limit - 1)
        for q in range(n):
            one[q] = np.int32(one[q] * clip(np.int32(value[q] + constant), low, high))


@part
def _add_product(acc: Any, product: Any, n: Any, term: Any) -> None:
    right, left = term.shift_right & np.int32(31), term.shift_left & np.int32(31)
    for q in range(n):
        x = np.int32(np.int32(product[q] >> right) << left)
        acc[q] = clip(np.int32(acc[q] + clip(x, LOW, HIGH)), LOW, HIGH)


@part
def _exists(plan: Any, variable: Any) -> Any:
    """Whether synapses have w, t or d."""
    if variable == CHANGE_W:
        return True
    return plan.uses_t != 0 if variable == CHANGE_T else plan.uses_d != 0


@part
def _first_value(plan: Any, variable: Any) -> Any:
    """Where w, t or d of the connection begin."""
    if variable == CHANGE_W:
        return plan.weights
    return plan.tags_t if variable == CHANGE_T else plan.tags_d


@part
def update(
    plan: Any, store: Any, rules: Any, n: Any, rounding: Any, base: Any, places: Any
) -> None:
    """Evaluate the rule on a block of n synapses, at ``base + places`` (none listed: from base on)."""
    ints, synapses = store.ints, store.synapses
    n_terms = plan.end_term - plan.first_term
    for variable in range(3):
        if _exists(plan, variable):
            first = _first_value(plan, variable) + base
            row = ints[scratch_row(plan, n_terms + variable) :]
            if places.size:
                for q in range(n):
                    row[q] = synapses[first + places[q]]
            else:
                for q in range(n):
                    row[q] = synapses[first + q]
    changed = 0
    for k in range(plan.first_term, plan.end_term):
        changed |= 1 << rules.terms[k].variable
    for variable in range(3):
        if changed & (1 << variable):
            _change(plan, store, rules, n, variable, rounding, base, places)


@inlined
def _round(
    plan: Any, new: Any, n: Any, rounding: Any, start: Any, places: Any, low: Any, high: Any
) -> None:
    """Values of n accumulators, rounded by one number or each by its own."""
    if plan.per_synapse:
        for q in range(n):
            up = rounding_up(start, places[q] if places.size else q)
            new[q] = clip(np.int32(np.int32(new[q] + up) >> ACC_SHIFT), low, high)
    else:
        up = np.int32(UNIT - 1 - rounding)
        for q in range(n):
            new[q] = clip(np.int32(np.int32(new[q] + up) >> ACC_SHIFT), low, high)


@inlined
def _change(
    plan: Any, store: Any, rules: Any, n: Any, variable: Any, rounding: Any, base: Any, places: Any
) -> None:
    """Write the new values of one variable."""
    ints, synapses = store.ints, store.synapses
    low, high = np.int32(0), np.int32(TAG_MAX)
    if variable == CHANGE_W:
        low, high = np.int32(plan.weight_low), np.int32(plan.weight_high)
    elif variable == CHANGE_T:
        low = np.int32(TAG_T_MIN)
    _accumulate(plan, store, rules, n, variable)
    new = ints[scratch_row(plan, plan.end_term - plan.first_term + ACC_ROW) :]
    _keep_sign(plan, new, n, variable)
    start = first_number(rounding + variable, base)
    _round(plan, new, n, rounding, start, places, low, high)
    first = _first_value(plan, variable) + base
    if variable == CHANGE_W and plan.is_sparse:
        for q in range(n):
            place = places[q] if places.size else q
            if ints[plan.alive + base + place]:
                synapses[first + place] = np.int16(new[q])
    elif places.size:
        for q in range(n):
            synapses[first + places[q]] = np.int16(new[q])
    else:
        for q in range(n):
            synapses[first + q] = np.int16(new[q])


@part
def fill_row(plan: Any, store: Any, rules: Any, j: Any, n: Any, targets: Any, due: Any) -> None:
    """Trace parts of all terms for the synapses from source j to ``targets`` (none listed: all)."""
    ints, terms = store.ints, rules.terms
    steps, n_post = plan.t_epoch, plan.n_post
    any_active = ints[plan.time_starts + steps + 1] > 0
    for k in range(plan.first_term, plan.end_term):
        out = ints[scratch_row(plan, k - plan.first_term) :]
        base = plan.post_parts + (k - plan.first_term) * (steps + 1) * n_post
        dependency, time = terms[k].dependency, np.int64(steps)
        live = (dependency == ON_U and due) or (dependency == ON_Y0 and any_active)
        if dependency == ON_X0:
            time = np.int64(ints[plan.pre_times + j])
            base += time * n_post
            live = time > 0
        ints[plan.live + k - plan.first_term] = live
        if not live:
            for q in range(n if plan.touch_all else 0):
                out[q] = 0
        elif dependency == ON_Y0 and steps > 1:
            _scale_by_time(plan, store, rules, k, j, n, targets)
        else:
            scale = pre_part(plan, store, rules, k, j, time)
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
def _scale_by_time(plan: Any, store: Any, rules: Any, k: Any, j: Any, n: Any, targets: Any) -> None:
    """Post-factors of a term with y0 times the pre-factors at the target's spike time."""
    ints, n_post = store.ints, plan.n_post
    out = ints[scratch_row(plan, k - plan.first_term) :]
    base = plan.post_parts + (k - plan.first_term) * (plan.t_epoch + 1) * n_post
    post = ints[base : base + n_post]
    at_time = ints[scratch_row(plan, plan.end_term - plan.first_term + TIMES_ROW) :]
    at_time[0] = 0
    for step in range(1, plan.t_epoch + 1):
        if ints[plan.time_starts + step] < ints[plan.time_starts + step + 1]:
            at_time[step] = pre_part(plan, store, rules, k, j, np.int64(step))
    spike = ints[plan.post_times : plan.post_times + plan.n_post]
    if targets.size:
        for q in range(n):
            out[q] = np.int32(post[targets[q]] * at_time[spike[targets[q]]])
    else:
        for q in range(n):
            out[q] = np.int32(post[q] * at_time[spike[q]])


@part
def fill_column(plan: Any, store: Any, rules: Any, i: Any) -> Any:
    """Trace parts for the synapses onto target i that no row has visited; returns their number."""
    ints, terms = store.ints, rules.terms
    n_terms = plan.end_term - plan.first_term
    places, sources = (
        ints[scratch_row(plan, n_terms + PLACES_ROW) :],
        ints[scratch_row(plan, n_terms + TIMES_ROW) :],
    )
    n = 0
    for q in range(ints[plan.post_pointers + i], ints[plan.post_pointers + i + 1]):
        j = ints[plan.post_sources + q]
        if not (plan.uses_x0 and ints[plan.pre_times + j] > 0):
            places[n] = ints[plan.post_synapses + q]
            sources[n] = j
            n += 1
    time = np.int64(ints[plan.post_times + i])
    for k in range(plan.first_term, plan.end_term):
        out = ints[scratch_row(plan, k - plan.first_term) :]
        live = terms[k].dependency == ON_Y0
        ints[plan.live + k - plan.first_term] = live
        if live:
            post = ints[
                plan.post_parts + (k - plan.first_term) * (plan.t_epoch + 1) * plan.n_post + i
            ]
            for q in range(n):
                out[q] = np.int32(
                    post * pre_part(plan, store, rules, k, np.int64(sources[q]), time)
                )
    return n
