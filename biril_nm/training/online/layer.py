"""OnlineLayer: neurons of one kind, the weights that lead to them, and the bounds of both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.training.online.neurons.neuron import OnlineNeuron, State, Values

__all__ = [
    "BELOW",
    "OWN",
    "Carried",
    "LayerRun",
    "OnlineLayer",
    "Projection",
    "Wiring",
    "dense",
    "filtered",
    "layer_of",
]

BELOW, OWN = "below", "own"


@dataclass(frozen=True)
class Wiring:
    """Where a projection leads.

    Attributes:
        source: ``"below"``, the input of the layer, or ``"own"``, its spikes of the step before.
        columns: the part of the layer's own spikes, from and to.
        channel: index of the synaptic input.
        decay: of the exponential synapse, ``x_t <- decay x_{t-1} + x_t``; 0: none.
        sign: +1: no weight below 0; 0: any.
        diagonal: whether neurons may reach themselves.
    """

    source: str = BELOW
    columns: tuple[int, int] | None = None
    channel: int = 0
    decay: float = 0.0
    sign: int = 0
    diagonal: bool = True


class Projection(nn.Module):
    """Weights (neurons, sources) from one source to one synaptic input of a layer."""

    def __init__(
        self, weight: Tensor, wiring: Wiring | None = None, mask: Tensor | None = None
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.wiring = wiring or Wiring()
        if not self.wiring.diagonal:
            off = 1 - torch.eye(*weight.shape, dtype=weight.dtype)
            mask = off if mask is None else mask * off
        self.mask: Tensor | None
        self.register_buffer("mask", mask)
        self.constrain()

    @torch.no_grad()
    def constrain(self) -> None:
        """Put the weights back into their bounds: sign, and places without a synapse."""
        if self.wiring.sign:
            self.weight.clamp_(min=0.0)
        if self.mask is not None:
            self.weight.mul_(self.mask)


class Carried(NamedTuple):
    """What a layer carries from step to step.

    Attributes:
        state: the states of its neurons.
        sources: what went through its synapses.
    """

    state: State
    sources: dict[str, Tensor]


class LayerRun(NamedTuple):
    """A layer over a block of steps.

    Attributes:
        states: (steps + 1, batch, neurons) each, from the one before the block on.
        inputs: synaptic inputs, (steps, batch, neurons) each.
        sources: for each projection, (steps, batch, sources).
    """

    states: State
    inputs: State
    sources: dict[str, Tensor]

    @property
    def carried(self) -> Carried:
        """What goes on to the next block."""
        last = {name: x[-1] for name, x in self.sources.items()}
        return Carried(tuple(h[-1] for h in self.states), last)

    @property
    def after(self) -> State:
        """States after each step."""
        return tuple(h[1:] for h in self.states)


def filtered(x: Tensor, decay: float, before: Tensor | None) -> Tensor:
    """``z_t = decay z_{t-1} + x_t`` over a block of steps.

    Shape:
        x ``(steps, batch, n)``; before ``(batch, n)``, None at rest.
    """
    if not decay:
        return x
    steps = torch.arange(len(x), device=x.device)
    ages = (steps[:, None] - steps).clamp_min(0).to(x.dtype)
    found: Tensor = ((decay**ages).tril() @ x.flatten(1)).view_as(x)
    if before is None:
        return found
    faded: Tensor = decay ** (steps + 1).to(x.dtype)
    return found + faded.view(-1, 1, 1) * before


def _through(projection: Projection, own: Tensor | None, before: Tensor | None) -> Tensor:
    """One step of a loop's synapses."""
    wiring = projection.wiring
    if own is None:
        raise ConfigError("a loop has no spikes; expected those of its layer")
    x = own if wiring.columns is None else own[..., slice(*wiring.columns)]
    return torch.add(x, before, alpha=wiring.decay) if wiring.decay and before is not None else x


