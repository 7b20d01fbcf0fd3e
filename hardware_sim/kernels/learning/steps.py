"""Compiled loop over the steps of nodes that learn: receive, advance, deliver, learn, record.

A group is a set of neuron nodes that wait for each other: the targets of plastic connections, and whatever
feeds back into them or modulates them. Order within one step, as lava-nc 0.10.0 has it: connections deliver
what they summed in the step before; neurons advance; connections sum this step's spikes with the
weights of before learning; pre-spikes, post-spikes and modulators reach the traces; in the last step of
an epoch weights change.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.finish import deliver
from biril_nm.hardware_sim.kernels.jit import clear, inlined, kernel, part
from biril_nm.hardware_sim.kernels.learning.phase import learning_phase
from biril_nm.hardware_sim.kernels.learning.plan import MOD_EXTERNAL, MOD_NONE, N_X, N_Y, Draws
from biril_nm.hardware_sim.kernels.learning.populations import advance_kinds
from biril_nm.hardware_sim.kernels.learning.traces import TRACE_TOP
from biril_nm.hardware_sim.kernels.records import Finish

__all__ = ["run_group"]


@part
def _receive_links(t: Any, t0: Any, a: Any, cells: Any, links: Any) -> None:
    """Static connections within the group: each sum is finished as a whole, then added."""
    for k in range(links.table.size):
        link = links.table[k]
        if t0 + t < link.lag:
            continue
        spikes = cells.s[cells.past + t - link.lag]
        if not _any_spike(spikes[link.source : link.source + link.n_pre]):
            continue
        total = links.sums[: link.n_post]
        clear(total)
        for j in range(link.n_pre):
            if spikes[link.source + j]:
                first = link.first_pointer + j
                for q in range(links.pointers[first], links.pointers[first + 1]):
                    place = link.first_synapse + q
                    total[links.targets[place]] += links.weights[place]
        finish = Finish(link.left, link.right, link.modulo != 0)
        deliver(total, a[link.target : link.target + link.n_post], True, finish)


@part
def _any_spike(spikes: Any) -> Any:
    found = np.uint8(0)
    for j in range(spikes.size):
        found |= spikes[j]
    return found != 0


@part
def _receive_plastic(a: Any, plans: Any, ints: Any) -> None:
    """What plastic connections summed in the step before."""
    for c in range(plans.size):
        plan = plans[c]
        delivered = ints[plan.delivered : plan.delivered + plan.n_post]
        target = a[plan.target : plan.target + plan.n_post]
        for i in range(delivered.size):
            target[i] = np.int32(target[i] + delivered[i])


@part
def _list(row: Any, out: Any) -> Any:
    """Write the indices of what is not 0, return their number."""
    n = 0
    for j in range(row.size):
        out[n] = np.int32(j)
        n += row[j] != 0
    return n


@part
def _sum_spikes(plan: Any, store: Any, row: Any, inside: Any) -> Any:
    """Fill the buffer with ``(W s) << left >> right``; returns the number of active sources."""
    ints, synapses = store.ints, store.synapses
    active = ints[plan.active_pre : plan.active_pre + plan.n_pre + 1]
    total = ints[plan.delivered : plan.delivered + plan.n_post]
    n = _list(inside, active) if plan.inside else _list(row, active)
    clear(total)
    for q in range(n):
        j = np.int64(active[q])
        payload = np.int32(1) if plan.inside else np.int32(row[j])
        if plan.is_sparse:
            for k in range(ints[plan.pointers + j], ints[plan.pointers + j + 1]):
                i = ints[plan.targets + k]
                weight = np.int32(synapses[plan.weights + k])
                total[i] = np.int32(total[i] + np.int32(payload * weight))
        else:
            weights = synapses[
                plan.weights + j * plan.n_post : plan.weights + (j + 1) * plan.n_post
            ]
            if payload == 1:
                for i in range(weights.size):
                    total[i] = np.int32(total[i] + np.int32(weights[i]))
            else:
                for i in range(weights.size):
                    total[i] = np.int32(total[i] + np.int32(payload * np.int32(weights[i])))
    if plan.left or plan.right:
        for i in range(total.size):
            total[i] = np.int32((np.int64(total[i]) << plan.left) >> plan.right)
    return n


@part
def _pre_spikes(plan: Any, c: Any, n: Any, now: Any, ints: Any, rules: Any) -> None:
    """Note spike times; a second spike in the epoch adds its impulse at once, any fraction rounded up."""
    n_pre = plan.n_pre
    for q in range(n):
        j = ints[plan.active_pre + q]
        if ints[plan.pre_times + j] > 0:
            for a in range(N_X):
                add = rules.impulses[c, a].whole + (rules.impulses[c, a].fraction > 0)
                place = plan.x_traces + a * n_pre + j
                ints[place] = min(np.int32(ints[place] + add), TRACE_TOP)
        ints[plan.pre_times + j] = now


@part
def _post_spikes(plan: Any, c: Any, s: Any, now: Any, draw: Any, ints: Any, rules: Any) -> None:
    """The same for targets, with a random number for the fraction."""
    n_post = plan.n_post
    for i in range(n_post):
        if s[i]:
            if ints[plan.post_times + i] > 0 and not plan.is_3f:
                for a in range(N_Y):
                    impulse = rules.impulses[c, N_X + a]
                    add = impulse[0] + (draw < impulse[1])
                    place = plan.y_traces + a * n_post + i
                    ints[place] = min(np.int32(ints[place] + add), TRACE_TOP)
            ints[plan.post_times + i] = now


@part
def _modulate(plan: Any, c: Any, values: Any, spikes: Any, ints: Any, rules: Any) -> None:
    """Third factors of this step: values as they are, or spikes through the host's filter."""
    n_post = plan.n_post
    for a in range(N_Y):
        kind, places = plan.mod_kind[a], plan.mod_places[a]
        if kind == MOD_NONE:
            continue
        y = ints[plan.y_traces + a * n_post : plan.y_traces + (a + 1) * n_post]
        impulse = rules.filter_impulses[c, a]
        for i in range(n_post):
            place = ints[places + i]
            value = values[place] if kind == MOD_EXTERNAL else np.int32(spikes[place])
            if impulse >= 0:
                value = rules.filters[c, a, y[i]] + (impulse if value else np.int32(0))
                value = min(np.int32(value), TRACE_TOP)
            y[i] = value


