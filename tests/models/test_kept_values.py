"""What a forward keeps in attributes: states are put back, statistics stay, changes are seen."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.errors import ConfigError
from biril_nm.models.running import run_in_loop, run_steps
from biril_nm.models.tracing import reset_neurons
from biril_nm.neurons.unroll import engine
from tests.support.steps import HIDDEN, OneStep, images

KEPT: list[Any] = []


class Cell:
    """A state of the user's own."""

    def __init__(self) -> None:
        self.mem: Any = None


class Nested(OneStep):
    """Keeps the membrane of its hidden neurons somewhere."""

    def __init__(self, place: Any) -> None:
        super().__init__(lambda net, x: net.hidden(x))
        self.l, self.place = snn.Leaky(0.9, threshold=0.3), place

    def hidden(self, x: Tensor) -> Any:
        spikes, mem = self.l(self.f(x), self.kept())
        self.keep(mem)
        return self.k(self.g(spikes))

    def kept(self) -> Any:
        place = self.place
        return place["mem"][0] if isinstance(place, dict) else place.mem

    def keep(self, mem: Any) -> None:
        if isinstance(self.place, dict):
            self.place["mem"][0] = mem
        else:
            self.place.mem = mem


def plain(net: nn.Module, x: Tensor) -> Tensor:
    reset_neurons(net)
    return torch.stack([net(step) for step in x]).detach()


@pytest.mark.parametrize("name", ["auto", "loop"])
@pytest.mark.parametrize("place", [Cell, SimpleNamespace, dict], ids=lambda kind: kind.__name__)
def test_states_in_objects_and_containers_start_at_rest(place: Any, name: str) -> None:
    rest = {"mem": [None]} if place is dict else place()
    rest_again = {"mem": [None]} if place is dict else place()
    if place is SimpleNamespace:
        rest.mem = rest_again.mem = None
    x = images(constant=False)
    expected = plain(Nested(rest_again), x)
    net = Nested(rest)
    with engine(name):
        run_steps(net, 1 - x)
        assert torch.equal(run_steps(net, x).output, expected)
        assert torch.equal(run_steps(net, x[:, :2]).output, expected[:, :2])


def test_the_last_values_of_a_queue_start_at_rest() -> None:
    def last_two(net: Any, x: Tensor) -> Any:
        net.last.append(net.l(net.f(x)))
        return net.k(net.g(sum(net.last)))

    nets = [OneStep(last_two), OneStep(last_two)]
    for net in nets:
        net.last = deque(maxlen=2)
    x = images(constant=False)
    run_steps(nets[0], 1 - x)
    assert torch.equal(run_steps(nets[0], x).output, plain(nets[1], x))


class Scaled(nn.BatchNorm1d):
    """As tdBN is often written."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.7 * super().forward(x)


class Own(nn.Module):
    """A norm whose statistics are attributes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.running_mean = torch.zeros(size)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x - self.running_mean
        with torch.no_grad():
            self.running_mean = 0.9 * self.running_mean + 0.1 * x.mean(0)
        return x - x.mean(0)


class Counting(Own):
    """Has a state beside its statistics."""

    def forward(self, x: Tensor) -> Tensor:
        self.n_steps = getattr(self, "n_steps", 0) + 1
        return super().forward(x) / self.n_steps


@pytest.mark.parametrize("kind", [Scaled, Own, Counting])
def test_statistics_of_own_norms_go_on_from_run_to_run(kind: Any) -> None:
    def step(net: Any, x: Tensor) -> Any:
        return net.rest(net.norm(net.f(x)))

    nets = [OneStep(step), OneStep(step)]
    x = images(constant=False)
    for net in nets:
        net.norm = kind(HIDDEN)
    for _ in range(3):
        run_steps(nets[0], x)
        plain(nets[1], x)
        nets[1].norm.__dict__.pop("n_steps", None)
    assert torch.allclose(nets[0].norm.running_mean, nets[1].norm.running_mean, atol=1e-6)
    assert nets[0].norm.running_mean.abs().mean() > 0
    for net in nets:
        net.eval()
    for _ in range(2):
        assert torch.equal(run_steps(nets[0], x).output, plain(nets[1], x))
        nets[1].norm.__dict__.pop("n_steps", None)


def test_a_state_that_is_written_in_place_is_a_state_where_nothing_spikes() -> None:
    def step(net: Any, x: Tensor) -> Any:
        spikes = net.l(net.f(x))
        net.trace.mul_(0.9).add_(spikes.detach().mean(0))
        return net.k(net.g(spikes + net.trace))

    x = images(constant=False)
    x[:2] = 0
    nets = [OneStep(step), OneStep(step)]
    for net in nets:
        net.trace = torch.zeros(HIDDEN)
        nn.init.constant_(net.f.bias, -0.1)
    run_in_loop(nets[0], x)
    assert bool(nets[0].trace.any())
    assert torch.equal(run_in_loop(nets[0], x).output, plain(nets[1], x))


CHANGES = {
    "number": lambda net: setattr(net, "number", np.float64(0.3)),
    "tuple": lambda net: setattr(net, "tuple", (0.3,)),
    "list": lambda net: net.list.__setitem__(0, 0.3),
    "dict": lambda net: net.dict.update(a=0.3),
    "names": lambda net: setattr(net.names, "a", 0.3),
    "function": lambda net: setattr(net, "function", torch.abs),
}


@pytest.mark.parametrize("name", CHANGES)
def test_attributes_that_change_between_runs_are_seen(name: str) -> None:
    def step(net: Any, x: Tensor) -> Any:
        factor = float(net.number) * net.tuple[0] * net.list[0] * net.dict["a"] * net.names.a
        return net.rest(net.function(factor * net.f(x)))

    net = OneStep(step)
    net.number, net.tuple, net.list, net.dict = np.float64(1), (1.0,), [1.0], {"a": 1.0}
    net.names, net.function = SimpleNamespace(a=1.0), torch.relu
    x = images(constant=False)
    before = run_steps(net, x).output
    CHANGES[name](net)
    after = run_steps(net, x).output
    assert torch.equal(after, run_in_loop(net, x).output)
    assert not torch.equal(after, before)


def test_values_in_a_variable_of_the_file_are_refused() -> None:
    def step(net: Any, x: Tensor) -> Any:
        KEPT.append(net.f(x))
        return net.rest(sum(KEPT[-2:]))

    with pytest.raises(ConfigError, match="keeps values of a step where they cannot be put back"):
        run_steps(OneStep(step), images(constant=False))