class OnlineLayer(nn.Module):
    """A layer.

    Args:
        neuron: the kind.
        projections: the weights by name; the shape of the first gives the size.
        constants: values of the step that do not learn, such as ``{"al": 0.9}``.
        learn_neuron: whether the parameters of the neurons learn.
    """

    def __init__(
        self,
        neuron: OnlineNeuron,
        projections: Mapping[str, Projection],
        constants: Mapping[str, Tensor | float] | None = None,
        learn_neuron: bool = True,
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.projections = nn.ModuleDict(dict(projections))
        first = next(iter(projections.values())).weight
        self.size, self.dtype = first.shape[0], first.dtype
        self.own = nn.ParameterDict()
        self._bounds = {k: v for k, v in neuron.learned.items() if k not in (constants or {})}
        for name, (low, high) in self._bounds.items():
            start = torch.empty(self.size, dtype=self.dtype).uniform_(low, high)
            self.own[name] = nn.Parameter(start, requires_grad=learn_neuron)
        self.biases = nn.ParameterList()
        self._constants = tuple(constants or {})
        for name in self._constants:
            value = torch.as_tensor((constants or {})[name], dtype=self.dtype)
            self.register_buffer(f"c_{name}", value)
        missing = set(range(neuron.channels)) - {p.wiring.channel for _, p in self.links()}
        if missing:
            raise ConfigError(
                f"a layer of {neuron.name} has no weights to its synaptic inputs {sorted(missing)}; expected "
                f"a projection to each of {neuron.channels}. Add them"
            )

    def values(self) -> dict[str, Tensor]:
        """Parameters and constants of the step."""
        found = {name: getattr(self, f"c_{name}") for name in self._constants}
        found.update(self.own.items())
        found.update((f"bias{i}", bias) for i, bias in enumerate(self.biases))
        return found

    def links(self) -> list[tuple[str, Projection]]:
        """The projections by name."""
        return [(name, p) for name, p in self.projections.items() if isinstance(p, Projection)]

    def rest(self, batch: int) -> State:
        """The states at rest."""
        first = next(self.parameters())
        return tuple(first.new_zeros(batch, self.size) for _ in self.neuron.states)

    def run(self, x: Tensor, carried: Carried) -> LayerRun:
        """A block of steps; autograd follows it where it is enabled.

        Shape:
            x ``(steps, batch, sources)``.
        """
        values, links = self.values(), self.links()
        state, before = carried
        sources = {
            name: filtered(x, p.wiring.decay, before.get(name))
            for name, p in links
            if p.wiring.source == BELOW
        }
        loops = [(name, p) for name, p in links if p.wiring.source == OWN]
        drives = self._drives(sources).unbind(1)
        held = dict(before)
        seen: dict[str, list[Tensor]] = {name: [] for name, _ in loops}
        states, inputs = [state], []
        for drive in drives:
            parts = list(drive.unbind(0))
            own = self.neuron.spikes(state, values) if loops else None
            for name, p in loops:
                held[name] = _through(p, own, held.get(name))
                seen[name].append(held[name])
                c = p.wiring.channel
                parts[c] = torch.addmm(parts[c], held[name], p.weight.T)
            inputs.append(tuple(parts))
            state = self.neuron.step(state, inputs[-1], values)
            states.append(state)
        sources |= {name: torch.stack(found) for name, found in seen.items()}
        return LayerRun(
            tuple(torch.stack(part) for part in zip(*states)),
            tuple(torch.stack(part) for part in zip(*inputs)),
            sources,
        )

    def _drives(self, sources: dict[str, Tensor]) -> Tensor:
        """Synaptic inputs from below, ``(channels, steps, batch, neurons)``."""
        like = next(iter(sources.values()))
        empty = like.new_zeros(*like.shape[:2], self.size)
        sums = [empty] * self.neuron.channels
        for name, p in self.links():
            if name in sources:
                part = nn.functional.linear(sources[name], p.weight)
                sums[p.wiring.channel] = sums[p.wiring.channel] + part
        return torch.stack(sums)

    @property
    def learned(self) -> tuple[str, ...]:
        """Names of the values that learn."""
        return tuple(name for name, p in self.parameters_by_name().items() if p.requires_grad)

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """The parameters of the neurons: those of the step, and biases."""
        biases = {f"bias{i}": bias for i, bias in enumerate(self.biases)}
        return {**dict(self.own.items()), **biases}

    def add_bias(self, bias: nn.Parameter) -> None:
        """Let the first synaptic input be ``y + bias``."""
        name, step = f"bias{len(self.biases)}", self.neuron.step

        def biased(state: State, inputs: State, values: Values) -> State:
            return step(state, (inputs[0] + values[name], *inputs[1:]), values)

        self.biases.append(bias)
        self.neuron = replace(self.neuron, step=biased)

    @torch.no_grad()
    def constrain(self) -> None:
        """Put weights and parameters back into their bounds, after an update."""
        for _, projection in self.links():
            projection.constrain()
        for name, (low, high) in self._bounds.items():
            self.own[name].clamp_(low, high)


def dense(n_in: int, n_out: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """First weights: Kaiming-uniform with a = sqrt(5), ``U(-1, 1) / sqrt(n_in)``."""
    weight = torch.empty(n_out, n_in, dtype=dtype)
    nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
    return weight


def layer_of(
    neuron: OnlineNeuron,
    n_in: int,
    n_out: int,
    recurrent: bool = False,
    dtype: torch.dtype = torch.float32,
    constants: Mapping[str, Tensor | float] | None = None,
) -> OnlineLayer:
    """A layer with weights W, and V where it is recurrent: orthogonal, with a diagonal of zeros."""
    projections = {"W": Projection(dense(n_in, n_out, dtype))}
    if recurrent:
        loop = torch.empty(n_out, n_out, dtype=dtype)
        nn.init.orthogonal_(loop)
        projections["V"] = Projection(loop, Wiring(OWN, diagonal=False))
    return OnlineLayer(neuron, projections, constants)
