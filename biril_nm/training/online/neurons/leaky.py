"""snnTorch's ``Leaky`` and ``RLeaky`` for online learning, and their layer as a readout.

    r = 1 if m_{t-1} > threshold else 0             (no derivative)
    v = beta m_{t-1} + y_t - r threshold            (reset "subtract")
    v = (1 - r) beta m_{t-1} + y_t                  ("zero"; RLeaky: (1 - r) (beta m_{t-1} + y_t))
    s_t = 1 if v > threshold else 0                 (derivative: the surrogate of the layer)
    m_t = v; without reset delay, v - (s_t - r) threshold or v - (s_t - r) v

A readout counts, ``n_t = n_{t-1} + s_t``, and sends ``n_t + m_t / threshold``: the score so far.
"""

from __future__ import annotations

from typing import Any

import snntorch as snn
from torch import Tensor

from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values

__all__ = ["leaky_neuron"]


def leaky_neuron(layer: Any, readout: bool = False) -> OnlineNeuron:
    """The kind that steps as ``layer`` does; values are ``beta`` and ``threshold``.

    Args:
        layer: a Leaky or RLeaky.
        readout: whether it counts its spikes.
    """
    fires, zero = layer.spike_grad, layer.reset_mechanism == "zero"
    subtract, at_once = layer.reset_mechanism == "subtract", not layer.reset_delay
    loses_input = zero and isinstance(layer, snn.RLeaky)

    def step(state: State, inputs: State, p: Values) -> State:
        m, threshold = state[0], p["threshold"]
        r = (m.detach() > threshold.detach()).to(m.dtype)
        v = p["beta"].clamp(0, 1) * (m * (1 - r) if zero else m)
        v = v + (inputs[0] * (1 - r) if loses_input else inputs[0])
        if subtract:
            v = v - r * threshold
        s = fires(v - threshold)
        m = v
        if at_once and (zero or subtract):
            m = v - (s - r) * (v if zero else threshold)
        return (m, s, state[2] + s) if readout else (m, s)

    def spikes(state: State, p: Values) -> Tensor:
        del p
        return state[1]

    def score(state: State, p: Values) -> Tensor:
        return state[2] + state[0] / p["threshold"].detach()

    states = ("mem", "spk", "count") if readout else ("mem", "spk")
    return OnlineNeuron(
        type(layer).__name__, states, step, spikes, sends=score if readout else None
    )
