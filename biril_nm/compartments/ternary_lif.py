"""TernaryLIF: CUBA-LIF with two thresholds, whose spikes carry -1, 0 or +1.

Oracle: lava-nc 0.10.0 ``lava/proc/lif/models.py`` (``PyTernLifModelFixed``). Its thresholds are arrays of 32
bits, so that both wrap where they are shifted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.compartments.cuba_lif import CUBA_LIF, U_STEP, V_GROWTH, integrate
from biril_nm.compartments.model import PROGRAM, Register, Registers
from biril_nm.loihi.fixed_point import shift_left
from biril_nm.loihi.registers import VTH_SHIFT

__all__ = ["TERNARY_LIF"]


def step(a: Any, state: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    """One step: v above the upper threshold is a spike of +1, below the lower one of -1; v becomes 0."""
    u, v = state
    keep_u, keep_v, bias, upper, lower = constants
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    s = 1 * (v > upper) - 1 * (v < lower)
    return (u, v * (1 - s * s)), s


def prepare(registers: Registers) -> tuple[NDArray[np.int64], ...]:
    """Shares that u and v keep, bias, and both thresholds in units of v."""
    keep_u, keep_v, bias, _ = CUBA_LIF.prepare({**registers, "vth": 0})
    thresholds = (np.asarray(registers[name]) for name in ("vth_hi", "vth_lo"))
    upper, lower = (shift_left(vth, VTH_SHIFT).astype(np.int64) for vth in thresholds)
    return keep_u, keep_v, bias, upper, lower


TERNARY_LIF = replace(
    CUBA_LIF,
    name="ternary_lif",
    doc="CUBA-LIF with two thresholds, whose spikes are -1 or +1: Lava's TernaryLIF",
    equation=(
        f"{U_STEP}; v = clip({V_GROWTH}); s = (v > (vth_hi << 6)) - (v < (vth_lo << 6)); v = 0 where s != 0"
    ),
    registers=(
        Register(
            name="vth_hi",
            doc="mantissa of the upper threshold, vth_hi << 6; above it the spike is +1",
            limits=lambda chip: (0, chip.vth_max),
            way_out="Rescale the layer.",
            default=None,
            tabled=True,
        ),
        Register(
            name="vth_lo",
            doc="mantissa of the lower threshold, vth_lo << 6; below it the spike is -1",
            limits=lambda chip: (-chip.vth_max, 0),
            way_out="Rescale the layer.",
            default=None,
            tabled=True,
        ),
        *CUBA_LIF.registers[1:],
    ),
    prepare=prepare,
    step=step,
    threshold=lambda registers: np.asarray(registers["vth_hi"], dtype=np.int64),
    chips={"loihi2": PROGRAM},
    netx_refusal="its neurons have two thresholds and spikes with a sign",
    lava_process="TernaryLIF",
    spikes=(-1, 1),
)
