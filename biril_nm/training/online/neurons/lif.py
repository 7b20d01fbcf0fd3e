"""LIF with soft reset: ``u_t = al (u_{t-1} - s_{t-1}) + (1 - al) y_t``, ``s_t = 1 if u_t > 1 else 0``.

Source: the networks for spoken digits of BrainTrace's experiments; al from ``e^{-1/5}`` to ``e^{-1/25}``.
"""

from __future__ import annotations

import math

from torch import Tensor

from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values
from biril_nm.training.online.neurons.spikes import boxcar

__all__ = ["AL", "LIF"]

AL = (math.exp(-1 / 5), math.exp(-1 / 25))


def _step(state: State, inputs: State, p: Values) -> State:
    (u,), (y,) = state, inputs
    return (p["al"] * (u - boxcar(u - 1)) + (1 - p["al"]) * y,)


def _spikes(state: State, p: Values) -> Tensor:
    del p
    return boxcar(state[0] - 1)


# LIF with soft reset.
LIF = OnlineNeuron("lif", ("u",), _step, _spikes, learned={"al": AL})
