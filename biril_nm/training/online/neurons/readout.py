"""Readouts without spikes: leaky, ``u_t = al u_{t-1} + (1 - al) y_t``, and without memory, ``u_t = y_t``."""

from __future__ import annotations

from torch import Tensor

from biril_nm.training.online.neurons.lif import AL
from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values

__all__ = ["LEAKY_READOUT", "LINEAR_READOUT"]


def _leaky(state: State, inputs: State, p: Values) -> State:
    return (p["al"] * state[0] + (1 - p["al"]) * inputs[0],)


def _linear(state: State, inputs: State, p: Values) -> State:
    del state, p
    return (inputs[0],)


def _potential(state: State, p: Values) -> Tensor:
    del p
    return state[0]


# A readout that leaks and has no spikes.
LEAKY_READOUT = OnlineNeuron("leaky_readout", ("u",), _leaky, _potential, learned={"al": AL})
# A readout without memory and spikes.
LINEAR_READOUT = OnlineNeuron("linear_readout", ("u",), _linear, _potential)
