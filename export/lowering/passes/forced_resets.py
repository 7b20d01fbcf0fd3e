"""What ``reset="force-zero"`` changes: spike rates and predictions of the float network, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from biril_nm.compartments import SpikeReset
from biril_nm.export.lowering.passes.calibrate import float_activity
from biril_nm.export.lowering.passes.float_net import FloatNet

__all__ = ["forced_notes"]


def forced_notes(
    net: FloatNet,
    said: Mapping[str, SpikeReset],
    calibration: ArrayLike | Mapping[str, ArrayLike] | None,
) -> list[str]:
    """One note: which neurons lose the reset that the file says, and what that does to the samples.

    Args:
        net: the float network with the forced resets.
        said: neuron node -> the reset that the file says.
        calibration: samples to compare on, or None.
    """
    if not said:
        return []
    names = ", ".join(f"'{name}' ({reset})" for name, reset in said.items())
    text = f"reset='force-zero' sets v to 0 at a spike in {names}"
    if calibration is None:
        return [f"{text}. Pass calibration data to see what that changes"]
    neurons = {
        name: (shape, replace(dynamics, reset=said.get(name, dynamics.reset)))
        for name, (shape, dynamics) in net.neurons.items()
    }
    before = float_activity(replace(net, neurons=neurons), calibration)
    after = float_activity(net, calibration)
    changes = [
        f"'{name}' from {before[name][0].mean():.4g} to {after[name][0].mean():.4g}"
        for name in said
    ]
    for name in net.outputs.values():
        same = np.argmax(before[name][1], axis=1) == np.argmax(after[name][1], axis=1)
        changes.append(f"{same.sum()} of {same.size} predictions of '{name}' stay")
    return [f"{text}. On the calibration data, spikes per neuron and sample: {'; '.join(changes)}"]
