"""What lava-dl's netx makes of the weights of a dense layer, and how we hold the same integers.

netx (lava-dl 0.6.0 ``netx/utils.py optimize_weight_bits``) shifts the weights of a layer up as far
as 8 bits allow and gives Lava the negative shift as exponent, so that sums come out as written. It
derives the shift from the sign mode that it found, but does not pass that mode on: Lava's Dense
decides again (all <= 0 is inhibitory for Lava, mixed for netx if a 0 is among them), and clips or
truncates accordingly. :func:`load_weights` repeats both and reports whether the weights survived.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.loihi import LOIHI2, MIXED_STEP, MIXED_WEIGHT_MIN, WEIGHT_BITS, WEIGHT_MAX, SignMode
from biril_nm.loihi.fixed_point import prepare_weights, sign_mode_of, weight_limits

__all__ = ["Loaded", "StoredWeights", "load_weights", "represent", "represent_kernel"]


@dataclass(frozen=True)
class StoredWeights:
    """Weights as one connection holds them: they act as ``weight << weight_exp``."""

    weight: Any  # int64 array
    weight_exp: int
    weight_bits: int
    sign_mode: SignMode


@dataclass(frozen=True)
class Loaded:
    """A dense layer as netx loads it.

    Attributes:
        parts: registers of each matrix (feed-forward, then recurrent), if nothing was lost.
        trouble: what netx makes of it instead; empty if nothing was lost.
    """

    parts: tuple[StoredWeights, ...]
    trouble: str = ""


def load_weights(matrices: Sequence[IntArray]) -> Loaded:
    """Follow the weights of one layer (matrices that share an exponent) into Lava's registers.

    With ``max`` and ``min`` over all matrices: mixed if max >= 0 > min, and then
    ``b = floor(log2(min(127 / max, 128 / -min))) + 1``; excitatory ``b = floor(log2(255 / max))``;
    inhibitory ``b = floor(log2(256 / -min))``. Lava gets ``w << b`` with exponent ``-b`` and
    ``8 - b - n`` bits, n the common zero bits (one less for mixed).
    """
    joint = np.concatenate([matrix.ravel() for matrix in matrices])
    if not joint.size or not joint.any():
        return Loaded((), "all weights are 0, at which netx raises OverflowError")
    low, high = int(joint.min()), int(joint.max())
    top = WEIGHT_MAX - 1
    if low < 0 < high and (high > top or low < MIXED_WEIGHT_MIN):
        clipped = np.clip(joint, MIXED_WEIGHT_MIN, top)
        return Loaded((), _first_change(joint, clipped, "netx clips"))
    mixed = high >= 0 > low
    shift = _shift(low, high)
    if shift < 0:
        return Loaded((), f"weights reach {low or high}, for which netx shifts by {shift}: garbage")
    bits = WEIGHT_BITS - shift - _common_zero_bits(joint) + mixed
    parts = []
    for matrix in matrices:
        wide = matrix << shift
        mode = sign_mode_of(wide)
        acts = _in_lava(wide, bits, mode)
        if not np.array_equal(acts, wide):
            trouble = _first_change(matrix, acts >> shift, f"Lava takes them as {mode.value}")
            return Loaded((), trouble)
        parts.append(StoredWeights(wide, -shift, bits, mode))
    return Loaded(tuple(parts))


def _shift(low: int, high: int) -> int:
    if high < 0:
        return _floor_log2(-MIXED_WEIGHT_MIN, -low)
    if low >= 0:
        return _floor_log2(WEIGHT_MAX, high)
    half = WEIGHT_MAX // MIXED_STEP
    room = _floor_log2(half + 1, -low)
    return 1 + (min(room, _floor_log2(half, high)) if high else room)


def _floor_log2(a: int, b: int) -> int:
    """``floor(log2(a / b))`` of positive integers."""
    if a >= b:
        return (a // b).bit_length() - 1
    return -((b + a - 1) // a - 1).bit_length()


def _common_zero_bits(weights: IntArray) -> int:
    """Zero bits that all weights end in, at most 8."""
    bits = int(np.bitwise_or.reduce(weights))
    return next((n for n in range(WEIGHT_BITS, 0, -1) if bits % (1 << n) == 0), 0)


def _in_lava(weights: IntArray, bits: int, mode: SignMode) -> IntArray:
    """Lava's preparation, also for the 0 and 9 bits that netx may ask for (9: mixed odd weights
    stay whole, one-signed ones are shifted by -1, which numpy makes 0).
    """
    if 1 <= bits <= WEIGHT_BITS:
        return prepare_weights(weights, bits, mode)
    lost = WEIGHT_BITS - bits + (mode is SignMode.MIXED)
    clipped = np.clip(weights, *weight_limits(mode))
    sign = -1 if mode is SignMode.INHIBITORY else 1
    kept = np.zeros_like(clipped) if lost < 0 else ((sign * clipped >> lost) << lost) * sign
    return np.asarray(kept, dtype=np.int64)


def _first_change(wanted: IntArray, found: IntArray, why: str) -> str:
    changed = (wanted != found).ravel()
    first = int(np.argmax(changed))
    return (
        f"{int(changed.sum())} of {changed.size} weights change, the first from "
        f"{int(wanted.ravel()[first])} to {int(found.ravel()[first])} ({why})"
    )


def represent(weights: IntArray) -> tuple[StoredWeights, ...]:
    """Connections that together act as ``weights``: one, or the even and the odd part; none if
    they do not fit the chip.
    """
    single = _at_some_exponent(weights)
    if single is not None:
        return (single,)
    odd = weights % MIXED_STEP
    even = _at_some_exponent(weights - odd)
    if even is None:
        return ()
    return (even, StoredWeights(odd, 0, WEIGHT_BITS, SignMode.EXCITATORY))


def _at_some_exponent(weights: IntArray) -> StoredWeights | None:
    mode = sign_mode_of(weights)
    for exponent in range(LOIHI2.weight_exp_max + 1):
        if np.any(weights % (1 << exponent)):
            return None
        mantissa = weights >> exponent
        if np.array_equal(prepare_weights(mantissa, WEIGHT_BITS, mode), mantissa):
            return StoredWeights(mantissa, exponent, WEIGHT_BITS, mode)
    return None


def represent_kernel(weights: IntArray) -> StoredWeights:
    """A convolution's kernel, which netx and Lava take as it is: the smallest exponent that brings
    it into 8 bits and sign, or 0 if there is none.
    """
    mode = sign_mode_of(weights)
    low, high = weight_limits(mode)
    for exponent in range(LOIHI2.weight_exp_max + 1):
        if np.any(weights % (1 << exponent)):
            break
        mantissa = weights >> exponent
        if not mantissa.size or (mantissa.min() >= low and mantissa.max() <= high):
            return StoredWeights(mantissa, exponent, WEIGHT_BITS, mode)
    return StoredWeights(weights, 0, WEIGHT_BITS, mode)
