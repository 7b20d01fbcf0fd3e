"""Compiled traces: history within an epoch, and the factors that products take from it.

Integers are those of lava-nc 0.10.0 ``LearningConnectionModelBitApproximate``; arguments are described in
:mod:`biril_nm.hardware_sim.kernels.learning.phase`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, part
from biril_nm.hardware_sim.kernels.learning.plan import N_X, N_Y, ON_X0, ON_Y0
from biril_nm.loihi import TRACE_MAX

__all__ = [
    "N_VALUES",
    "TRACE_TOP",
    "clip",
    "factor_value",
    "histories",
    "list_active_post",
    "post_parts",
    "pre_part",
]

TRACE_TOP = np.int32(TRACE_MAX)
N_VALUES = TRACE_MAX + 1


@part
def clip(x: Any, low: Any, high: Any) -> Any:
    """``x`` within ``low .. high``."""
    return high if x > high else (low if x < low else x)


@part
def histories(plan: Any, c: Any, store: Any, rules: Any, draws: Any, used: Any) -> None:
    """Traces at each step of the epoch, from those at its start; the last are stored.

    Those of targets that come from outside are not, and left out where no product is ``used``.
    """
    ints, decay, impulses = store.ints, rules.decay, rules.impulses
    steps, n_pre, n_post = plan.t_epoch, plan.n_pre, plan.n_post
    table = ints[plan.decay_table : plan.decay_table + N_VALUES]
    for a in range(N_X):
        if impulses[c, a].exists:
            add = np.int32(impulses[c, a].whole + (draws.x_impulse < impulses[c, a].fraction))
            _decay_table(table, decay[c, a], draws.x_decay)
            stored = ints[plan.x_traces + a * n_pre : plan.x_traces + (a + 1) * n_pre]
            history = ints[plan.x_history + a * (steps + 1) * n_pre :]
            _history(
                stored,
                history,
                ints[plan.pre_times : plan.pre_times + n_pre],
                steps,
                table,
                add,
                plan.is_3f >= 0,
            )
    for a in range(N_Y if used or not plan.is_3f else 0):
        if impulses[c, N_X + a].exists:
            add = np.int32(
                impulses[c, N_X + a].whole + (draws.y_impulse < impulses[c, N_X + a].fraction)
            )
            _decay_table(table, decay[c, N_X + a], draws.y_decay)
            stored = ints[plan.y_traces + a * n_post : plan.y_traces + (a + 1) * n_post]
            history = ints[plan.y_history + a * (steps + 1) * n_post :]
            spike = ints[plan.post_times : plan.post_times + n_post]
            _history(stored, history, spike, steps, table, add, not plan.is_3f)


@part
def _decay_table(table: Any, decay: Any, random: Any) -> None:
    """``floor(z) + (random < frac(z))`` with ``z = exp(-1/tau) k``, for all k."""
    for value in range(N_VALUES):
        table[value] = np.int32(decay[0, value]) + np.int32(random < decay[1, value])


@part
def _history(
    stored: Any, history: Any, spike: Any, steps: Any, table: Any, add: Any, store: Any
) -> None:
    """``h[k] = table[h[k - 1]]``, plus the impulse of neurons that spiked in step k."""
    n = spike.size
    for j in range(n):
        history[j] = stored[j]
    for k in range(1, steps + 1):
        before, now = history[(k - 1) * n : k * n], history[k * n : (k + 1) * n]
        for j in range(n):
            value = np.int32(table[np.uint64(before[j])])
            more = min(np.int32(value + add), TRACE_TOP)
            now[j] = more if spike[j] == k else value
    if store:
        last = history[steps * n : (steps + 1) * n]
        for j in range(n):
            stored[j] = last[j]


@part
def factor_value(value: Any, factor: Any) -> Any:
    """A factor with its constant, as a sign if asked, clipped to its width."""
    x = np.int32(value + factor.constant)
    if factor.is_sign:
        return np.int32((1 if x > 0 else 0) - (1 if x < 0 else 0))
    limit = np.int32(1 << factor.width)
    return clip(x, np.int32(-limit), np.int32(limit - 1))


@part
def pre_part(plan: Any, store: Any, rules: Any, k: Any, j: Any, time: Any) -> Any:
    """Mantissa times the pre-factors of product k for source j at a step of the epoch."""
    ints, terms, factors = store.ints, rules.terms, rules.factors
    result = np.int32(terms[k].mantissa)
    for f in range(terms[k].pre_0, terms[k].pre_1):
        a = factors[f].code
        if a == 0:
            value = np.int32(1 if ints[plan.pre_times + j] > 0 else 0)
        else:
            row = (a - 1) * (plan.t_epoch + 1) + time
            value = ints[plan.x_history + row * plan.n_pre + j]
        result = np.int32(result * factor_value(value, factors[f]))
    return result


@part
def _post_row(
    plan: Any, ints: Any, factors: Any, begin: Any, end: Any, out: Any, time: Any
) -> None:
    """Product of post-factors for all targets at a step of the epoch."""
    n_post = plan.n_post
    for i in range(n_post):
        out[i] = 1
    for f in range(begin, end):
        a = factors[f].code
        if a == 0:
            spike = ints[plan.post_times : plan.post_times + n_post]
            for i in range(n_post):
                value = np.int32(1 if spike[i] > 0 else 0)
                out[i] = np.int32(out[i] * factor_value(value, factors[f]))
        else:
            first = plan.y_history + ((a - 1) * (plan.t_epoch + 1) + time) * n_post
            trace = ints[first : first + n_post]
            for i in range(n_post):
                out[i] = np.int32(out[i] * factor_value(trace[i], factors[f]))


@part
def _post_part(plan: Any, ints: Any, factors: Any, begin: Any, end: Any, i: Any) -> Any:
    """Product of post-factors for target i at its own spike."""
    result = np.int32(1)
    time = ints[plan.post_times + i]
    for f in range(begin, end):
        a = factors[f].code
        value = np.int32(1)
        if a > 0:
            row = (a - 1) * (plan.t_epoch + 1) + time
            value = ints[plan.y_history + row * plan.n_post + i]
        result = np.int32(result * factor_value(value, factors[f]))
    return result


@part
def post_parts(plan: Any, store: Any, rules: Any, n_active: Any) -> None:
    """Post-factors of all products: per spike time for x0, at the own time for y0, at the end for u."""
    ints, terms, factors = store.ints, rules.terms, rules.factors
    steps, n_post = plan.t_epoch, plan.n_post
    for k in range(plan.first_term, plan.end_term):
        base = plan.post_parts + (k - plan.first_term) * (steps + 1) * n_post
        begin, end = terms[k].post_0, terms[k].post_1
        if terms[k].dependency == ON_Y0:
            out = ints[base : base + n_post]
            clear(out)
            for q in range(n_active):
                i = ints[plan.active_post + q]
                out[i] = _post_part(plan, ints, factors, begin, end, i)
        elif terms[k].dependency == ON_X0:
            for time in range(1, steps + 1):
                first = base + time * n_post
                _post_row(plan, ints, factors, begin, end, ints[first : first + n_post], time)
        else:
            _post_row(plan, ints, factors, begin, end, ints[base : base + n_post], steps)


@part
def list_active_post(plan: Any, store: Any) -> Any:
    """Targets that spiked, ordered by spike time; returns their number."""
    ints = store.ints
    active = ints[plan.active_post : plan.active_post + plan.n_post + 1]
    start = ints[plan.time_starts : plan.time_starts + plan.t_epoch + 2]
    spike = ints[plan.post_times : plan.post_times + plan.n_post]
    n = 0
    start[0] = 0
    for time in range(1, plan.t_epoch + 1):
        start[time] = n
        for i in range(plan.n_post):
            active[n] = np.int32(i)
            n += spike[i] == time
    start[plan.t_epoch + 1] = n
    return n
