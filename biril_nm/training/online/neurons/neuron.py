"""OnlineNeuron: a neuron for online learning, one pure function of one step.

    h_t = step(h_{t-1}, y_t, p)        D_t = dh_t / dh_{t-1},  f_t = dh_t / dy_t,  g_t = dh_t / dp

h are the states of one neuron, y its synaptic input, p its parameters. The step couples no two neurons, so
that D is a small block for each neuron; :func:`differentiate` takes it, f and g from the step itself.
Another neuron is one file in :mod:`biril_nm.training.online.neurons`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Bounds", "Derivatives", "OnlineNeuron", "Row", "State", "Values", "differentiate"]

State = tuple[Tensor, ...]
Values = Mapping[str, Tensor]
Row = tuple[Tensor | None, ...]  # None is zero
Bounds = tuple[float, float]


@dataclass(frozen=True)
class OnlineNeuron:
    """A kind of neuron.

    Attributes:
        name: what messages call it.
        states: names of the states, in order.
        step: ``(states, synaptic inputs, values) -> states``, element by element.
        spikes: ``(states, values) ->`` what loops of the layer carry to the next step.
        sends: the same for the layer above; None: the spikes. It may join neurons.
        learned: parameters of each neuron that learn, with their least and greatest value; the first
            values are drawn evenly from there.
        channels: number of synaptic inputs, such as one of each sign.
    """

    name: str
    states: tuple[str, ...]
    step: Callable[[State, State, Values], State]
    spikes: Callable[[State, Values], Tensor]
    sends: Callable[[State, Values], Tensor] | None = None
    learned: Mapping[str, Bounds] = field(default_factory=dict)
    channels: int = 1

    def send(self, state: State, values: Values) -> Tensor:
        """What the layer above receives in this step."""
        return (self.sends or self.spikes)(state, values)


class Derivatives(NamedTuple):
    """Derivatives of one step; row i belongs to state i, each entry has the shape (batch, neurons).

    Attributes:
        states: D, by the states before.
        inputs: f, by the synaptic inputs.
        values: g, by the parameters, in the order of their names.
    """

    states: tuple[Row, ...]
    inputs: tuple[Row, ...]
    values: tuple[Row, ...]


def differentiate(
    neuron: OnlineNeuron, state: State, inputs: State, values: Values, learned: tuple[str, ...]
) -> Derivatives:
    """The derivatives of a step, for as many samples at once as the states have.

    Args:
        neuron: the kind.
        state: the states before.
        inputs: the synaptic inputs.
        values: parameters and constants.
        learned: names of the parameters to differentiate by.
    """
    with torch.enable_grad():  # type: ignore[no-untyped-call]
        before = tuple(h.detach().requires_grad_() for h in state)
        drive = tuple(y.detach().requires_grad_() for y in inputs)
        own = {k: values[k].detach().expand_as(state[0]).requires_grad_() for k in learned}
        after = neuron.step(before, drive, {**values, **own})
        leaves = (*before, *drive, *own.values())
        rows = [
            torch.autograd.grad(h.sum(), leaves, retain_graph=True, allow_unused=True)
            if h.requires_grad
            else (None,) * len(leaves)
            for h in after
        ]
    k, c = len(before), len(drive)
    return Derivatives(
        tuple(row[:k] for row in rows),
        tuple(row[k : k + c] for row in rows),
        tuple(row[k + c :] for row in rows),
    )