@part
def _record(t: Any, cells: Any, plastic: Any, probes: Any) -> None:
    """State of the neurons, synapses and traces after the step."""
    if probes.u.size:
        for i in range(cells.u.size):
            probes.u[t, i] = cells.u[i]
    if probes.v.size:
        for i in range(cells.v.size):
            probes.v[t, i] = cells.v[i]
    if probes.synapses.size:
        for q in range(probes.synapses.shape[1]):
            probes.synapses[t, q] = plastic.store.synapses[q]
    if probes.traces.size:
        _record_traces(probes.traces[t], plastic.plans, plastic.store.ints)


@part
def _record_traces(out: Any, plans: Any, ints: Any) -> None:
    """x1, x2, y1, y2, y3 of each connection."""
    n = 0
    for c in range(plans.size):
        plan = plans[c]
        for q in range(N_X * plan.n_pre):
            out[n] = ints[plan.x_traces + q]
            n += 1
        for q in range(N_Y * plan.n_post):
            out[n] = ints[plan.y_traces + q]
            n += 1


@inlined
def _learn_step(c: Any, t: Any, t0: Any, spikes: Any, plastic: Any, outside: Any) -> None:
    """Sum this step's spikes of connection c, move its traces, and learn at the end of an epoch."""
    plan, store, rules = plastic.plans[c], plastic.store, plastic.rules
    source = spikes[plan.source : plan.source + plan.n_pre]
    row = outside.values[t, plan.source : plan.source + plan.n_pre]
    n_active = _sum_spikes(plan, store, row, source)
    now = np.int32((t0 + t) % plan.t_epoch + 1)
    uniform, integer = outside.uniform[c, t], outside.integer[c, t]
    _pre_spikes(plan, c, n_active, now, store.ints, rules)
    target = spikes[plan.target : plan.target + plan.n_post]
    _post_spikes(plan, c, target, now, integer[2], store.ints, rules)
    if plan.is_3f:
        _modulate(plan, c, outside.values[t], spikes, store.ints, rules)
    if now == plan.t_epoch:
        draws = Draws(uniform[0], uniform[1], integer[0], integer[1], integer[3])
        learning_phase(plan, c, store, rules, draws, (t0 + t + 1) // plan.t_epoch)


@kernel
def run_group(
    nodes: Any, cells: Any, links: Any, plastic: Any, outside: Any, probes: Any, clock: Any
) -> int:
    """Run all steps of a chunk; returns the spikes of the group.

    The arguments are the records of :mod:`biril_nm.hardware_sim.kernels.learning.plan`.
    """
    count = 0
    for t in range(clock.n_steps):
        a = cells.a[t]
        _receive_links(t, clock.t0, a, cells, links)
        _receive_plastic(a, plastic.plans, plastic.store.ints)
        advance_kinds(t, a, nodes, cells, clock)
        spikes = cells.s[cells.past + t]
        for i in range(spikes.size):
            count += spikes[i]
        for c in range(plastic.plans.size):
            _learn_step(c, t, clock.t0, spikes, plastic, outside)
        _record(t, cells, plastic, probes)
    return count
