"""Compiled learning phase: trace histories, products, accumulation, rounding, saturation.

Integers are those of lava-nc 0.10.0 ``LearningConnectionModelBitApproximate``. A synapse is visited only
if a product can differ from 0 there: rows whose source spiked in the epoch, and targets that spiked; or
all where products depend on ``u``. Skipping the others is exact: without a product the accumulator
``w << 7`` has no fraction, so that rounding leaves w alone. Only weights or tags that start outside their
range are clipped by the first phase wherever they are (TOUCH_ALL).

Arguments that belong together travel as tuples:
    store: (ints, synapses): all parts of all connections, see ``kernels_plan``.
    rules: (terms, factors, decay, impulses, filters, filter_impulses) of all connections.
    draws: (x_decay, y_decay, x_impulse, y_impulse, rounding) of this phase.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, part
from biril_nm.hardware_sim.kernels.learning.plan import (
    ACTIVE_POST,
    DECIMATION,
    IS_ADDITIVE,
    IS_PAIR,
    IS_SPARSE,
    LUT_TRACE,
    N_POST,
    N_PRE,
    PAIR_X0,
    POINTERS,
    PRE_0,
    PRE_1,
    TARGETS,
    TERM_0,
    TERM_1,
    TOUCH_ALL,
    TX,
    TY,
    USES_U,
    USES_X0,
    USES_Y0,
)
from biril_nm.hardware_sim.kernels.learning.products import (
    PLACES_ROW,
    fill_column,
    fill_row,
    scratch_row,
    update,
)
from biril_nm.hardware_sim.kernels.learning.short_cuts import (
    finish_x0,
    mask_targets,
    pair_row,
    shift_rows,
    shift_table,
)
from biril_nm.hardware_sim.kernels.learning.traces import histories, list_active_post, post_parts

__all__ = ["learn"]


@part
def _learn_rows(p: Any, store: Any, rules: Any, rounding: Any, n_active: Any, due: Any) -> None:
    """Row by row: the whole row where the source spiked, else, of a Dense, targets that spiked."""
    ints = store[0]
    n_post = p[N_POST]
    active = ints[p[ACTIVE_POST] : p[ACTIVE_POST] + n_active]
    everywhere = p[TOUCH_ALL] or (p[USES_U] and due)
    uses_x0, pair = p[USES_X0], p[IS_PAIR] and not everywhere
    partly = p[USES_Y0] and n_active > 0 and not p[IS_SPARSE] and not p[IS_ADDITIVE]
    for j in range(p[N_PRE]):
        whole = everywhere or (uses_x0 and ints[p[TX] + j] > 0)
        if not (whole or partly):
            continue
        if whole and pair and not p[IS_SPARSE]:
            pair_row(p, store, rules, j, rounding)
            continue
        base, n = np.int64(j * n_post), np.int64(n_post)
        targets, places = ints[0:0], ints[0:0]
        if p[IS_SPARSE]:
            base = np.int64(ints[p[POINTERS] + j])
            n = np.int64(ints[p[POINTERS] + j + 1]) - base
            targets = ints[p[TARGETS] + base : p[TARGETS] + base + n]
            if n == 0:
                continue
        elif not whole:
            targets, places, n = active, active, np.int64(n_active)
        fill_row(p, store, rules, j, n, targets, due)
        update(p, store, rules, n, rounding, base, places)


@part
def _learn_columns(p: Any, store: Any, rules: Any, rounding: Any, n_active: Any) -> None:
    """Of a Sparse: targets that spiked, without the rows that are done."""
    ints = store[0]
    for q in range(n_active):
        n = fill_column(p, store, rules, ints[p[ACTIVE_POST] + q])
        if n:
            first = scratch_row(p, p[TERM_1] - p[TERM_0] + PLACES_ROW)
            update(p, store, rules, n, rounding, 0, ints[first : first + n])


@part
def _short_cuts(p: Any, store: Any, rules: Any, rounding: Any, n_active: Any) -> None:
    """What additive rules prepare for whole rows, and the rows of silent sources."""
    if n_active and p[IS_ADDITIVE]:
        mask_targets(p, store)
        if p[LUT_TRACE]:
            shift_table(p, store, rules, rounding)
        shift_rows(p, store, rules, rounding)
    if p[IS_PAIR] and rules[0][p[PAIR_X0], PRE_0] == rules[0][p[PAIR_X0], PRE_1]:
        finish_x0(p, store, rules)


@part
def learn(p: Any, c: Any, store: Any, rules: Any, draws: Any, phase: Any) -> None:
    """One learning phase of connection c with plan p; ``phase`` counts from 1."""
    ints = store[0]
    histories(p, c, store, rules, draws)
    n_active = list_active_post(p, store)
    post_parts(p, store, rules, n_active)
    due = (phase % (1 << p[DECIMATION])) == 0
    rounding = np.int32(draws[4])
    everywhere = p[TOUCH_ALL] or (p[USES_U] and due)
    if not p[IS_SPARSE] and not everywhere:
        _short_cuts(p, store, rules, rounding, n_active)
    _learn_rows(p, store, rules, rounding, n_active, due)
    if p[IS_SPARSE] and p[USES_Y0] and not everywhere:
        _learn_columns(p, store, rules, rounding, n_active)
    p[TOUCH_ALL] = 0
    clear(ints[p[TX] : p[TX] + p[N_PRE]])
    clear(ints[p[TY] : p[TY] + p[N_POST]])
