"""CUBA-LIF whose v stays at 0 for some steps after a spike, while u goes on.

Lava's LIFRefractory has a floating-point model only, of which this is the integer form: lava-nc 0.10.0
``lava/proc/lif/models.py`` (``PyLifRefractoryModelFloat``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from biril_nm.compartments.cuba_lif import CUBA_LIF, U_STEP, V_GROWTH, integrate
from biril_nm.compartments.model import PROGRAM, Register, Registers

__all__ = ["CUBA_LIF_REFRACTORY"]

STEPS_MAX = 63  # of the refractory register of Loihi: nengo-loihi, SpikeConfig


def step(a: Any, state: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    """One step: v integrates unless the neuron waits; a spike sets v to 0 and makes it wait."""
    u, v, wait = state
    keep_u, keep_v, bias, threshold, refractory = constants
    awake = 1 * (wait == 0)
    u, moved = integrate(a, u, v, keep_u, keep_v, bias)
    v = v + (moved - v) * awake
    s = 1 * (v > threshold)
    return (u, v * (1 - s), s * refractory + (1 - s) * (wait - (1 - awake))), s


def prepare(registers: Registers) -> tuple[Any, ...]:
    """The constants of CUBA-LIF, and the steps to wait."""
    return (*CUBA_LIF.prepare(registers), np.asarray(registers["refractory"], dtype=np.int64))


CUBA_LIF_REFRACTORY = replace(
    CUBA_LIF,
    name="cuba_lif_refractory",
    doc="CUBA-LIF with a refractory period; Lava's LIFRefractory, which has no integer model",
    equation=(
        f"{U_STEP}; v = clip({V_GROWTH}) where wait == 0; s = v > (vth << 6); v = 0 where s; "
        "wait = refractory where s, else max(wait - 1, 0)"
    ),
    registers=(
        *CUBA_LIF.registers,
        Register(
            name="refractory",
            doc="steps after a spike in which v stays at 0",
            limits=lambda chip: (0, STEPS_MAX),
            way_out="Choose a shorter refractory period, or a wider time step.",
            default=1,
        ),
    ),
    prepare=prepare,
    step=step,
    chips={"loihi2": PROGRAM},
    netx_refusal="its neurons wait after a spike",
    lava_process="",
    state=("u", "v", "wait"),
)
