"""CUBA-LIF, the compartment of Loihi: IF, LIF, CUBA-LIF and integrators are values of its registers.

Oracle: lava-nc 0.10.0 ``lava/proc/lif/models.py`` (``PyLifModelBitAcc``), its 32-bit overflows included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.compartments.model import (
    NATIVE,
    ZERO_AT_ONCE,
    CompartmentModel,
    Register,
    Registers,
)
from biril_nm.loihi.fixed_point import shift_left
from biril_nm.loihi.integers import clip, decay, to_int32, wrap
from biril_nm.loihi.registers import (
    DECAY_UNITY,
    DU_OFFSET,
    NO_SYNAPTIC_MEMORY,
    VTH_SHIFT,
    WEIGHT_SHIFT,
)

__all__ = ["CUBA_LIF", "U_STEP", "V_GROWTH", "integrate"]

IntArray = NDArray[np.int64]


# The step in words: what u becomes.
U_STEP = "u = wrap(trunc0(u * (4096 - (du + 1)) / 4096) + (a << 6))"
# The step in words: v before the threshold.
V_GROWTH = "trunc0(v * (4096 - dv) / 4096) + u + (bias_mant << bias_exp)"


def integrate(a: Any, u: Any, v: Any, keep_u: Any, keep_v: Any, drive: Any) -> tuple[Any, Any]:
    """Step of u and v before the threshold: the shares that they keep, and what they gain."""
    u = wrap(to_int32(to_int32(decay(u, keep_u)) + to_int32(a << WEIGHT_SHIFT)))
    return u, clip(to_int32(to_int32(to_int32(decay(v, keep_v)) + u) + drive))


def step(a: Any, state: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    """One step: u and v integrate, v above the threshold is a spike and becomes 0."""
    u, v = state
    keep_u, keep_v, bias, threshold = constants
    u, v = integrate(a, u, v, keep_u, keep_v, bias)
    s = 1 * (v > threshold)
    return (u, v * (1 - s)), s


def prepare(registers: Registers) -> tuple[IntArray, ...]:
    """Shares that u and v keep, bias and threshold in units of v, as Lava holds them."""
    mantissa = np.asarray(registers["bias_mant"]).astype(np.int16)
    return (
        DECAY_UNITY - (np.asarray(registers["du"], dtype=np.int64) + DU_OFFSET),
        DECAY_UNITY - np.asarray(registers["dv"], dtype=np.int64),
        shift_left(mantissa, int(registers["bias_exp"])).astype(np.int64),
        _threshold(registers),
    )


def _threshold(registers: Registers) -> IntArray:
    """``vth << 6``: a shared threshold is a Python integer in Lava, one per neuron wraps in 32 bits."""
    vth = np.asarray(registers["vth"])
    if vth.ndim:
        return shift_left(vth, VTH_SHIFT).astype(np.int64)
    info = np.iinfo(np.int32)  # v stays below both
    return np.asarray(np.clip(vth.astype(np.int64) << VTH_SHIFT, info.min, info.max))


# Leaky integrate and fire with synaptic current, as the silicon has it; v becomes 0 at a spike.
CUBA_LIF = CompartmentModel(
    name="cuba_lif",
    doc="leaky integrate and fire with synaptic current; IF, LIF, CUBA-LIF and integrator by its registers",
    equation=f"{U_STEP}; v = clip({V_GROWTH}); s = v > (vth << 6); v = 0 where s",
    registers=(
        Register(
            name="vth",
            doc="threshold mantissa; the threshold is vth << 6",
            limits=lambda chip: (0, chip.vth_max),
            way_out="Lower with a smaller scale, or rescale the layer.",
            default=None,
            tabled=True,
        ),
        Register(
            name="du",
            doc="u loses (du + 1) / 4096 per step; 4095: no synaptic memory",
            limits=lambda chip: (0, NO_SYNAPTIC_MEMORY),
            way_out="Use du = round(4096 * decay) - 1 (4095: no memory).",
            default=NO_SYNAPTIC_MEMORY,
            tabled=True,
        ),
        Register(
            name="dv",
            doc="v loses dv / 4096 per step; 0: an integrator. Lava runs 4096, which 12 bits do not hold",
            limits=lambda chip: (0, DECAY_UNITY),
            way_out="Use dv = round(4096 * decay) (0: an integrator).",
            tabled=True,
        ),
        Register(
            name="bias_mant",
            doc="signed mantissa of the bias, bias_mant << bias_exp",
            limits=lambda chip: (-chip.bias_mant_max, chip.bias_mant_max),
            way_out="Move factors of 2 into bias_exp.",
        ),
        Register(
            name="bias_exp",
            doc="exponent of the bias",
            limits=lambda chip: (0, chip.bias_exp_max),
            way_out="Fold the exponent into bias_mant.",
            shared=True,
        ),
    ),
    prepare=prepare,
    step=step,
    threshold=lambda registers: np.asarray(registers["vth"], dtype=np.int64),
    reset=ZERO_AT_ONCE,
    chips={"loihi1": NATIVE, "loihi2": NATIVE},
    lava_process="LIF",
)
