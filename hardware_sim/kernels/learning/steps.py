"""Compiled loop over the steps of nodes that learn: receive, advance, deliver, learn, record.

A group is a set of neuron nodes that wait for each other: the targets of plastic connections, and whatever
feeds back into them or modulates them. Order within one step, as lava-nc 0.10.0 has it: connections deliver
what they summed in the step before; neurons advance; connections sum this step's spikes with the
weights of before learning; pre-spikes, post-spikes and modulators reach the traces; in the last step of
an epoch weights change.

Arguments that belong together travel as tuples:
    nodes: (table, keep_u, keep_v, bias, vth), see ``kernels_plan`` for the table.
    cells: (a, s, past, u, v): external input (steps, n), spikes (past + steps, n), their offset, state (n,).
    links: (table, pointers, targets, weights, sums): static connections within the group.
    plastic: (plans, store, rules), see ``kernels_learning``.
    outside: (values, uniform, integer): sources and modulators from outside (steps, n), and the random
        streams per connection and step.
    probes: (u, v, synapses, traces) per step; without rows where nothing is recorded.
    clock: (n_steps, t0, period, active), see ``kernels_neuron``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import clear, kernel, part
from biril_nm.hardware_sim.kernels.learning.phase import learn
from biril_nm.hardware_sim.kernels.learning.plan import (
    ACTIVE_PRE,
    BUFFER,
    INSIDE,
    IS_3F,
    IS_SPARSE,
    LEFT,
    LINK_LAG,
    LINK_LEFT,
    LINK_MODULO,
    LINK_N_POST,
    LINK_N_PRE,
    LINK_POINTERS,
    LINK_RIGHT,
    LINK_SOURCE,
    LINK_SYNAPSES,
    LINK_TARGET,
    MOD_COLUMNS,
    MOD_EXTERNAL,
    MOD_KIND,
    MOD_NONE,
    MOD_PLACES,
    MODULATORS,
    N_POST,
    N_PRE,
    NODE_LATENCY,
    NODE_N_REGISTERS,
    NODE_REGISTERS,
    NODE_SIZE,
    NODE_START,
    NODE_WIDE,
    POINTERS,
    RIGHT,
    SOURCE,
    T_EPOCH,
    TARGET,
    TARGETS,
    TX,
    TY,
    WEIGHTS,
    X_TRACES,
    Y_TRACES,
)
from biril_nm.hardware_sim.kernels.neuron import step
from biril_nm.hardware_sim.kernels.records import Registers
from biril_nm.loihi import CONV_SUM_BITS, TRACE_MAX

__all__ = ["run_group"]

N_X, N_Y = 2, 3
TRACE_TOP = np.int32(TRACE_MAX)
CONV_HALF = np.int64(1 << (CONV_SUM_BITS - 1))
CONV_MASK = np.int64((1 << CONV_SUM_BITS) - 1)


@part
def _receive_links(t: Any, t0: Any, a: Any, cells: Any, links: Any) -> None:
    """Static connections within the group: each sum is shifted as a whole, then added."""
    table, pointers, targets, weights, sums = links
    s, past = cells[1], cells[2]
    for k in range(table.shape[0]):
        link = table[k]
        row = past + t - link[LINK_LAG]
        if t0 + t < link[LINK_LAG]:
            continue
        total = sums[: link[LINK_N_POST]]
        clear(total)
        for j in range(link[LINK_N_PRE]):
            if s[row, link[LINK_SOURCE] + j]:
                first = link[LINK_POINTERS] + j
                for q in range(pointers[first], pointers[first + 1]):
                    place = link[LINK_SYNAPSES] + q
                    total[targets[place]] += weights[place]
        for i in range(total.size):
            value = np.int64(np.int32((np.int64(total[i]) << link[LINK_LEFT]) >> link[LINK_RIGHT]))
            if link[LINK_MODULO]:
                value = ((value + CONV_HALF) & CONV_MASK) - CONV_HALF
            a[link[LINK_TARGET] + i] = np.int32(a[link[LINK_TARGET] + i] + value)


@part
def _receive_plastic(a: Any, plans: Any, ints: Any) -> None:
    """What plastic connections summed in the step before."""
    for c in range(plans.shape[0]):
        p = plans[c]
        buffer = ints[p[BUFFER] : p[BUFFER] + p[N_POST]]
        target = a[p[TARGET] : p[TARGET] + p[N_POST]]
        for i in range(buffer.size):
            target[i] = np.int32(target[i] + buffer[i])


@part
def _advance(t: Any, a: Any, nodes: Any, cells: Any, probes: Any, clock: Any) -> None:
    """One step of all nodes; see ``kernels_neuron.advance_row`` for clearing and rest."""
    table, keep_u, keep_v, bias, vth = nodes
    spikes = cells[1][cells[2] + t]
    _, t0, period, active = clock
    for k in range(table.shape[0]):
        n0, n1 = table[k, NODE_START], table[k, NODE_START] + table[k, NODE_SIZE]
        r0 = table[k, NODE_REGISTERS]
        r1 = r0 + table[k, NODE_N_REGISTERS]
        u, v, s = cells[3][n0:n1], cells[4][n0:n1], spikes[n0:n1]
        age = (t0 + t - table[k, NODE_LATENCY]) % period
        rest = active > 0 and (age >= active or t0 + t < table[k, NODE_LATENCY])
        if age == 0 or rest:
            clear(u)
            clear(v)
        if rest:
            clear(s)
        else:
            registers = Registers(
                keep_u[r0:r1],
                keep_v[r0:r1],
                bias[r0:r1],
                vth[r0:r1],
                table[k, NODE_WIDE] != 0,
            )
            step(a[n0:n1], u, v, s, registers)
    if probes[0].size:
        for i in range(cells[3].size):
            probes[0][t, i] = cells[3][i]
    if probes[1].size:
        for i in range(cells[4].size):
            probes[1][t, i] = cells[4][i]


@part
def _list(row: Any, out: Any) -> Any:
    n = 0
    for j in range(row.size):
        out[n] = np.int32(j)
        n += row[j] != 0
    return n


@part
def _sum_spikes(p: Any, store: Any, row: Any, inside: Any) -> Any:
    """Fill the buffer with ``(W s) << left >> right``; returns the number of active sources."""
    ints, synapses = store
    active = ints[p[ACTIVE_PRE] : p[ACTIVE_PRE] + p[N_PRE] + 1]
    total = ints[p[BUFFER] : p[BUFFER] + p[N_POST]]
    n = _list(inside, active) if p[INSIDE] else _list(row, active)
    clear(total)
    for q in range(n):
        j = np.int64(active[q])
        payload = np.int32(1) if p[INSIDE] else np.int32(row[j])
        if p[IS_SPARSE]:
            for k in range(ints[p[POINTERS] + j], ints[p[POINTERS] + j + 1]):
                i = ints[p[TARGETS] + k]
                weight = np.int32(synapses[p[WEIGHTS] + k])
                total[i] = np.int32(total[i] + np.int32(payload * weight))
        else:
            weights = synapses[p[WEIGHTS] + j * p[N_POST] : p[WEIGHTS] + (j + 1) * p[N_POST]]
            if payload == 1:
                for i in range(weights.size):
                    total[i] = np.int32(total[i] + np.int32(weights[i]))
            else:
                for i in range(weights.size):
                    total[i] = np.int32(total[i] + np.int32(payload * np.int32(weights[i])))
    if p[LEFT] or p[RIGHT]:
        for i in range(total.size):
            total[i] = np.int32((np.int64(total[i]) << p[LEFT]) >> p[RIGHT])
    return n


@part
def _pre_spikes(p: Any, c: Any, n: Any, now: Any, ints: Any, rules: Any) -> None:
    """Note spike times; a second spike in the epoch adds its impulse at once, any fraction rounded up."""
    n_pre = p[N_PRE]
    for q in range(n):
        j = ints[p[ACTIVE_PRE] + q]
        if ints[p[TX] + j] > 0:
            for a in range(N_X):
                add = rules[3][c, a, 0] + (rules[3][c, a, 1] > 0)
                place = p[X_TRACES] + a * n_pre + j
                ints[place] = min(np.int32(ints[place] + add), TRACE_TOP)
        ints[p[TX] + j] = now


@part
def _post_spikes(p: Any, c: Any, s: Any, now: Any, draw: Any, ints: Any, rules: Any) -> None:
    """The same for targets, with a random number for the fraction."""
    n_post = p[N_POST]
    for i in range(n_post):
        if s[i]:
            if ints[p[TY] + i] > 0 and not p[IS_3F]:
                for a in range(N_Y):
                    impulse = rules[3][c, N_X + a]
                    add = impulse[0] + (draw < impulse[1])
                    place = p[Y_TRACES] + a * n_post + i
                    ints[place] = min(np.int32(ints[place] + add), TRACE_TOP)
            ints[p[TY] + i] = now


@part
def _modulate(p: Any, c: Any, values: Any, spikes: Any, ints: Any, rules: Any) -> None:
    """Third factors of this step: values as they are, or spikes through the host's filter."""
    n_post = p[N_POST]
    for a in range(N_Y):
        first = MODULATORS + a * MOD_COLUMNS
        kind, places = p[first + MOD_KIND], p[first + MOD_PLACES]
        if kind == MOD_NONE:
            continue
        y = ints[p[Y_TRACES] + a * n_post : p[Y_TRACES] + (a + 1) * n_post]
        impulse = rules[5][c, a]
        for i in range(n_post):
            place = ints[places + i]
            value = values[place] if kind == MOD_EXTERNAL else np.int32(spikes[place])
            if impulse >= 0:
                value = rules[4][c, a, y[i]] + (impulse if value else np.int32(0))
                value = min(np.int32(value), TRACE_TOP)
            y[i] = value


