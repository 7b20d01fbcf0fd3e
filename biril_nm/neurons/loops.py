"""snnTorch's ``Leaky`` over all steps, the compiled loops of one thread.

The equations of :mod:`biril_nm.neurons.recurrence`, block by block of neurons, so that states stay in the
cache. The backward loop computes the states again. Tensors are float32, or bfloat16 as the integers of its
bits; states are float32. A BatchNorm before the neurons is a factor and a summand for each channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from biril_nm.storage.machine_code import part

__all__ = [
    "OPTIONS",
    "SCRATCH_ROWS",
    "F",
    "add",
    "backward_loop",
    "forward_loop",
    "narrow",
    "piece",
    "widen",
]

F = np.float32
ZERO, ONE, HALF, QUARTER = F(0), F(1), F(0.5), F(0.25)
SIGMOID, ATAN, FAST_SIGMOID, STRAIGHT, QGATE, RECTANGLE = range(6)
BFLOAT16_ONE = 0x3F80
SCRATCH_ROWS = 6  # of the backward loop, beside two for each step
# Loops allocate nothing, so reference counting is off.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False}


def piece(function: Callable[..., Any]) -> Callable[..., Any]:
    """A loop that compiled loops alone call."""
    return part(function, **OPTIONS)


# Each loop is a function of its own: LLVM then knows what it needs to make vectors of it.


@piece
def widen(x, out):  # type: ignore[no-untyped-def]
    """Float32 of float32, or of the bits of bfloat16."""
    if x.itemsize == 2:
        bits = out.view(np.uint32)
        for i in range(len(x)):
            bits[i] = np.uint32(x[i]) << np.uint32(16)
    else:
        for i in range(len(x)):
            out[i] = x[i]


@piece
def narrow(x, out):  # type: ignore[no-untyped-def]
    """The opposite of :func:`widen`: rounds to the nearest, ties to even."""
    if out.itemsize == 2:
        bits = x.view(np.uint32)
        for i in range(len(out)):
            b = bits[i]
            rounded = b + np.uint32(0x7FFF) + ((b >> np.uint32(16)) & np.uint32(1))
            nan = (b & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
            out[i] = np.uint32(0x7FC0) if nan else rounded >> np.uint32(16)
    else:
        for i in range(len(out)):
            out[i] = x[i]


@piece
def _scaled(row, factor, summand):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        row[i] = factor * row[i] + summand


@piece
def _blended(row, factors, summands):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        row[i] = factors[i] * row[i] + summands[i]


@piece
def _currents(x, at, affine, plane, row):  # type: ignore[no-untyped-def]
    """Input of the neurons from ``at`` on; affine: factor and summand of each channel, (2, 0) for none.

    Plane: numbers of a channel in a row; 0 where channels are last, and affine holds those of some pixels.
    """
    n, channels = len(row), affine.shape[1]
    widen(x[at : at + n], row)
    i = 0
    while channels > 0 and plane == 0 and i < n:
        c = (at + i) % channels
        end = min(n, i + channels - c)
        _blended(row[i:end], affine[0, c : c + end - i], affine[1, c : c + end - i])
        i = end
    while channels > 0 and i < n:
        channel = (at + i) // plane % channels
        end = min(n, i + plane - (at + i) % plane)
        _scaled(row[i:end], affine[0, channel], affine[1, channel])
        i = end


@piece
def _sigmoid_slopes(v, threshold, k, psi):  # type: ignore[no-untyped-def]
    """k/4 (1 - tanh^2(k x / 2)), tanh as a quotient of polynomials."""
    for i in range(len(v)):
        y = min(max(HALF * k * (v[i] - threshold), F(-7.9053111)), F(7.9053111))
        z = y * y
        p = F(-2.76076847742355e-16) * z + F(2.00018790482477e-13)
        p = (p * z + F(-8.60467152213735e-11)) * z + F(5.12229709037114e-08)
        p = (p * z + F(1.48572235717979e-05)) * z + F(6.37261928875436e-04)
        p = (p * z + F(4.89352455891786e-03)) * y
        q = (F(1.19825839466702e-06) * z + F(1.18534705686654e-04)) * z
        q = (q + F(2.26843463243900e-03)) * z + F(4.89352518554385e-03)
        y = p / q
        psi[i] = QUARTER * k * (ONE - y * y)


@piece
def _slopes(v, threshold, kind, k, psi):  # type: ignore[no-untyped-def]
    """Slope of the surrogate at v - threshold."""
    if kind == ATAN:
        for i in range(len(v)):
            y = F(np.pi / 2) * k * (v[i] - threshold)
            psi[i] = HALF * k / (ONE + y * y)
    elif kind == FAST_SIGMOID:
        for i in range(len(v)):
            y = k * abs(v[i] - threshold) + ONE
            psi[i] = ONE / (y * y)
    elif kind == QGATE:
        for i in range(len(v)):
            psi[i] = max(ZERO, k - k * k * abs(v[i] - threshold))
    elif kind == RECTANGLE:
        for i in range(len(v)):
            psi[i] = k if (k + k) * abs(v[i] - threshold) < ONE else ZERO
    elif kind == SIGMOID:
        _sigmoid_slopes(v, threshold, k, psi)
    else:
        psi[:] = ONE


@piece
def _first_step(x, threshold, soft_now, zero_now, v, m):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        y = x[i]
        s = y > threshold
        v[i] = y
        m[i] = ZERO if zero_now and s else y - (soft_now if s else ZERO)


@piece
def _step(x, before, constants, zero_late, zero_now, v, m):  # type: ignore[no-untyped-def]
    beta, threshold, soft, soft_now = constants
    for i in range(len(x)):
        q = before[i]
        r = q > threshold
        q = ZERO if r and zero_late else q
        y = beta * q + x[i] - (soft if r else ZERO)
        s = y > threshold
        after = y - ((ONE if s else ZERO) - (ONE if r else ZERO)) * soft_now
        v[i] = y
        m[i] = ZERO if zero_now and s else after


@piece
def _states(layer, at, n, row, vs, ms):  # type: ignore[no-untyped-def]
    """V and the membrane after each step, of n neurons from ``at`` on; x is (n_steps or 1, neurons)."""
    x, constants, flags, affine, start = layer
    zero, now = flags[0] > 0, flags[1] > 0
    threshold, soft_now = constants[1], constants[2] if now else ZERO
    numbers = (constants[0], threshold, constants[2], soft_now)
    current = row[:n]
    for t in range(vs.shape[0]):
        if t == 0 or x.shape[0] > 1:
            _currents(x[t], at, affine, flags[4], current)
        if t == 0 and len(start) > 0:
            before = start[at : at + n]
            _step(current, before, numbers, zero and not now, zero and now, vs[0], ms[0])
        elif t == 0:
            _first_step(current, threshold, soft_now, zero and now, vs[0], ms[0])
        else:
            _step(current, ms[t - 1], numbers, zero and not now, zero and now, vs[t], ms[t])


@piece
def _fired(v, threshold, out):  # type: ignore[no-untyped-def]
    if out.itemsize == 2:
        for i in range(len(out)):
            out[i] = BFLOAT16_ONE if v[i] > threshold else 0
    else:
        for i in range(len(out)):
            out[i] = ONE if v[i] > threshold else ZERO


@piece
def _average(upper, lower, threshold, out):  # type: ignore[no-untyped-def]
    """Spikes of two lines of a picture, averaged over 2x2."""
    for j in range(len(out)):
        out[j] = QUARTER * (
            (ONE if upper[2 * j] > threshold else ZERO)
            + (ONE if upper[2 * j + 1] > threshold else ZERO)
            + (ONE if lower[2 * j] > threshold else ZERO)
            + (ONE if lower[2 * j + 1] > threshold else ZERO)
        )


@piece
def _average_last(upper, lower, channels, threshold, out):  # type: ignore[no-untyped-def]
    """The same where each pixel of a line is ``channels`` numbers."""
    for j in range(len(out) // channels):
        left, right = 2 * j * channels, (2 * j + 1) * channels
        for c in range(channels):
            out[j * channels + c] = QUARTER * (
                (ONE if upper[left + c] > threshold else ZERO)
                + (ONE if upper[right + c] > threshold else ZERO)
                + (ONE if lower[left + c] > threshold else ZERO)
                + (ONE if lower[right + c] > threshold else ZERO)
            )


@piece
def _spread(given, upper, lower):  # type: ignore[no-untyped-def]
    """The gradient of each spike of two lines from those of the averages."""
    for j in range(len(given)):
        g = QUARTER * given[j]
        upper[2 * j] = g
        upper[2 * j + 1] = g
        lower[2 * j] = g
        lower[2 * j + 1] = g


@piece
def _spread_last(given, channels, upper, lower):  # type: ignore[no-untyped-def]
    for j in range(len(given) // channels):
        left, right = 2 * j * channels, (2 * j + 1) * channels
        for c in range(channels):
            g = QUARTER * given[j * channels + c]
            upper[left + c] = g
            upper[right + c] = g
            lower[left + c] = g
            lower[right + c] = g


@piece
def _step_back(v, threshold, zero_now, soft_now, psi, given, carried, out):  # type: ignore[no-untyped-def]
    """Gradient of v from those of the spikes and of the membrane after the step."""
    for i in range(len(out)):
        kept = (ZERO if v[i] > threshold else ONE) - v[i] * psi[i]
        out[i] = given[i] * psi[i] + carried[i] * (kept if zero_now else ONE - soft_now * psi[i])


@piece
def _carry(g, before, beta, threshold, zero_late, carried):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        carried[i] = ZERO if zero_late and before[i] > threshold else beta * g[i]


@piece
def _by_beta(g, before, threshold, zero_late, out):  # type: ignore[no-untyped-def]
    for i in range(len(g)):
        out[i] += ZERO if zero_late and before[i] > threshold else g[i] * before[i]


@piece
def add(g, out):  # type: ignore[no-untyped-def]
    """``out += g``."""
    for i in range(len(g)):
        out[i] += g[i]


@piece
def _put(given, out):  # type: ignore[no-untyped-def]
    """``out[:] = given``, whose error message of unequal shapes takes longer to compile than all of this."""
    for i in range(len(out)):
        out[i] = given[i]


@piece
def _averages(v, width, channels, threshold, out):  # type: ignore[no-untyped-def]
    """Of lines of ``width`` numbers, in pixels of ``channels`` numbers."""
    for i in range(len(out) // (width // 2)):
        up = 2 * i * width
        line = out[i * (width // 2) : (i + 1) * (width // 2)]
        upper, lower = v[up : up + width], v[up + width : up + 2 * width]
        if channels == 1:
            _average(upper, lower, threshold, line)
        else:
            _average_last(upper, lower, channels, threshold, line)


@piece
def _spreads(given, width, channels, out):  # type: ignore[no-untyped-def]
    for i in range(len(given) // (width // 2)):
        up = 2 * i * width
        line = given[i * (width // 2) : (i + 1) * (width // 2)]
        upper, lower = out[up : up + width], out[up + width : up + 2 * width]
        if channels == 1:
            _spread(line, upper, lower)
        else:
            _spread_last(line, channels, upper, lower)


def forward_loop(layer, block, scratch, spikes, last):  # type: ignore[no-untyped-def]
    """Spikes (n_steps, neurons), a quarter where flags[2], numbers of a line, is not 0; last (neurons,)."""
    x, constants, flags, _, _ = layer
    threshold, width, size = constants[1], flags[2], x.shape[1]
    n_steps = spikes.shape[0]
    vs, ms, row = scratch[:n_steps], scratch[n_steps : 2 * n_steps], scratch[2 * n_steps]
    for at in range(block[0], block[1], block[2]):
        n = min(block[2], size - at)
        _states(layer, at, n, row, vs, ms)
        _put(ms[n_steps - 1], last[at : at + n])
        for t in range(n_steps):
            if width == 0:
                _fired(vs[t], threshold, spikes[t][at : at + n])
            else:
                _averages(vs[t], width, flags[5], threshold, row[: n // 4])
                narrow(row, spikes[t][at // 4 : (at + n) // 4])


def backward_loop(layer, block, scratch, given, grad, ends):  # type: ignore[no-untyped-def]
    """Gradients of x, (n_steps or 1, neurons), start and beta; psi: formula flags[3] with constants[3].

    Where x has a factor and a summand, the gradient of their result.
    """
    x, constants, flags, _, start = layer
    last, grad_start, by_beta = ends
    beta, threshold, k = constants[0], constants[1], constants[3]
    width, kind, size = flags[2], flags[3], x.shape[1]
    soft_now = constants[2] if flags[1] > 0 else ZERO
    zero_late, zero_now = flags[0] > 0 and flags[1] == 0, flags[0] > 0 and flags[1] > 0
    n_steps, once = given.shape[0], grad.shape[0] == 1
    vs, ms, more = scratch[:n_steps], scratch[n_steps : 2 * n_steps], scratch[2 * n_steps :]
    carried, spikes, psi, g, row, total = more[0], more[1], more[2], more[3], more[4], more[5]
    for at in range(block[0], block[1], block[2]):
        n = min(block[2], size - at)
        _states(layer, at, n, row, vs, ms)
        carried[:] = ZERO
        total[:] = ZERO
        if len(last) > 0:
            _put(last[at : at + n], carried[:n])
        for t in range(n_steps - 1, -1, -1):
            _slopes(vs[t][:n], threshold, kind, k, psi)
            if given.shape[1] == 0:
                spikes[:] = ZERO
            elif width == 0:
                widen(given[t][at : at + n], spikes)
            else:
                widen(given[t][at // 4 : (at + n) // 4], row)
                _spreads(row[: n // 4], width, flags[5], spikes)
            _step_back(vs[t], threshold, zero_now, soft_now, psi, spikes, carried, g[:n])
            if t > 0 or len(start) > 0:
                before = ms[t - 1][:n] if t > 0 else start[at : at + n]
                if len(by_beta) > 0:
                    _by_beta(g[:n], before, threshold, zero_late, by_beta[at : at + n])
                to = carried if t > 0 else grad_start[at : at + n]
                _carry(g[:n], before, beta, threshold, zero_late, to)
            if once:
                add(g[:n], total)
            else:
                narrow(g, grad[t][at : at + n])
        if once:
            narrow(total, grad[0][at : at + n])
