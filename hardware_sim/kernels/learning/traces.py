"""Compiled traces: history within an epoch, and the factors that products take from it.

Integers are those of lava-nc 0.10.0 ``LearningConnectionModelBitApproximate``; arguments are described in
:mod:`biril_nm.hardware_sim.kernels.learning.phase`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, part
from biril_nm.hardware_sim.kernels.learning.plan import (
    ACTIVE_POST,
    CODE,
    CONSTANT,
    DECAY_TABLE,
    DEPENDENCY,
    GROUP_START,
    IS_3F,
    IS_SIGN,
    MANTISSA,
    N_POST,
    N_PRE,
    ON_X0,
    ON_Y0,
    POST_0,
    POST_1,
    POST_PARTS,
    PRE_0,
    PRE_1,
    T_EPOCH,
    TERM_0,
    TERM_1,
    TX,
    TY,
    WIDTH,
    X_HISTORY,
    X_TRACES,
    Y_HISTORY,
    Y_TRACES,
)
from biril_nm.loihi import TRACE_MAX

__all__ = ["clip", "factor_value", "histories", "list_active_post", "post_parts", "pre_part"]

N_X, N_Y = 2, 3
TRACE_TOP = np.int32(TRACE_MAX)
N_VALUES = TRACE_MAX + 1


@part
def clip(x: Any, low: Any, high: Any) -> Any:
    """``x`` within ``low .. high``."""
    return high if x > high else (low if x < low else x)


@part
def histories(p: Any, c: Any, store: Any, rules: Any, draws: Any) -> None:
    """Traces at each step of the epoch, from those at its start; the last are stored."""
    ints, decay, impulses = store[0], rules[2], rules[3]
    steps, n_pre, n_post = p[T_EPOCH], p[N_PRE], p[N_POST]
    table = ints[p[DECAY_TABLE] : p[DECAY_TABLE] + N_VALUES]
    for a in range(N_X):
        if impulses[c, a, 2]:
            add = np.int32(impulses[c, a, 0] + (draws[2] < impulses[c, a, 1]))
            _decay_table(table, decay[c, a], draws[0])
            stored = ints[p[X_TRACES] + a * n_pre : p[X_TRACES] + (a + 1) * n_pre]
            history = ints[p[X_HISTORY] + a * (steps + 1) * n_pre :]
            _history(stored, history, ints[p[TX] : p[TX] + n_pre], steps, table, add, True)
    for a in range(N_Y):
        if impulses[c, N_X + a, 2]:
            add = np.int32(impulses[c, N_X + a, 0] + (draws[3] < impulses[c, N_X + a, 1]))
            _decay_table(table, decay[c, N_X + a], draws[1])
            stored = ints[p[Y_TRACES] + a * n_post : p[Y_TRACES] + (a + 1) * n_post]
            history = ints[p[Y_HISTORY] + a * (steps + 1) * n_post :]
            spike = ints[p[TY] : p[TY] + n_post]
            _history(stored, history, spike, steps, table, add, not p[IS_3F])


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
    x = np.int32(value + factor[CONSTANT])
    if factor[IS_SIGN]:
        return np.int32((1 if x > 0 else 0) - (1 if x < 0 else 0))
    limit = np.int32(1 << factor[WIDTH])
    return clip(x, np.int32(-limit), np.int32(limit - 1))


@part
def pre_part(p: Any, store: Any, rules: Any, k: Any, j: Any, time: Any) -> Any:
    """Mantissa times the pre-factors of product k for source j at a step of the epoch."""
    ints, terms, factors = store[0], rules[0], rules[1]
    result = np.int32(terms[k, MANTISSA])
    for f in range(terms[k, PRE_0], terms[k, PRE_1]):
        a = factors[f, CODE]
        if a == 0:
            value = np.int32(1 if ints[p[TX] + j] > 0 else 0)
        else:
            row = (a - 1) * (p[T_EPOCH] + 1) + time
            value = ints[p[X_HISTORY] + row * p[N_PRE] + j]
        result = np.int32(result * factor_value(value, factors[f]))
    return result


@part
def _post_row(p: Any, ints: Any, factors: Any, begin: Any, end: Any, out: Any, time: Any) -> None:
    """Product of post-factors for all targets at a step of the epoch."""
    n_post = p[N_POST]
    for i in range(n_post):
        out[i] = 1
    for f in range(begin, end):
        a = factors[f, CODE]
        if a == 0:
            spike = ints[p[TY] : p[TY] + n_post]
            for i in range(n_post):
                value = np.int32(1 if spike[i] > 0 else 0)
                out[i] = np.int32(out[i] * factor_value(value, factors[f]))
        else:
            first = p[Y_HISTORY] + ((a - 1) * (p[T_EPOCH] + 1) + time) * n_post
            trace = ints[first : first + n_post]
            for i in range(n_post):
                out[i] = np.int32(out[i] * factor_value(trace[i], factors[f]))


@part
def _post_part(p: Any, ints: Any, factors: Any, begin: Any, end: Any, i: Any) -> Any:
    """Product of post-factors for target i at its own spike."""
    result = np.int32(1)
    time = ints[p[TY] + i]
    for f in range(begin, end):
        a = factors[f, CODE]
        value = np.int32(1)
        if a > 0:
            row = (a - 1) * (p[T_EPOCH] + 1) + time
            value = ints[p[Y_HISTORY] + row * p[N_POST] + i]
        result = np.int32(result * factor_value(value, factors[f]))
    return result


@part
def post_parts(p: Any, store: Any, rules: Any, n_active: Any) -> None:
    """Post-factors of all products: per spike time for x0, at the own time for y0, at the end for u."""
    ints, terms, factors = store[0], rules[0], rules[1]
    steps, n_post = p[T_EPOCH], p[N_POST]
    for k in range(p[TERM_0], p[TERM_1]):
        base = p[POST_PARTS] + (k - p[TERM_0]) * (steps + 1) * n_post
        begin, end = terms[k, POST_0], terms[k, POST_1]
        if terms[k, DEPENDENCY] == ON_Y0:
            out = ints[base : base + n_post]
            clear(out)
            for q in range(n_active):
                i = ints[p[ACTIVE_POST] + q]
                out[i] = _post_part(p, ints, factors, begin, end, i)
        elif terms[k, DEPENDENCY] == ON_X0:
            for time in range(1, steps + 1):
                first = base + time * n_post
                _post_row(p, ints, factors, begin, end, ints[first : first + n_post], time)
        else:
            _post_row(p, ints, factors, begin, end, ints[base : base + n_post], steps)


@part
def list_active_post(p: Any, store: Any) -> Any:
    """Targets that spiked, ordered by spike time; returns their number."""
    ints = store[0]
    active = ints[p[ACTIVE_POST] : p[ACTIVE_POST] + p[N_POST] + 1]
    start = ints[p[GROUP_START] : p[GROUP_START] + p[T_EPOCH] + 2]
    spike = ints[p[TY] : p[TY] + p[N_POST]]
    n = 0
    start[0] = 0
    for time in range(1, p[T_EPOCH] + 1):
        start[time] = n
        for i in range(p[N_POST]):
            active[n] = np.int32(i)
            n += spike[i] == time
    start[p[T_EPOCH] + 1] = n
    return n