@part
def _record(t: Any, plans: Any, store: Any, probes: Any) -> None:
    """Synapses (w, t, d of each connection) and traces (x1, x2, y1, y2, y3) after the step."""
    ints, synapses = store
    if probes[2].size:
        for q in range(probes[2].shape[1]):
            probes[2][t, q] = synapses[q]
    if probes[3].size:
        n = 0
        for c in range(plans.shape[0]):
            p = plans[c]
            for q in range(N_X * p[N_PRE]):
                probes[3][t, n] = ints[p[X_TRACES] + q]
                n += 1
            for q in range(N_Y * p[N_POST]):
                probes[3][t, n] = ints[p[Y_TRACES] + q]
                n += 1


@kernel
def run_group(
    nodes: Any, cells: Any, links: Any, plastic: Any, outside: Any, probes: Any, clock: Any
) -> int:
    """Run all steps of a chunk; returns the spikes of the group."""
    plans, store, rules = plastic
    values, uniform, integer = outside
    n_steps, t0 = clock[0], clock[1]
    count = 0
    for t in range(n_steps):
        a = cells[0][t]
        _receive_links(t, t0, a, cells, links)
        _receive_plastic(a, plans, store[0])
        _advance(t, a, nodes, cells, probes, clock)
        spikes = cells[1][cells[2] + t]
        for i in range(spikes.size):
            count += spikes[i]
        for c in range(plans.shape[0]):
            p = plans[c]
            source = spikes[p[SOURCE] : p[SOURCE] + p[N_PRE]]
            row = values[t, p[SOURCE] : p[SOURCE] + p[N_PRE]]
            n_active = _sum_spikes(p, store, row, source)
            now = np.int32((t0 + t) % p[T_EPOCH] + 1)
            _pre_spikes(p, c, n_active, now, store[0], rules)
            target = spikes[p[TARGET] : p[TARGET] + p[N_POST]]
            _post_spikes(p, c, target, now, integer[c, t, 2], store[0], rules)
            if p[IS_3F]:
                _modulate(p, c, values[t], spikes, store[0], rules)
            if now == p[T_EPOCH]:
                draws = (
                    uniform[c, t, 0],
                    uniform[c, t, 1],
                    integer[c, t, 0],
                    integer[c, t, 1],
                    integer[c, t, 3],
                )
                learn(p, c, store, rules, draws, (t0 + t + 1) // p[T_EPOCH])
        _record(t, plans, store, probes)
    return count
