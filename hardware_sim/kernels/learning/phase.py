"""Compiled learning phase: trace histories, products, accumulation, rounding, saturation.

Integers are those of lava-nc 0.10.0 ``LearningConnectionModelBitApproximate``. A synapse is visited only
if a product can differ from 0 there: rows whose source spiked in the epoch, and targets that spiked; or
all where products depend on ``u``, except rows whose source has no trace. Skipping the others is exact:
without a product the accumulator ``w << 7`` has no fraction, so that rounding leaves w alone. Only weights or
tags that start outside their range are clipped by the first phase wherever they are (``touch_all``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, inlined, part
from biril_nm.hardware_sim.kernels.learning.plan import ON_U
from biril_nm.hardware_sim.kernels.learning.products import (
    PLACES_ROW,
    fill_column,
    fill_row,
    scratch_row,
    update,
)
from biril_nm.hardware_sim.kernels.learning.short_cuts import (
    delta_rows,
    finish_x0,
    mask_targets,
    pair_row,
    shift_rows,
    shift_table,
)
from biril_nm.hardware_sim.kernels.learning.traces import (
    histories,
    list_active_post,
    post_parts,
    pre_part,
)

__all__ = ["learning_phase"]


@part
def _has_trace(plan: Any, store: Any, rules: Any, j: Any) -> Any:
    """Whether a product with u can differ from 0 for source j."""
    for k in range(plan.first_term, plan.end_term):
        on_u = rules.terms[k].dependency == ON_U
        if on_u and pre_part(plan, store, rules, k, j, plan.t_epoch) != 0:
            return True
    return False


@part
def _learn_rows(plan: Any, store: Any, rules: Any, rounding: Any, n_active: Any, due: Any) -> None:
    """Row by row: the whole row where the source spiked, else, of a Dense, targets that spiked."""
    ints = store.ints
    n_post = plan.n_post
    active = ints[plan.active_post : plan.active_post + n_active]
    everywhere = plan.touch_all or (plan.uses_u and due)
    uses_x0, pair = plan.uses_x0, plan.is_pair and not everywhere
    partly = plan.uses_y0 and n_active > 0 and not plan.is_sparse and not plan.is_additive
    silent = plan.uses_u and not (plan.touch_all or uses_x0 or (plan.uses_y0 and n_active > 0))
    for j in range(plan.n_pre):
        whole = everywhere or (uses_x0 and ints[plan.pre_times + j] > 0)
        if not (whole or partly) or (silent and not _has_trace(plan, store, rules, j)):
            continue
        if whole and pair and not plan.is_sparse:
            pair_row(plan, store, rules, j, rounding)
            continue
        base, n = np.int64(j * n_post), np.int64(n_post)
        targets, places = ints[0:0], ints[0:0]
        if plan.is_sparse:
            base = np.int64(ints[plan.pointers + j])
            n = np.int64(ints[plan.pointers + j + 1]) - base
            targets = ints[plan.targets + base : plan.targets + base + n]
            if n == 0:
                continue
        elif not whole:
            targets, places, n = active, active, np.int64(n_active)
        fill_row(plan, store, rules, j, n, targets, due)
        update(plan, store, rules, n, rounding, base, places)


@part
def _learn_columns(plan: Any, store: Any, rules: Any, rounding: Any, n_active: Any) -> None:
    """Of a Sparse: targets that spiked, without the rows that are done."""
    ints = store.ints
    for q in range(n_active):
        n = fill_column(plan, store, rules, ints[plan.active_post + q])
        if n:
            first = scratch_row(plan, plan.end_term - plan.first_term + PLACES_ROW)
            update(plan, store, rules, n, rounding, np.int64(0), ints[first : first + n])


@inlined
def _short_cuts(plan: Any, store: Any, rules: Any, rounding: Any, n_active: Any) -> None:
    """What additive rules prepare for whole rows, and the rows of silent sources."""
    if n_active and plan.is_additive:
        mask_targets(plan, store)
        if plan.table_trace:
            shift_table(plan, store, rules, rounding)
        shift_rows(plan, store, rules, rounding)
    if plan.is_pair and rules.terms[plan.pair_x0].pre_0 == rules.terms[plan.pair_x0].pre_1:
        finish_x0(plan, store, rules)


@inlined
def _learn(plan: Any, store: Any, rules: Any, rounding: Any, due: Any) -> None:
    """Evaluate all products that count in this phase."""
    n_active = list_active_post(plan, store)
    post_parts(plan, store, rules, n_active)
    everywhere = plan.touch_all or (plan.uses_u and due)
    if plan.is_delta and not plan.is_sparse and not plan.touch_all:
        delta_rows(plan, store, rules, rounding)
        return
    if not plan.is_sparse and not everywhere:
        _short_cuts(plan, store, rules, rounding, n_active)
    _learn_rows(plan, store, rules, rounding, n_active, due)
    if plan.is_sparse and plan.uses_y0 and not everywhere:
        _learn_columns(plan, store, rules, rounding, n_active)
    plan.touch_all = 0


@inlined
def learning_phase(plan: Any, c: Any, store: Any, rules: Any, draws: Any, phase: Any) -> None:
    """One learning phase of connection c with plan p; ``phase`` counts from 1."""
    ints = store.ints
    due = (phase % (1 << plan.decimation)) == 0
    used = plan.touch_all or plan.uses_x0 or plan.uses_y0 or (plan.uses_u and due)
    histories(plan, c, store, rules, draws, used)
    if used:
        _learn(plan, store, rules, np.int32(draws.rounding), due)
    clear(ints[plan.pre_times : plan.pre_times + plan.n_pre])
    clear(ints[plan.post_times : plan.post_times + plan.n_post])
