"""A population over all steps from rest, forward and backward, in compiled code.

The equations are those of :mod:`biril_nm.training.integers.neurons`, in 32 bits as in
:mod:`biril_nm.hardware_sim.kernels.neuron`. No pass keeps states: the backward pass computes them again,
which takes less time than reading them. Rows are channels of ``P`` neurons; ``N`` samples, ``T`` steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import kernel, part
from biril_nm.hardware_sim.kernels.neuron import clip_32, decay_32, wrap_32
from biril_nm.loihi import DECAY_UNITY, WEIGHT_SHIFT
from biril_nm.training.integers.records import ANY, IF, LIF

__all__ = ["run_back", "run_steps"]

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
HALF = np.float32(0.5)
NONE, SHIFT = np.int32(0), np.int32(WEIGHT_SHIFT)
GAIN = np.float32(1 << WEIGHT_SHIFT)
KEEP = np.float32(1 / DECAY_UNITY)
OVER_PI = np.float32(1 / np.pi)
LOG2E, LN2 = np.float32(np.log2(np.e)), np.float32(np.log(2))
LARGEST = np.float32(120)  # 2**-120 is a normal number
EXPONENT, MANTISSA = np.int32(127), np.int32(23)  # bias and bits of float32
E2, E3, E4, E5, E6 = (np.float32(1 / n) for n in (2, 6, 24, 120, 720))


@part
def _current(a: Any) -> Any:
    return np.int32(np.int32(a) << SHIFT)


@part
def _potential(a: Any, v: Any, bias: Any) -> Any:
    """Potential before the threshold where nothing decays."""
    return clip_32(np.int32(np.int32(v + wrap_32(_current(a))) + bias))


@part
def _leaky(a: Any, v: Any, keep: Any, bias: Any) -> Any:
    """The same where v decays."""
    return clip_32(np.int32(np.int32(decay_32(v, keep) + wrap_32(_current(a))) + bias))


@part
def _grown(u: Any, v: Any, keep: Any, bias: Any, late_theta: Any, late: Any, masks: Any) -> Any:
    """The same with resets that come late: ``late`` is -1 where v was above the threshold."""
    kept = np.int32(v & ~np.int32(late & masks.late_zero))
    fall = np.int32(late_theta & masks.late_fall)
    y = clip_32(np.int32(np.int32(decay_32(kept, keep) + u) + np.int32(bias - fall)))
    return np.int32(y & ~np.int32(late & masks.lossy))


@part
def _left(y: Any, late_theta: Any, theta: Any, masks: Any) -> Any:
    """What the threshold leaves of v, and the spike as 0 or -1."""
    spike = np.int32(-np.int32(np.int32(y - np.int32(late_theta & masks.guard)) > theta))
    left = np.int32(y & ~np.int32(spike & masks.zero))
    return np.int32(left - np.int32(np.int32(spike & masks.fall) & theta)), spike


@part
def _row(a: Any, u: Any, v: Any, c: int, registers: Any, fired: Any) -> None:
    """One step of a channel."""
    bias, theta, masks = registers.bias[c], registers.theta[c], registers.masks
    if registers.form == IF:
        for p in range(v.size):
            y = _potential(a[p], v[p], bias[p])
            fired[p] = ONE if y > theta[p] else ZERO
            v[p] = NONE if y > theta[p] else y
    elif registers.form == LIF:
        keep = registers.keep
        for p in range(v.size):
            y = _leaky(a[p], v[p], keep, bias[p])
            fired[p] = ONE if y > theta[p] else ZERO
            v[p] = NONE if y > theta[p] else y
    else:
        keep_u, keep_v = registers.keep_u[c], registers.keep_v[c]
        for p in range(v.size):
            u[p] = wrap_32(np.int32(decay_32(u[p], keep_u[p]) + _current(a[p])))
            late = np.int32(-np.int32(v[p] > theta[p]))
            late_theta = np.int32(late & theta[p])
            y = _grown(u[p], v[p], keep_v[p], bias[p], late_theta, late, masks)
            v[p], spike = _left(y, late_theta, theta[p], masks)
            fired[p] = np.float32(-spike)


@part
def _sum_blocks(fired: Any, out: Any, s: Any) -> None:
    """Sums of spikes over blocks."""
    columns = s.row // s.wide
    for i in range(out.size // columns):
        at = i * s.high * s.row
        for j in range(columns):
            total = ZERO
            for k in range(s.high):
                for m in range(s.wide):
                    total += fired[at + k * s.row + j * s.wide + m]
            out[i * columns + j] = total


@part
def _sum_squares(fired: Any, out: Any, row: int) -> None:
    """The same for blocks of 2 x 2."""
    columns = row // 2
    for i in range(out.size // columns):
        at = 2 * i * row
        for j in range(columns):
            p = at + 2 * j
            out[i * columns + j] = (fired[p] + fired[p + 1]) + (fired[p + row] + fired[p + row + 1])


@kernel
def run_steps(span: Any, a: Any, registers: Any, s: Any, states: Any, scratch: Any) -> None:
    """All steps of some samples: a ``(1 or T, N, C, P)``, scratch for spikes and u ``(P,)``."""
    fired, u = scratch
    pooled = s.high * s.wide > 1
    keeps_u = registers.form == ANY
    for n in range(span.first, span.last):
        for c in range(a.shape[2]):
            v = states.v[n if states.v.shape[0] > 1 else 0, c]
            for p in range(v.size):
                u[p] = NONE
                v[p] = NONE
            for t in range(span.n_steps):
                at, out = a[t if a.shape[0] > 1 else 0, n, c], s.values[t, n, c]
                if not pooled:
                    _row(at, u, v, c, registers, out)
                else:
                    _row(at, u, v, c, registers, fired)
                    if s.high == 2 and s.wide == 2:
                        _sum_squares(fired, out, s.row)
                    else:
                        _sum_blocks(fired, out, s)
                if states.all_v.shape[0]:
                    for p in range(v.size):
                        states.all_v[t, n, c, p] = v[p]
                        states.all_u[t, n, c, p] = u[p] if keeps_u else wrap_32(_current(at[p]))


@part
def _spread_blocks(given: Any, out: Any, s: Any) -> None:
    """The gradient of a sum is that of each of its terms."""
    columns = s.row // s.wide
    for i in range(given.size // columns):
        at = i * s.high * s.row
        for j in range(columns):
            value = given[i * columns + j]
            for k in range(s.high):
                for m in range(s.wide):
                    out[at + k * s.row + j * s.wide + m] = value


@part
def _spread_squares(given: Any, out: Any, row: int) -> None:
    """The same for blocks of 2 x 2."""
    columns = row // 2
    for i in range(given.size // columns):
        at = 2 * i * row
        for j in range(columns):
            p, value = at + 2 * j, given[i * columns + j]
            out[p] = value
            out[p + 1] = value
            out[p + row] = value
            out[p + row + 1] = value


@part
def _falling_exponential(z: Any) -> Any:
    """``exp(-z)`` for z >= 0 in simple operations, which compilers turn into vectors; 3e-7 relative."""
    t = min(z * LOG2E, LARGEST)
    whole = np.int32(t + HALF)
    x = (np.float32(whole) - t) * LN2
    value = ONE + x * (ONE + x * (E2 + x * (E3 + x * (E4 + x * (E5 + x * E6)))))
    power = np.int32(np.int32(EXPONENT - whole) << MANTISSA)
    return value * power.view(np.float32)


@part
def _through(x: Any, g: Any, inverse: Any, q: Any, slope: Any) -> None:
    """``q = dL/ds psi(x - 1) / theta`` of a row, with x the potential over theta."""
    k = slope.k
    if slope.kind == 0:
        for p in range(q.size):
            e = _falling_exponential(k * abs(x[p] - ONE))
            d = ONE + e
            q[p] = g[p] * inverse[p] * (k * e) / (d * d)
    elif slope.kind == 1:
        for p in range(q.size):
            d = ONE + k * abs(x[p] - ONE)
            q[p] = g[p] * inverse[p] / (d * d)
    elif slope.kind == 2:
        for p in range(q.size):
            d = k * (x[p] - ONE)
            q[p] = g[p] * inverse[p] * (k * OVER_PI) / (ONE + d * d)
    else:
        for p in range(q.size):
            q[p] = g[p] * inverse[p]


@part
def _row_again(a: Any, u: Any, v: Any, c: int, registers: Any, y: Any, late: Any) -> None:
    """One step of a channel: potential over threshold, and whether v was above it before."""
    bias, theta, masks = registers.bias[c], registers.theta[c], registers.masks
    if registers.form == IF:
        for p in range(v.size):
            x = _potential(a[p], v[p], bias[p])
            y[p] = np.float32(x) / np.float32(theta[p])
            v[p] = NONE if x > theta[p] else x
    elif registers.form == LIF:
        keep = registers.keep
        for p in range(v.size):
            x = _leaky(a[p], v[p], keep, bias[p])
            y[p] = np.float32(x) / np.float32(theta[p])
            v[p] = NONE if x > theta[p] else x
    else:
        keep_u, keep_v = registers.keep_u[c], registers.keep_v[c]
        for p in range(v.size):
            u[p] = wrap_32(np.int32(decay_32(u[p], keep_u[p]) + _current(a[p])))
            before = np.int32(-np.int32(v[p] > theta[p]))
            late_theta = np.int32(before & theta[p])
            x = _grown(u[p], v[p], keep_v[p], bias[p], late_theta, before, masks)
            v[p] = _left(x, late_theta, theta[p], masks)[0]
            y[p] = np.float32(x) / np.float32(theta[p])
            late[p] = np.float32(-before)


@part
def _add(values: Any, factor: Any, out: Any) -> None:
    for p in range(out.size):
        out[p] += values[p] * factor


@part
def _subtract_products(x: Any, y: Any, out: Any) -> None:
    for p in range(out.size):
        out[p] -= x[p] * y[p]


# Loops over few arrays each: compilers use no vectors where they cannot tell whether many arrays overlap.
@part
def _row_back(y: Any, q: Any, g_v: Any, keep: Any, out: Any) -> None:
    """One step back of IF and LIF; ``q`` is ``dL/ds psi / theta``, ``out`` gradients of a, bias, theta."""
    d_a, d_bias, d_theta = out
    _subtract_products(q, y, d_theta)
    for p in range(q.size):
        d = q[p] + (ZERO if y[p] > ONE else g_v[p])
        d_a[p] += d * GAIN
        g_v[p] = d
    for p in range(q.size):
        d_bias[p] += g_v[p]
        g_v[p] *= keep


@part
def _row_back_any(
    y: Any, late: Any, q: Any, g_u: Any, g_v: Any, c: int, registers: Any, out: Any
) -> None:
    """One step back of all others; g_v is that of v after the step, and then before it."""
    d_a, d_bias, d_theta = out
    masks, keep_u, keep_v = registers.masks, registers.keep_u[c], registers.keep_v[c]
    zero, fall = np.float32(-masks.zero), np.float32(-masks.fall)
    lossy, guard = np.float32(-masks.lossy), np.float32(-masks.guard)
    late_zero, late_fall = np.float32(-masks.late_zero), np.float32(-masks.late_fall)
    _subtract_products(q, y, d_theta)
    for p in range(q.size):
        spike = ONE if y[p] - guard * late[p] > ONE else ZERO
        d_theta[p] -= fall * g_v[p] * spike
        g_v[p] *= ONE - zero * spike
    for p in range(q.size):
        g_v[p] = (q[p] + g_v[p]) * (ONE - lossy * late[p])
    for p in range(q.size):
        d_theta[p] -= late_fall * g_v[p] * late[p]
    _add(g_v, ONE, d_bias)
    _add(g_v, ONE, g_u)
    _add(g_u, GAIN, d_a)
    for p in range(q.size):
        g_u[p] *= np.float32(keep_u[p]) * KEEP
        g_v[p] *= np.float32(keep_v[p]) * KEEP
    for p in range(q.size):
        g_v[p] *= ONE - late_zero * late[p]


@part
def _above(y: Any, late: Any, out: Any) -> None:
    """What guarded neurons compare with the threshold, over it."""
    for p in range(y.size):
        out[p] = y[p] - late[p]


@part
def _spread(given: Any, out: Any, s: Any) -> None:
    """Gradients of spikes from those of what was sent."""
    if s.high == 2 and s.wide == 2:
        _spread_squares(given, out, s.row)
    else:
        _spread_blocks(given, out, s)


@kernel
def run_back(
    span: Any, a: Any, registers: Any, slope: Any, gradients: Any, words: Any, scratch: Any
) -> None:
    """All steps back of some samples.

    Args:
        span, a, registers, slope, gradients: as their classes say; a as in :func:`run_steps`.
        words: scratch ``(2, P)`` for u and v.
        scratch: ``(2 T + SCRATCH_ROWS, P)``.
    """
    steps, s = span.n_steps, gradients.s
    masks, keep = registers.masks, np.float32(registers.keep) * KEEP
    q, g_u, g_v = scratch[2 * steps], scratch[2 * steps + 1], scratch[2 * steps + 2]
    spread, above = scratch[2 * steps + 3], scratch[2 * steps + 4]
    for n in range(span.first, span.last):
        for c in range(a.shape[2]):
            for p in range(q.size):
                words[0, p] = NONE
                words[1, p] = NONE
                g_u[p] = ZERO
                g_v[p] = gradients.v[n if gradients.v.shape[0] > 1 else 0, c, p]
            for t in range(steps):
                at = a[t if a.shape[0] > 1 else 0, n, c]
                _row_again(at, words[0], words[1], c, registers, scratch[t], scratch[steps + t])
            for t in range(steps - 1, -1, -1):
                y, late, g = scratch[t], scratch[steps + t], s.values[t, n, c]
                x = y
                if masks.guard:
                    x = above
                    _above(y, late, x)
                if s.high * s.wide > 1:
                    _spread(g, spread, s)
                    g = spread
                _through(x, g, registers.inverse[c], q, slope)
                d_a = gradients.a[t if a.shape[0] > 1 else 0, n, c]
                out = (d_a, gradients.bias[c], gradients.theta[c])
                if registers.form == ANY:
                    _row_back_any(y, late, q, g_u, g_v, c, registers, out)
                else:
                    _row_back(y, q, g_v, keep, out)
