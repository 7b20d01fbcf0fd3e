"""Pure integer functions of the chip: decay, wrap, weight preparation, bias, registers of floats.

Each function states its rounding. Oracle: lava-nc 0.10.0, tag ``fixed_pt``. No function changes
its arguments.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Between, Count, Integers, Numbers, checked
from biril_nm.errors import ConfigError, RangeError
from biril_nm.loihi.integers import decay as decay_state
from biril_nm.loihi.integers import wrap
from biril_nm.loihi.registers import (
    DECAY_UNITY,
    DU_OFFSET,
    INT32_BITS,
    MIXED_STEP,
    MIXED_WEIGHT_MIN,
    WEIGHT_BITS,
    WEIGHT_MAX,
    SignMode,
)

__all__ = [
    "bias_registers",
    "decay_toward_zero",
    "decay_u_register",
    "decay_v_register",
    "prepare_weights",
    "round_half_away",
    "shift_arithmetic",
    "shift_left",
    "sign_mode_of",
    "truncate_weights",
    "weight_limits",
    "weight_step",
    "wrap_state",
]

IntArray = NDArray[np.int64]
Exponent = Annotated[int, Between(-63, 63)]


@checked
def decay_toward_zero(state: Integers, decay: Integers) -> IntArray:
    """Decay of u or v: ``sign(x) * floor(|x| * (4096 - d) / 4096)``, 64-bit product.

    Args:
        state: integers, any shape.
        decay: ``du + 1`` for u, ``dv`` for v; 0..4096.
    """
    try:
        x, d = np.broadcast_arrays(
            np.asarray(state, dtype=np.int64), np.asarray(decay, dtype=np.int64)
        )
    except ValueError:
        raise ConfigError(
            f"state has shape {np.shape(state)}, decay {np.shape(decay)}; expected shapes that fit"
        ) from None
    keep = DECAY_UNITY - d
    return np.asarray(decay_state(x, keep), dtype=np.int64)


@checked
def wrap_state(value: Integers) -> IntArray:
    """One conditional wrap of u into 24 bits, as Lava does it (no modulo).

    ``x - 2**24`` above ``2**23``, ``x + 2**24`` at or below ``-2**23``, else x. So +2**23 stays
    and -2**23 becomes +2**23.
    """
    return np.asarray(wrap(np.asarray(value, dtype=np.int64)))


@checked
def shift_arithmetic(value: Integers, exponent: Exponent) -> IntArray:
    """``value << exponent`` for exponents above 0, else ``value >> -exponent`` (floor)."""
    x = np.asarray(value, dtype=np.int64)
    return x << exponent if exponent > 0 else x >> -exponent


def shift_left(value: ArrayLike, exponent: int) -> NDArray[np.int32]:
    """``value << exponent`` in 32 bits, wrapping; floor shift right for negative exponents."""
    wide = np.asarray(value, dtype=np.int64)
    if exponent >= INT32_BITS:
        return np.zeros_like(wide, dtype=np.int32)
    shifted = wide << exponent if exponent >= 0 else wide >> min(-exponent, INT32_BITS - 1)
    return np.asarray(shifted).astype(np.int32)


@checked
def sign_mode_of(weights: Numbers) -> SignMode:
    """Sign mode that Lava chooses by itself: all >= 0, all <= 0, or mixed."""
    w = np.asarray(weights)
    if w.size == 0 or w.min() >= 0:
        return SignMode.EXCITATORY
    return SignMode.INHIBITORY if w.max() <= 0 else SignMode.MIXED


@checked
def weight_limits(mode: SignMode) -> tuple[int, int]:
    """Smallest and largest weight before truncation."""
    if mode is SignMode.MIXED:
        return MIXED_WEIGHT_MIN, WEIGHT_MAX
    return (0, WEIGHT_MAX) if mode is SignMode.EXCITATORY else (-WEIGHT_MAX, 0)


@checked
def weight_step(weight_bits: int, mode: SignMode) -> int:
    """Distance of neighbouring weights: ``2**(8 - bits)``, doubled for MIXED."""
    if not 1 <= weight_bits <= WEIGHT_BITS:
        raise RangeError(f"weight_bits is {weight_bits}; expected 1 to {WEIGHT_BITS}")
    step = 1 << (WEIGHT_BITS - weight_bits)
    return step * MIXED_STEP if mode is SignMode.MIXED else step


@checked
def prepare_weights(weights: Integers, weight_bits: int, mode: SignMode) -> IntArray:
    """Clip and truncate weights as Lava's Dense and Sparse do in their first step.

    Truncation floors towards minus infinity for MIXED and EXCITATORY, towards zero for
    INHIBITORY. Example: MIXED, 8 bit: 3 -> 2, -1 -> -2, 255 -> 254.
    """
    low, high = weight_limits(mode)
    return truncate_weights(
        np.clip(np.asarray(weights, dtype=np.int64), low, high), weight_bits, mode
    )


@checked
def truncate_weights(weights: Integers, weight_bits: int, mode: SignMode) -> IntArray:
    """The second half of :func:`prepare_weights`: all that learning connections do at the start."""
    w = np.asarray(weights, dtype=np.int64)
    step = weight_step(weight_bits, mode)
    if mode is SignMode.INHIBITORY:
        return np.asarray(-((-w // step) * step), dtype=np.int64)
    return np.asarray((w // step) * step, dtype=np.int64)


@checked
def round_half_away(value: Numbers) -> IntArray:
    """Nearest integer, halves away from zero."""
    x = np.asarray(value, dtype=np.float64)
    return np.asarray(np.sign(x) * np.floor(np.abs(x) + 0.5), dtype=np.int64)


@checked
def decay_u_register(fraction: float) -> int:
    """``du = round(4096 * fraction) - 1``: fraction is what u loses per step.

    A fraction of 1 (no synaptic memory) gives 4095; 0 (u never decays) has no register on the
    chip, the smallest decay being 1/4096.

    Raises:
        RangeError: the fraction is not in 0..1 or rounds to no decay at all.
    """
    register = _decay_units(fraction) - DU_OFFSET
    if register < 0:
        raise RangeError(
            f"synaptic decay {fraction:.3g} per step is below the smallest one, 1/{DECAY_UNITY}; "
            f"use a shorter tau_syn or a longer dt_s"
        )
    return register


@checked
def decay_v_register(fraction: float) -> int:
    """``dv = round(4096 * fraction)``: fraction is what v loses per step, 0 for an integrator.

    A fraction of 1 gives 4096, which Lava runs but a 12-bit register cannot hold.

    Raises:
        RangeError: the fraction is not in 0..1.
    """
    return _decay_units(fraction)


def _decay_units(fraction: float) -> int:
    if not (math.isfinite(fraction) and 0.0 <= fraction <= 1.0):
        raise RangeError(
            f"decay per step is {fraction}; expected 0 to 1, because no time constant is shorter than a "
            f"step. Choose a smaller dt_s"
        )
    return math.floor(fraction * DECAY_UNITY + 0.5)


@checked
def bias_registers(bias: Numbers, mant_max: Count, exp_max: Exponent) -> tuple[IntArray, int]:
    """Mantissas and the smallest common exponent with ``mant << exp`` nearest to ``bias``.

    Args:
        bias: wanted bias per neuron in units of v.
        mant_max: largest magnitude of the mantissa.
        exp_max: largest exponent.

    Returns:
        Mantissas (halves away from zero) and the exponent.

    Raises:
        RangeError: the largest bias fits no exponent.
    """
    b = np.asarray(bias, dtype=np.float64)
    peak = float(np.abs(b).max()) if b.size else 0.0
    for exponent in range(exp_max + 1):
        if math.floor(peak / (1 << exponent) + 0.5) <= mant_max:
            return round_half_away(b / (1 << exponent)), exponent
    raise RangeError(
        f"bias {peak:.0f} exceeds {mant_max} * 2**{exp_max}; use a smaller scale or bias"
    )
