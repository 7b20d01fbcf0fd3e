"""Event-driven GRU: a gated unit that sends its state, as a number, only while it is above a threshold.

    y_{t-1} = c_{t-1} s,                s = 1 if c_{t-1} > theta else 0
    g_t = sig(i_g + b_g),  r_t = sig(i_r + b_r),  z_t = tanh(i_z + r_t i_y + b_z)
    c_t = g_t z_t + (1 - g_t) c_{t-1} - y_{t-1}

i_g, i_r and i_z are synaptic inputs from the layer below, i_g and i_r from the layer's own y_{t-1} too;
i_y is from y_{t-1} alone. The reset gate r acts behind the weights of the loop, so that a step couples no two
neurons (:mod:`biril_nm.training.online.neurons.neuron`). The derivative of s is
:func:`~biril_nm.training.online.neurons.spikes.narrow`. theta and the biases learn.

Source: EGRU (Subramoney et al., "Efficient recurrent architectures through activity sparsity and sparse
back-propagation through time", ICLR 2023); threshold and slope from the gesture experiment of BrainTrace.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values
from biril_nm.training.online.neurons.spikes import narrow

__all__ = ["EGRU", "GATE", "INPUT", "LOOP", "RESET"]

THETA = (0.0, 0.5)  # of mean 0.25
BIAS = (-1.0, 1.0)
GATE, RESET, INPUT, LOOP = range(4)  # synaptic inputs


def _sent(state: State, p: Values) -> Tensor:
    c = state[0]
    return c * narrow(c - p["theta"])


def _step(state: State, inputs: State, p: Values) -> State:
    gate = torch.sigmoid(inputs[GATE] + p["b_g"])
    reset = torch.sigmoid(inputs[RESET] + p["b_r"])
    z = torch.tanh(inputs[INPUT] + reset * inputs[LOOP] + p["b_z"])
    return (gate * z + (1 - gate) * state[0] - _sent(state, p),)


# Event-driven GRU.
EGRU = OnlineNeuron(
    "egru",
    ("c",),
    _step,
    _sent,
    learned={"theta": THETA, "b_g": BIAS, "b_r": BIAS, "b_z": BIAS},
    channels=4,
)
