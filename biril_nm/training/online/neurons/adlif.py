"""adLIF: LIF with an adaptation current w.

    w_t = be w_{t-1} + a u_{t-1} + b s_{t-1}
    u_t = al (u_{t-1} - s_{t-1}) + (1 - al) (y_t - w_t),   s_t = 1 if u_t > 1 else 0

Source: the networks for spoken digits of BrainTrace's experiments; be from ``e^{-1/30}`` to ``e^{-1/120}``.
"""

from __future__ import annotations

import math

from torch import Tensor

from biril_nm.training.online.neurons.lif import AL
from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values
from biril_nm.training.online.neurons.spikes import boxcar

__all__ = ["ADLIF"]

BE = (math.exp(-1 / 30), math.exp(-1 / 120))


def _step(state: State, inputs: State, p: Values) -> State:
    (u, w), (y,) = state, inputs
    s = boxcar(u - 1)
    w = p["be"] * w + p["a"] * u + p["b"] * s
    return p["al"] * (u - s) + (1 - p["al"]) * (y - w), w


def _spikes(state: State, p: Values) -> Tensor:
    del p
    return boxcar(state[0] - 1)


# LIF with an adaptation current.
ADLIF = OnlineNeuron(
    "adlif",
    ("u", "w"),
    _step,
    _spikes,
    learned={"al": AL, "be": BE, "a": (-1.0, 1.0), "b": (0.0, 2.0)},
)
