"""Compiled step of a population: clearing, step, spikes, probes; and the fast forms of CUBA-LIF.

The forms of CUBA-LIF, and of its models with other resets, compute in 32 bits what
:mod:`biril_nm.compartments.cuba_lif` and :mod:`biril_nm.compartments.cuba_lif_resets` declare: with decays in
0..4096 nothing overflows, because x k >> 12 = (x >> 12) k + ((x & 4095) k >> 12), which lets the loops run
on twice as many lanes as a 64-bit product. Other decays, which Lava runs but no register holds, take the
declared step itself, as all other compartment models do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from biril_nm.compartments.clearing import clearing
from biril_nm.hardware_sim.kernels.finish import deliver
from biril_nm.hardware_sim.kernels.jit import choice, clear, inlined, part
from biril_nm.hardware_sim.kernels.lanes import (
    LANES,
    MASK,
    count_bits,
    spike_mask,
    step_each,
    step_shared,
)
from biril_nm.hardware_sim.kernels.models import compiled, is_model_registers, step_model
from biril_nm.loihi import DECAY_BITS, DECAY_UNITY, STATE_LIMIT, STATE_SPAN, WEIGHT_SHIFT

__all__ = [
    "advance_row",
    "clear_words",
    "clip_32",
    "decay_32",
    "is_at_rest",
    "step",
    "wrap_32",
]

BITS = np.int32(DECAY_BITS)
FRACTION = np.int32(DECAY_UNITY - 1)
SIGN = np.int32(31)
SHIFT = np.int32(WEIGHT_SHIFT)
LIMIT = np.int32(STATE_LIMIT)
SPAN = np.int32(STATE_SPAN)
CLIP = np.int32(STATE_LIMIT - 1)

_clearing = compiled(clearing)


@part
def decay_32(x: Any, keep: Any) -> Any:
    """``x * keep / 4096`` rounded toward zero, for keep in 0..4096, in 32 bits."""
    whole = np.int32(np.int32(x >> BITS) * keep)
    part = np.int32(np.int32(x & FRACTION) * keep)
    round_up = np.int32(np.int32(x >> SIGN) & FRACTION)  # floor becomes ceiling below zero
    return np.int32(whole + np.int32(np.int32(part + round_up) >> BITS))


@part
def wrap_32(x: Any) -> Any:
    """One conditional wrap into 24 bits: +2**23 stays, -2**23 becomes +2**23."""
    down = np.int32(x - SPAN)
    up = np.int32(x + SPAN)
    return down if x > LIMIT else (up if x <= -LIMIT else x)


@part
def clip_32(x: Any) -> Any:
    """``x`` limited to -(2**23 - 1) .. 2**23 - 1."""
    return CLIP if x > CLIP else (-CLIP if x < -CLIP else x)


@choice
def _fire(x: Any, v: Any, keep: Any, bias: Any, vth: Any, masks: Any) -> Any:
    """New v and spike of a neuron whose u is ``x``."""
    return _fire_plain if isinstance(masks, types.NoneType) else _fire_masked


def _fire_plain(x: Any, v: Any, keep: Any, bias: Any, vth: Any, masks: Any) -> Any:
    y = clip_32(np.int32(np.int32(decay_32(v, keep) + x) + bias))
    spike = y > vth
    return (np.int32(0) if spike else y), spike


def _fire_masked(x: Any, v: Any, keep: Any, bias: Any, vth: Any, masks: Any) -> Any:
    before = np.int32(-np.int32(v > vth))
    late = np.int32(before & np.int32(masks.late_fall & vth))
    kept = np.int32(v & ~np.int32(before & masks.late_zero))
    y = clip_32(np.int32(np.int32(decay_32(kept, keep) + x) + np.int32(bias - late)))
    y = np.int32(y & ~np.int32(before & masks.lossy))
    spike = np.int32(y - np.int32(before & np.int32(masks.guard & vth))) > vth
    fired = np.int32(-np.int32(spike))
    left = np.int32(y & ~np.int32(fired & masks.zero))
    return np.int32(left - np.int32(fired & np.int32(masks.fall & vth))), spike


@part
def _step_memoryless(sums: Any, shift: Any, v: Any, s: Any, registers: Any) -> None:
    """One step of neurons that forget u at each step and whose input is proven not to wrap."""
    keep_v, bias, vth, masks = registers.keep_v, registers.bias, registers.vth, registers.masks
    keep, each = keep_v[0], bias.size > 1
    whole = v.size - v.size % LANES
    if each:
        for i in range(0, whole, LANES):
            step_each(sums, v, s, i, shift, keep, bias, vth, masks)
    else:
        for i in range(0, whole, LANES):
            step_shared(sums, v, s, i, shift, keep, bias, vth, masks)
    factor = np.int32(1 << shift)
    for i in range(whole, v.size):
        k = i if each else 0
        x = np.int32(np.int32(sums[i]) * factor)
        v[i], s[i] = _fire(x, v[i], keep, bias[k], vth[k], masks)


@part
def _step_shared(a: Any, u: Any, v: Any, s: Any, registers: Any) -> None:
    """One step of neurons that share their registers (arrays of length 1)."""
    keep_u, keep_v, masks = registers.keep_u[0], registers.keep_v[0], registers.masks
    bias, vth = registers.bias[0], registers.vth[0]
    for i in range(v.size):
        x = wrap_32(np.int32(decay_32(u[i], keep_u) + np.int32(a[i] << SHIFT)))
        u[i] = x
        v[i], s[i] = _fire(x, v[i], keep_v, bias, vth, masks)


@part
def _step_each(a: Any, u: Any, v: Any, s: Any, registers: Any) -> None:
    """One step of neurons with registers of their own."""
    keep_u, keep_v, masks = registers.keep_u, registers.keep_v, registers.masks
    bias, vth = registers.bias, registers.vth
    for i in range(v.size):
        x = wrap_32(np.int32(decay_32(u[i], keep_u[i]) + np.int32(a[i] << SHIFT)))
        u[i] = x
        v[i], s[i] = _fire(x, v[i], keep_v[i], bias[i], vth[i], masks)


@part
def step(a: Any, u: Any, v: Any, s: Any, registers: Any) -> None:
    """One step with finished input ``a``, in the form that fits the registers."""
    if registers.keep_u.size > 1:
        _step_each(a, u, v, s, registers)
    else:
        _step_shared(a, u, v, s, registers)


@part
def _probe(record: Any, b: Any, t: Any, row: Any) -> None:
    if record.size:
        for i in range(record.shape[2]):
            record[b, t, i] = row[i]


@choice
def _advance(
    sums: Any, finish: Any, a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any
) -> Any:
    """One step with sums as a connection leaves them, or with finished input (``finish`` None).

    Models without kernels of their own take finished input.
    """
    return _advance_model if is_model_registers(registers) else _advance_cuba_lif


def _advance_model(
    sums: Any, finish: Any, a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any
) -> None:
    step_model(sums, u, v, more, s, registers)


def _advance_cuba_lif(
    sums: Any, finish: Any, a: Any, u: Any, v: Any, more: Any, s: Any, registers: Any
) -> None:
    if u.size == 0:  # the program promises that these sums need no more than a factor
        shift = SHIFT
        if finish is not None:
            shift = min(np.int32(finish.left + WEIGHT_SHIFT), SIGN)  # larger ones move zeros only
        _step_memoryless(sums, shift, v, s, registers)
    elif finish is None:
        step(a, u, v, s, registers)
    else:
        deliver(sums, a, False, finish)
        step(a, u, v, s, registers)


@part
def is_at_rest(t: int, u: Any, v: Any, clock: Any) -> Any:
    """Whether the neurons of a sample rest at step t of the run; clears u and v when their time has come."""
    is_cleared, rests = _clearing(t - clock.phase, clock.period, clock.active)
    if is_cleared:
        clear(u)
        clear(v)
    return rests


@part
def clear_words(t: int, more: Any, clock: Any) -> None:
    """Clear further state words of a sample when their time has come."""
    if more.shape[0] and _clearing(t - clock.phase, clock.period, clock.active)[0]:
        for k in range(more.shape[0]):
            clear(more[k])


@part
def _count(spikes: Any) -> Any:
    """Spikes of a row; those with payloads are not in bytes."""
    count = np.int64(0)
    if spikes.itemsize == 1:
        for first in range(0, spikes.size, MASK):
            count += count_bits(spike_mask(spikes, first))
    else:
        for i in range(spikes.size):
            count += spikes[i] != 0
    return count


@inlined
def advance_row(sums: Any, finish: Any, a: Any, b: int, t: int, node: Any) -> Any:
    """Advance sample b by step t of the block; returns its number of spikes.

    Args:
        sums: (n or more,) what arrives.
        finish: how sums become input; None if they are.
        a: (n,) scratch for finished input; the sums themselves if ``finish`` is None.
        b, t: sample and step within the block.
        node: cells, registers, probes and clock.
    """
    cells, clock, probes = node.cells, node.clock, node.probes
    u, v, spikes = cells.u[b], cells.v[b], cells.s[b, cells.start + t]
    clear_words(clock.t0 + t, cells.more[b], clock)
    if is_at_rest(clock.t0 + t, u, v, clock):
        clear(spikes)
    else:
        _advance(sums, finish, a, u, v, cells.more[b], spikes, node.registers)
    count = _count(spikes)
    _probe(probes.s, clock.b0 + b, clock.t0 + t, spikes)
    _probe(probes.u, clock.b0 + b, clock.t0 + t, u)
    _probe(probes.v, clock.b0 + b, clock.t0 + t, v)
    return count
