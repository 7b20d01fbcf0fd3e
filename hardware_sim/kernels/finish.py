"""What a sum of weights becomes: the exponent of the connection, in 32 bits, or modulo 2**24.

:class:`biril_nm.hardware_sim.kernels.records.Finish` says how.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.hardware_sim.kernels.jit import choice, part
from biril_nm.loihi import CONV_SUM_BITS, CONV_SUM_HALF, INT32_BITS, INT32_HALF

__all__ = ["deliver"]

CONV_HALF = np.int64(CONV_SUM_HALF)
CONV_MASK = np.int64((1 << CONV_SUM_BITS) - 1)
INT32_MIN = np.int64(-INT32_HALF)
INT32_MAX = np.int64(INT32_HALF - 1)


@choice
def deliver(sums: Any, out: Any, add: Any, finish: Any) -> Any:
    """``out (+)= finished sums`` for the length of ``out``."""
    return _deliver_wide if sums.dtype.bitwidth > INT32_BITS else _deliver_narrow


def _deliver_wide(sums: Any, out: Any, add: Any, finish: Any) -> None:
    if finish.modulo:
        _deliver_modulo(sums, out, add, finish.left)
    else:
        for i in range(out.size):  # shifted before it is cut
            value = np.int32((sums[i] << finish.left) >> finish.right)
            out[i] = np.int32(out[i] + value) if add else value


def _deliver_narrow(sums: Any, out: Any, add: Any, finish: Any) -> None:
    """A product, because shifts by a variable are not narrowed to 32 bits."""
    scale, right = np.int32(1 << finish.left), finish.right
    if finish.modulo:
        _deliver_modulo(sums, out, add, finish.left)
    elif add:
        for i in range(out.size):
            out[i] = np.int32(out[i] + np.int32(np.int32(np.int32(sums[i]) * scale) >> right))
    elif right == 0:
        for i in range(out.size):
            out[i] = np.int32(np.int32(sums[i]) * scale)
    else:
        for i in range(out.size):
            out[i] = np.int32(np.int32(np.int32(sums[i]) * scale) >> right)


@part
def _deliver_modulo(sums: Any, out: Any, add: Any, left: Any) -> None:
    """``out (+)= sums << left`` modulo 2**24, signed.

    Lava sums in float64 and casts to int32, which on x86 gives -2**31 for what does not fit;
    modulo 2**24 that is 0.
    """
    for i in range(out.size):
        value = np.int64(sums[i]) << left
        if value < INT32_MIN or value > INT32_MAX:
            value = np.int64(0)
        value = ((value + CONV_HALF) & CONV_MASK) - CONV_HALF
        out[i] = np.int32(out[i] + value) if add else np.int32(value)
