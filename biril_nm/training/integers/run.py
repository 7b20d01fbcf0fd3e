"""One pass of a QuantizedNet: populations in the order of the graph, loops step by step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biril_nm.recording.readout import readout_node
from biril_nm.training.integers.connections import EXACT, Arrival, Sent, Weights
from biril_nm.training.integers.fused import FusedRun, advance_fused
from biril_nm.training.integers.neurons import Constants, State, advance
from biril_nm.training.integers.pooling import NO_POOL

if TYPE_CHECKING:
    from biril_nm.training.integers.net import QuantizedNet

__all__ = ["Run"]


class Run:
    """What one pass has computed.

    Args:
        net: the network.
        spikes: integers of all inputs.
        recorded: populations of which all spikes are wanted, not their sums.
        with_states: whether u and v of all steps are wanted.

    Attributes:
        sent: spikes of the nodes that have run.
        v_last: last v of populations, where it is wanted.
        states: u and v of all steps, where they are recorded.
    """

    def __init__(
        self,
        net: QuantizedNet,
        spikes: Mapping[str, Tensor],
        recorded: Collection[str],
        with_states: bool,
    ) -> None:
        self.net, self.recorded, self.with_states = net, recorded, with_states
        self.device = next(net.parameters()).device
        self.sent = {name: Sent(value.to(self.device)) for name, value in spikes.items()}
        self.size = next(iter(self.sent.values())).values.shape[:2]
        self.v_last: dict[str, Tensor] = {}
        self.states: dict[str, State] = {}
        self.constants: dict[str, Constants] = {}
        self.weights: dict[str, Weights] = {}
        self.last = readout_node(net.base)

    def readout(self) -> tuple[Tensor, Tensor, Tensor]:
        """Spikes, last v and thresholds of the output neurons."""
        name = self.last
        return self.sent[name].values, self.v_last[name], self._constants(name).theta

    def advance(self, names: tuple[str, ...], looped: bool) -> None:
        """Run populations that depend on each other."""
        (self._looped if looped else self._straight)(names)

    def _straight(self, names: tuple[str, ...]) -> None:
        """A population without a loop: all steps at once."""
        (name,) = names
        population, arriving = self.net.population(name), self._outside(name)
        slope = self.net.slope if self.net.compiled and self.device.type == "cpu" else None
        if slope is None or not population.form.fits:
            a = arriving.a.double().expand(*self.size, *population.node.shape)
            self._store(name, *self._advance(name, a, self._rest(name)))
            return
        a = arriving.a.expand(len(arriving.a), self.size[1], *population.node.shape)
        run = FusedRun(
            population.form,
            self.size[0],
            slope,
            NO_POOL if name in self.recorded else self.net.pool_behind(name),
            v_last=self.with_states or name == self.last,
            states=self.with_states,
        )
        constants = self._constants(name)
        s, v, *states = advance_fused(a, constants.bias, constants.theta, run)
        self.sent[name] = Sent(s, run.pool)
        self.v_last[name], self.states[name] = v, State(*states)

    def _looped(self, names: tuple[str, ...]) -> None:
        """Populations that feed each other: step by step."""
        outside = {
            name: self._outside(name, names).a.double().expand(*self.size, *self._shape(name))
            for name in names
        }
        state = {name: self._rest(name) for name in names}
        spikes: dict[str, list[Tensor]] = {name: [] for name in names}
        seen: dict[str, list[State]] = {name: [] for name in names}
        for t in range(self.size[0]):
            for name in names:
                a = outside[name][t : t + 1]
                for link in self._links(name, names):
                    then = t - self.net.base.timing.slack[link]
                    if then >= 0:
                        source = spikes[self.net.base.ends[link][0]][then]
                        a = a + self._deliver(link, Sent(source.unsqueeze(0))).a
                s, state[name], states = self._advance(name, a, state[name])
                spikes[name].append(s[0])
                seen[name].append(states)
        for name in names:
            states = State(*(torch.cat(each) for each in zip(*seen[name])))
            self._store(name, torch.stack(spikes[name]), state[name], states)

    def _store(self, name: str, spikes: Tensor, last: State, states: State) -> None:
        self.sent[name] = Sent(spikes)
        self.v_last[name], self.states[name] = last.v, states

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.net.base.shape_of(name)

    def _rest(self, name: str) -> State:
        shape = (self.size[1], *self._shape(name))
        zeros = torch.zeros(shape, dtype=torch.float64, device=self.device)
        return State(zeros, zeros)

    def _links(self, name: str, inside: tuple[str, ...]) -> list[str]:
        """Connections from populations of a loop."""
        ends = self.net.base.ends
        return [link for link in self.net.base.incoming(name) if ends[link][0] in inside]

    def _outside(self, name: str, inside: tuple[str, ...] = ()) -> Arrival:
        """What arrives from nodes that have run, ``(1 or n_steps, batch, *shape)``."""
        within = self._links(name, inside)
        arrivals = [self._late(link) for link in self.net.base.incoming(name) if link not in within]
        if len(arrivals) == 1:
            return arrivals[0]
        bound = sum(arrival.bound for arrival in arrivals)
        kind = torch.float32 if bound < EXACT else torch.float64
        lead = (1,) * (2 + len(self._shape(name)))
        total = torch.zeros(lead, dtype=kind, device=self.device)
        for arrival in arrivals:
            total = total + arrival.a.to(kind)
        return Arrival(total, bound)

    def _late(self, link: str) -> Arrival:
        """What a connection delivers, shifted by its delay."""
        slack = self.net.base.timing.slack[link]
        sent = self.sent[self.net.base.ends[link][0]]
        if sent.values.stride(0) == 0 and slack == 0:
            return self._deliver(link, Sent(sent.values[:1], sent.pool))
        found = self._deliver(link, sent)
        if not slack:
            return found
        a = torch.cat([torch.zeros_like(found.a[:slack]), found.a[: len(found.a) - slack]])
        return Arrival(a[: self.size[0]], found.bound)

    def _deliver(self, link: str, sent: Sent) -> Arrival:
        connection = self.net.connection(link)
        if link not in self.weights:
            target = self.net.base.ends[link][1]
            self.weights[link] = connection.weights(self.net.population(target).scale)
        found: Arrival = connection(sent, self.weights[link])
        return found

    def _constants(self, name: str) -> Constants:
        if name not in self.constants:
            self.constants[name] = self.net.population(name).constants()
        return self.constants[name]

    def _advance(self, name: str, a: Tensor, state: State) -> tuple[Tensor, State, State]:
        population = self.net.population(name)
        return advance(a, state, self._constants(name), population.model, self.net.surrogate)
