"""What a forward returns: whose spikes they are, and of which steps and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.own import OwnNet
from biril_nm.neurons.unroll import engine
from biril_nm.training.accuracy import evaluate
from tests.support.steps import IN, OUT, OneStep, images, leaky


def of_two(net: Any, x: Tensor) -> Any:
    """A sum to which the second population, whose threshold is high, adds nothing."""
    current = net.g(net.l(net.f(x)))
    return net.k(current) + net.silent(current)


class Loop(nn.Module):
    """All steps; spikes of ``returned`` come first."""

    def __init__(self, returned: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f, self.returned = nn.Linear(IN, OUT), returned
        self.a, self.b = leaky(output=True), leaky(output=True, threshold=50.0)

    def forward(self, x: Tensor) -> Any:
        found = []
        for step in x:
            (a, _), (b, mem) = self.a(self.f(step)), self.b(self.f(step))
            found.append({"a": a, "b": b, "sum": a + b, "mem": mem}[self.returned])
        return torch.stack(found)


def score(net: nn.Module, name: str, x: Tensor, takes: str | None = None) -> tuple[Any, Tensor]:
    own = OwnNet(net, Coding(n_steps=len(x)), takes)
    with engine(name):
        found = own(x)
    return found, found.scores.detach()


@pytest.mark.parametrize("name", ["auto", "loop"])
def test_a_silent_population_is_not_taken_for_the_output(name: str) -> None:
    net = OneStep(of_two)
    net.silent = leaky(threshold=50.0)
    found, scores = score(net, name, images(constant=False))
    assert torch.equal(scores, found.spikes.sum(0))


@pytest.mark.parametrize("returned", ["a", "b", "sum", "mem"])
def test_the_membrane_is_that_of_the_neurons_whose_spikes_are_returned(returned: str) -> None:
    net = Loop(returned)
    for x in (images(constant=False), torch.zeros(5, 4, IN)):  # also where nothing spikes
        found, scores = score(net, "auto", x)
        membrane = torch.zeros_like(scores)
        if returned in ("a", "b"):
            neuron: snn.Leaky = getattr(net, returned)
            membrane = neuron.mem / neuron.threshold
        assert torch.equal(scores, found.spikes.sum(0) + membrane)


class BatchFirst(Loop):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).transpose(0, 1)


class Named(Loop):
    def forward(self, x: Tensor) -> Any:
        return {"spikes": super().forward(x)}


@pytest.mark.parametrize("n_steps", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_samples_first_are_the_same_whatever_their_number(n_steps: int, batch: int) -> None:
    x = torch.rand(n_steps, batch, IN, generator=torch.Generator().manual_seed(0)) * 3
    expected, scores = score(Loop("a"), "auto", x)
    found, same = score(BatchFirst("a"), "auto", x)
    assert torch.equal(same, scores) and torch.equal(found.spikes, expected.spikes)
    assert scores.any()


def test_a_number_of_steps_that_the_forward_has_itself_is_checked_at_each_input() -> None:
    class Fixed(Loop):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.expand(3, *x.shape))

    own = OwnNet(Fixed("a"), Coding(n_steps=3), "image")
    own(torch.ones(3, 2, IN))
    with pytest.raises(ConfigError, match=r"returns shape \(3, 2, 4\) for \(4, 2, 20\)"):
        own(torch.ones(4, 2, IN))


def test_a_dict_is_named() -> None:
    with pytest.raises(ConfigError, match="Named returns a dict; expected a tensor of spikes"):
        score(Named("a"), "auto", images(constant=False), "steps")


def test_the_trials_leave_no_mark() -> None:
    class Marked(Loop):
        def forward(self, x: Tensor) -> Any:
            self.a.threshold.mul_(0.9)
            self.f.weight.data.mul_(0.5)
            self.draw = float(np.random.random())
            return super().forward(x)

    net = Marked("a")
    weight = net.f.weight.detach().clone()
    np.random.seed(3)
    score(net, "auto", images(constant=False))
    assert float(net.a.threshold) == pytest.approx(0.3 * 0.9)  # by the run alone
    assert torch.equal(net.f.weight, weight / 2)
    np.random.seed(3)
    assert net.draw == np.random.random()


def test_an_image_is_the_same_at_each_step() -> None:
    class Shown(Loop):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x.expand(5, *x.shape))

    score(Shown("a"), "auto", images(constant=True))
    score(Shown("a"), "auto", images(constant=True).clone())
    with pytest.raises(
        ConfigError, match="takes one image for all steps, .* differs from step to step"
    ):
        score(Shown("a"), "auto", images(constant=False), "image")


class Listed(Loop):
    """Calls layers that an attribute holds."""

    def __init__(self, kind: Any) -> None:
        super().__init__("a")
        self.layers = (
            kind(enumerate([nn.Linear(IN, IN)])) if kind is dict else kind([nn.Linear(IN, IN)])
        )

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.layers[0](x))


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_layers_in_a_plain_container_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError, match="'layers' of Listed holds layers in a plain list"):
        score(Listed(kind), "auto", images(constant=False))
    score(Listed(nn.ModuleList), "auto", images(constant=False))
    net = Loop("a")
    net.teacher = [Loop("a")]  # which the forward does not call
    score(net, "auto", images(constant=False))
    alone = nn.Module()
    alone.neurons = [leaky()]
    with pytest.raises(ConfigError, match="'neurons' of Module holds layers in a plain list"):
        OwnNet(alone, Coding())


def test_rates_of_neurons_that_are_called_more_or_less_than_once_a_step() -> None:
    class Uneven(Loop):
        def __init__(self) -> None:
            super().__init__("a")
            self.once, self.never = leaky(threshold=-1.0), leaky()

        def forward(self, x: Tensor) -> Any:
            current = self.f(x[0]) + self.once(torch.zeros_like(x[0, :, :OUT]))
            found = []
            for step in x:
                self.b(step[:, :OUT])
                found.append(self.a(current + self.a(current)[0])[0])
            return torch.stack(found)

    x, own = images(constant=False), OwnNet(Uneven(), Coding("spikes", 5), "steps")
    recorded = own(x, record=True).recorded
    assert {
        name: tuple(s.shape) for name, s in recorded.items() if name != "input"
    } == dict.fromkeys(("a", "b", "once"), (5, 4, OUT))
    assert 0 < recorded["a"].mean() < 1
    rates = evaluate(own, [(x, torch.zeros(4, dtype=torch.int64))]).firing_rates
    assert set(rates) == {"a", "b", "once"}
    assert rates["once"] == 1
    assert rates["a"] == pytest.approx(float(recorded["a"].mean()))
