"""Compiled loop of the CUBA-LIF compartment: decay, wrap, clip, threshold, reset, probes.

Integers are those of lava-nc 0.10.0 ``PyLifModelBitAcc`` (tag ``fixed_pt``), its 32-bit overflows
included: ``biril_nm.fixed_point`` states the equations. With decays in 0..4096 everything fits 32
bits, because x k >> 12 = (x >> 12) k + ((x & 4095) k >> 12), which lets the loops run on twice as many
lanes as a 64-bit product. Other decays, which Lava runs but no register holds, take 64 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.jit import compiled, inlined
from biril_nm.loihi import DECAY_BITS, DECAY_UNITY, STATE_LIMIT, STATE_SPAN, WEIGHT_SHIFT

__all__ = ["advance"]

BITS = np.int32(DECAY_BITS)
FRACTION = np.int32(DECAY_UNITY - 1)
SIGN = np.int32(31)
SHIFT = np.int32(WEIGHT_SHIFT)
LIMIT = np.int32(STATE_LIMIT)
SPAN = np.int32(STATE_SPAN)
CLIP = np.int32(STATE_LIMIT - 1)


@inlined
def _decay(x: Any, keep: Any) -> Any:
    """``x * keep / 4096`` rounded toward zero, for keep in 0..4096, in 32 bits."""
    whole = np.int32(np.int32(x >> BITS) * keep)
    part = np.int32(np.int32(x & FRACTION) * keep)
    round_up = np.int32(np.int32(x >> SIGN) & FRACTION)  # floor becomes ceiling below zero
    return np.int32(whole + np.int32(np.int32(part + round_up) >> BITS))


@inlined
def _decay_wide(x: Any, keep: Any) -> Any:
    """The same for any keep: the product decides the sign, the result is cut to 32 bits."""
    product = np.int64(x) * np.int64(keep)
    size = abs(product) >> np.int64(DECAY_BITS)
    return np.int32(-size if product < 0 else size)


@inlined
def _wrap(x: Any) -> Any:
    """One conditional wrap into 24 bits: +2**23 stays, -2**23 becomes +2**23."""
    down = np.int32(x - SPAN)
    up = np.int32(x + SPAN)
    return down if x > LIMIT else (up if x <= -LIMIT else x)


@inlined
def _clip(x: Any) -> Any:
    return CLIP if x > CLIP else (-CLIP if x < -CLIP else x)


@inlined
def _fire(x: Any, y: Any, vth: Any, u: Any, v: Any, s: Any, i: Any) -> None:
    """Store u = x and v = y of neuron i; a spike, where y > vth, sets v to 0."""
    spike = y > vth
    u[i] = x
    v[i] = np.int32(0) if spike else y
    s[i] = spike


@inlined
def _step_memoryless(a: Any, u: Any, v: Any, s: Any, keep_v: Any, bias: Any, vth: Any) -> None:
    """One step of neurons that share their registers and forget u at each step."""
    kv, bs, th = keep_v[0], bias[0], vth[0]
    for i in range(a.size):
        x = _wrap(np.int32(a[i] << SHIFT))
        y = _clip(np.int32(np.int32(_decay(v[i], kv) + x) + bs))
        _fire(x, y, th, u, v, s, i)


@inlined
def _step_shared(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> None:
    """One step of neurons that share their registers (arrays of length 1)."""
    ku, kv, bs, th = keep_u[0], keep_v[0], bias[0], vth[0]
    for i in range(a.size):
        x = _wrap(np.int32(_decay(u[i], ku) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay(v[i], kv) + x) + bs))
        _fire(x, y, th, u, v, s, i)


@inlined
def _step_each(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> None:
    """One step of neurons with registers of their own."""
    for i in range(a.size):
        x = _wrap(np.int32(_decay(u[i], keep_u[i]) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay(v[i], keep_v[i]) + x) + bias[i]))
        _fire(x, y, vth[i], u, v, s, i)


@inlined
def _step_wide(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> None:
    """One step of neurons whose decays fit no register."""
    for i in range(a.size):
        x = _wrap(np.int32(_decay_wide(u[i], keep_u[i]) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay_wide(v[i], keep_v[i]) + x) + bias[i]))
        _fire(x, y, vth[i], u, v, s, i)


@inlined
def _step(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any, wide: Any
) -> None:
    """One step in the form that fits the registers."""
    if wide:
        _step_wide(a, u, v, s, keep_u, keep_v, bias, vth)
    elif keep_u.size > 1:
        _step_each(a, u, v, s, keep_u, keep_v, bias, vth)
    elif keep_u[0] == 0:
        _step_memoryless(a, u, v, s, keep_v, bias, vth)
    else:
        _step_shared(a, u, v, s, keep_u, keep_v, bias, vth)


@inlined
def _probe(record: Any, b: Any, t: Any, row: Any) -> None:
    if record.size:
        record[b, t] = row


@compiled
def advance(
    a: Any,
    s: Any,
    start: int,
    ta: int,
    tb: int,
    u: Any,
    v: Any,
    keep_u: Any,
    keep_v: Any,
    bias: Any,
    vth: Any,
    wide: bool,
    rec_s: Any,
    rec_u: Any,
    rec_v: Any,
    b0: int,
    t0: int,
    period: int,
    phase: int,
    active: int,
) -> int:
    """Advance steps ta..tb-1 of a block, write spikes and probes, return the number of spikes.

    With ``period`` > 0, u and v are cleared before integrating at steps with
    ``(t - phase) % period == 0`` (LIFReset), t counting from 0. With ``active`` > 0 as well, the
    neurons rest, silent, except in the ``active`` steps from each clearing on.

    Shape:
        a (batch, steps, n) int32; s (batch, rows, n or more), row ``start + t`` is step t; u, v (batch, n);
        registers all (n,) or all (1,); rec_* (whole batch, all steps, n) or empty; the block begins at
        sample b0 and step t0 of them.
    """
    count = 0
    n = u.shape[1]
    for b in range(u.shape[0]):
        for t in range(ta, tb):
            rest = False
            if period > 0:
                age = (t0 + t - phase) % period
                rest = active > 0 and (age >= active or t0 + t < phase)
                if age == 0 or rest:
                    u[b] = 0
                    v[b] = 0
            spikes = s[b, start + t, :n]
            if rest:
                spikes[:] = 0
            else:
                _step(a[b, t], u[b], v[b], spikes, keep_u, keep_v, bias, vth, wide)
            for i in range(n):
                count += spikes[i]
            _probe(rec_s, b0 + b, t0 + t, spikes)
            _probe(rec_u, b0 + b, t0 + t, u[b])
            _probe(rec_v, b0 + b, t0 + t, v[b])
    return count
