"""A compartment model of one's own: CUBA-LIF with the threshold doubled, and a count of its spikes.

The one file and the one line that a new neuron takes. The count is a state word beyond u and v; each spike
raises the threshold by it, so that a forgotten or uncleared word shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from biril_nm.compartments import CUBA_LIF, CompartmentModel, Register, register
from biril_nm.compartments.cuba_lif import step as cuba_step

GAIN_MAX = 2047


def step(a: Any, state: tuple[Any, ...], constants: tuple[Any, ...]) -> tuple[Any, Any]:
    """CUBA-LIF whose threshold grows by the spikes since the last clearing."""
    u, v, count = state
    keep_u, keep_v, bias, threshold, gain = constants
    (u, v), s = cuba_step(a, (u, v), (keep_u, keep_v, bias, 2 * threshold + gain * count))
    return (u, v, count + s), s


def prepare(registers: Any) -> tuple[Any, ...]:
    """The constants of CUBA-LIF, and the gain."""
    return (*CUBA_LIF.prepare(registers), np.asarray(registers["gain"], dtype=np.int64))


TOY = CompartmentModel(
    name="toy_lif",
    doc="CUBA-LIF with twice the threshold, which grows with each spike",
    equation=f"{CUBA_LIF.equation}, with 2 * (vth << 6) + gain * count; count = count + s",
    registers=(
        *CUBA_LIF.registers,
        Register(
            name="gain",
            doc="growth of the threshold per spike",
            limits=lambda chip: (0, GAIN_MAX),
            way_out="Choose a smaller gain.",
        ),
    ),
    prepare=prepare,
    step=step,
    threshold=lambda registers: 2 * CUBA_LIF.threshold(registers),
    reset=CUBA_LIF.reset,
    chips={"loihi2": "program"},
    netx_refusal="its layers have one threshold",
    state=("u", "v", "count"),
)
register(TOY, __name__)
