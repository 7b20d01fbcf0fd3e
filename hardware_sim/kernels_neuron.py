"""Compiled loop of the CUBA-LIF compartment: decay, wrap, clip, threshold, reset, probes.

Integers are those of lava-nc 0.10.0 ``PyLifModelBitAcc`` (tag ``fixed_pt``), its 32-bit overflows
included: ``biril_nm.fixed_point`` states the equations. With decays in 0..4096 everything fits 32
bits: ``|x| k >> 12 = (|x| >> 12) k + ((|x| & 4095) k >> 12)``, which lets the loop run on twice as many
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
    """``sign(x) * (|x| * keep >> 12)`` for keep in 0..4096, in 32 bits."""
    sign = np.int32(x >> SIGN)
    size = np.int32(np.int32(x ^ sign) - sign)
    high = np.int32(np.int32(size >> BITS) * keep)
    low = np.int32(np.int32(np.int32(size & FRACTION) * keep) >> BITS)
    return np.int32(np.int32(np.int32(high + low) ^ sign) - sign)


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
def _step_shared(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> Any:
    """One step of neurons that share their registers (arrays of length 1); returns spikes."""
    ku, kv, bs, th = keep_u[0], keep_v[0], bias[0], vth[0]
    count = 0
    for i in range(a.size):
        x = _wrap(np.int32(_decay(u[i], ku) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay(v[i], kv) + x) + bs))
        spike = y > th
        u[i] = x
        v[i] = np.int32(0) if spike else y
        s[i] = spike
        count += spike
    return count


@inlined
def _step_each(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> Any:
    """One step of neurons with registers of their own."""
    count = 0
    for i in range(a.size):
        x = _wrap(np.int32(_decay(u[i], keep_u[i]) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay(v[i], keep_v[i]) + x) + bias[i]))
        spike = y > vth[i]
        u[i] = x
        v[i] = np.int32(0) if spike else y
        s[i] = spike
        count += spike
    return count


@inlined
def _step_wide(
    a: Any, u: Any, v: Any, s: Any, keep_u: Any, keep_v: Any, bias: Any, vth: Any
) -> Any:
    """One step of neurons whose decays fit no register."""
    count = 0
    for i in range(a.size):
        x = _wrap(np.int32(_decay_wide(u[i], keep_u[i]) + np.int32(a[i] << SHIFT)))
        y = _clip(np.int32(np.int32(_decay_wide(v[i], keep_v[i]) + x) + bias[i]))
        spike = y > vth[i]
        u[i] = x
        v[i] = np.int32(0) if spike else y
        s[i] = spike
        count += spike
    return count


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
        a (batch, steps or 1, n) int32; s (batch, rows, n), row ``start + t`` is step t; u, v (batch, n);
        registers (n,) or (1,); rec_* (whole batch, all steps, n) or empty; the block begins at
        sample b0 and step t0 of them.
    """
    count = 0
    shared = keep_u.size == 1 and keep_v.size == 1 and bias.size == 1 and vth.size == 1
    for b in range(u.shape[0]):
        for t in range(ta, tb):
            rest = False
            if period > 0:
                age = (t0 + t - phase) % period
                rest = active > 0 and (age >= active or t0 + t < phase)
                if age == 0 or rest:
                    u[b] = 0
                    v[b] = 0
            spikes = s[b, start + t]
            if rest:
                spikes[:] = 0
            elif wide:
                count += _step_wide(a[b, t], u[b], v[b], spikes, keep_u, keep_v, bias, vth)
            elif shared:
                count += _step_shared(a[b, t], u[b], v[b], spikes, keep_u, keep_v, bias, vth)
            else:
                count += _step_each(a[b, t], u[b], v[b], spikes, keep_u, keep_v, bias, vth)
            if rec_s.size:
                rec_s[b0 + b, t0 + t] = spikes
            if rec_u.size:
                rec_u[b0 + b, t0 + t] = u[b]
            if rec_v.size:
                rec_v[b0 + b, t0 + t] = v[b]
    return count
