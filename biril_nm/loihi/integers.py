"""The chip's arithmetic on u and v as plain expressions, from which compartment steps are written.

Each function takes Python integers, 64-bit NumPy arrays, or the integers of numba, and has no branch,
so that one text serves the scalar reference, the Lava model and the compiled kernels. Oracle: lava-nc
0.10.0 ``lava/proc/lif/models.py`` (``PyLifModelBitAcc``).
"""

from __future__ import annotations

from typing import Any

from biril_nm.loihi.registers import DECAY_BITS, INT32_BITS, INT32_HALF, STATE_LIMIT, STATE_SPAN

__all__ = ["clip", "decay", "to_int32", "wrap"]

INT32_MASK = (1 << INT32_BITS) - 1


def to_int32(x: Any) -> Any:
    """``x`` modulo 2**32 as a signed integer: what a 32-bit register keeps."""
    return ((x + INT32_HALF) & INT32_MASK) - INT32_HALF


def decay(x: Any, keep: Any) -> Any:
    """``x * keep / 4096``, rounded toward zero."""
    product = x * keep
    return (abs(product) >> DECAY_BITS) * (1 - 2 * (product < 0))


def wrap(x: Any) -> Any:
    """One conditional wrap into 24 bits: 2**23 stays, -2**23 becomes 2**23."""
    return x - STATE_SPAN * (x > STATE_LIMIT) + STATE_SPAN * (x <= -STATE_LIMIT)


def clip(x: Any) -> Any:
    """``x`` limited to -(2**23 - 1) .. 2**23 - 1."""
    top = STATE_LIMIT - 1
    return x + (top - x) * (x > top) + (-top - x) * (x < -top)
