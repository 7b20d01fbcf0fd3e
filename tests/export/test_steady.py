"""What a trace of a few steps does not show by itself: it is found, and refused with the reason."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import to_nir
from tests.support.torch_nets import HIDDEN, Between, small_net

ONE, TWO = torch.zeros(1, 4), torch.zeros(2, 4)


class Counts(nn.Module):
    """A network that counts its steps, and a function of the count."""

    def __init__(self, function, count: object = 0) -> None:
        super().__init__()
        self.net, self.function = small_net(), function
        if isinstance(count, torch.Tensor):
            self.register_buffer("t", count)
        else:
            self.t = count

    def forward(self, x):
        self.t = self.t + 1
        return self.net(self.function(x, self.t))


class Draws(nn.Module):
    def forward(self, weight):
        return weight + torch.randn_like(weight)


@pytest.mark.parametrize("count", [0, 0.0, torch.tensor(0), torch.zeros(1)])
@pytest.mark.parametrize("least", [2, 5, 1000])
def test_a_forward_that_changes_at_a_later_step_is_refused(count, least):
    net = Counts(lambda x, t: x * (1 if t < least else 2), count)
    with pytest.raises(UnsupportedNodeError, match="something else from step to step"):
        to_nir(net, TWO)
    assert float(net.t) == 0  # only copies run


def test_a_forward_that_fails_at_a_later_step_names_what_it_counts():
    steps = [1.0, 1.0, 1.0, 1.0]
    with pytest.raises(UnsupportedNodeError, match=r"counts its steps in 't' and fails .*index"):
        to_nir(Counts(lambda x, t: x * steps[t]), TWO)


def test_a_count_that_changes_nothing_is_no_reason():
    plain, counted = to_nir(small_net(), TWO), to_nir(Counts(lambda x, t: x), TWO)
    assert [type(node) for node in plain.nodes.values()] == [
        type(node) for node in counted.nodes.values()
    ]


class Shrinks(Between):
    def forward(self, x):
        with torch.no_grad():
            self.fc.weight.mul_(0.5)
        return super().forward(x)


def test_weights_that_a_forward_changes_are_refused():
    with pytest.raises(UnsupportedNodeError, match=r"weights change from step .*\n  - 'fc.weight'"):
        to_nir(Shrinks(lambda x: x), TWO)


def test_weights_that_are_drawn_at_each_use_are_refused():
    net = small_net()
    parametrize.register_parametrization(net[0], "weight", Draws())
    with pytest.raises(UnsupportedNodeError, match=r"weights change .*\n  - '0.weight'"):
        to_nir(net, TWO)


def test_weights_that_are_computed_the_same_each_time_are_read():
    net = small_net()
    want = 2 * net[0].weight.detach().numpy()
    parametrizations.weight_norm(net[0])
    with torch.no_grad():
        net[0].parametrizations.weight.original0.mul_(2)
    np.testing.assert_allclose(to_nir(net, TWO).nodes["0"].weight, want, rtol=1e-5)


@pytest.mark.parametrize("kind", ["forward_hook", "forward_pre_hook"])
def test_hooks_of_all_modules_are_refused(kind):
    register = getattr(nn.modules.module, f"register_module_{kind}")
    handle = register(lambda module, *values: None)
    try:
        with pytest.raises(UnsupportedNodeError, match="a forward hook of all modules"):
            to_nir(small_net(), TWO)
    finally:
        handle.remove()
    to_nir(small_net(), TWO)


@pytest.mark.parametrize("mixes", [lambda x: x.flip(0), lambda x: x.roll(1, 0)])
def test_a_batch_of_one_does_not_hide_what_mixes_samples(mixes):
    with pytest.raises(UnsupportedNodeError, match="mixes the samples of a batch"):
        to_nir(Between(mixes), ONE)


def test_a_network_that_takes_one_sample_only_is_translated():
    graph = to_nir(Between(lambda x: x.reshape(1, 4)), ONE)
    np.testing.assert_array_equal(graph.nodes["fc"].output_type["output"], [4])


@pytest.mark.parametrize("became", ["subtract", "none"])
def test_a_reset_that_was_changed_afterwards_is_refused(became):
    net = nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.9, reset_mechanism="zero", **HIDDEN))
    net[1].reset_mechanism = became
    with pytest.raises(UnsupportedNodeError, match=f"became '{became}' .*Make it again"):
        to_nir(net, TWO)


@pytest.mark.parametrize("method", ["_base_state_function", "mem_reset", "fire"])
def test_a_method_that_was_replaced_on_one_neuron_is_refused(method):
    net = small_net()
    setattr(net[1], method, lambda *values: values[0])
    with pytest.raises(UnsupportedNodeError, match=f"'1' .* replaces {method} of Leaky"):
        to_nir(net, TWO)


LATE_RULES = {
    "every hundredth": lambda x, t: x * (2 if t % 100 == 0 else 1),
    "once": lambda x, t: x * (2 if t == 50 else 1),
    "a while": lambda x, t: x * (2 if 50 < t <= 60 else 1),
    "bits": lambda x, t: x * (2 if t & 64 else 1),
    "half": lambda x, t: x * (2 if (t / 100) == 7 else 1),
    "rounded": lambda x, t: x * (2 if int(t / 100) == 7 else 1),
    "very late": lambda x, t: x * (2 if t > 10**9 else 1),
    "from the end": lambda x, t: x * (2 if 1000 - t < 0 else 1) if t < 10 else x,
}


@pytest.mark.parametrize("count", [0, 0.0, torch.tensor(0), torch.zeros(1)])
@pytest.mark.parametrize("rule", list(LATE_RULES))
def test_a_forward_that_asks_for_a_later_step_is_refused(rule, count):
    if rule == "bits" and torch.as_tensor(count).is_floating_point():
        pytest.skip("floats have no bits")
    with pytest.raises(UnsupportedNodeError, match=r"looks at the count.*\n  - 't': |from step to"):
        to_nir(Counts(LATE_RULES[rule], count), TWO)


@pytest.mark.parametrize(
    "harmless",
    [
        lambda x, t: [x, x][t < 2],
        lambda x, t: [x, x][t == 1],
        lambda x, t: [2 * x, x][2 * t - 1 > 0],
        lambda x, t: next(x for _ in str(t + 1)),
    ],
)
def test_a_count_that_has_passed_what_it_is_compared_with_is_no_reason(harmless):
    to_nir(Counts(harmless), TWO)


class CountsElsewhere(nn.Module):
    """Counts in a list, a dict or an object."""

    def __init__(self, kind) -> None:
        super().__init__()
        self.net, self.kind = small_net(), kind
        self.steps = {"list": [0], "dict": {"t": 0}, "object": SimpleNamespace(t=0)}[kind]

    def forward(self, x):
        held = vars(self.steps) if self.kind == "object" else self.steps
        key = 0 if self.kind == "list" else "t"
        held[key] += 1
        return self.net(x * (2 if held[key] % 100 == 0 else 1))


@pytest.mark.parametrize("kind", ["list", "dict", "object"])
def test_a_count_inside_of_an_attribute_is_found(kind):
    with pytest.raises(UnsupportedNodeError, match=r"looks at the count.*\n  - 'steps\["):
        to_nir(CountsElsewhere(kind), TWO)


SIZE_RULES = {
    "one": lambda x: x * (2 if len(x) == 1 else 1),
    "even": lambda x: x * (2 if len(x) % 2 == 0 else 1),
    "many": lambda x: x * (2 if len(x) > 2 else 1),
    "order": lambda x: x.flip(1) if len(x) == 1 else x,
}


@pytest.mark.parametrize("given", [ONE, TWO, torch.zeros(5, 4)])
@pytest.mark.parametrize("rule", list(SIZE_RULES))
def test_a_forward_that_branches_on_the_number_of_samples_is_refused(rule, given):
    with pytest.raises(UnsupportedNodeError, match="something else with an input of shape"):
        to_nir(Between(SIZE_RULES[rule]), given)


class Loops(nn.Module):
    """A loop over time, and what it does with the input."""

    def __init__(self, change) -> None:
        super().__init__()
        self.net, self.change = small_net(), change

    def forward(self, x):
        return torch.stack([self.net(self.change(x, t)) for t in range(len(x))])


@pytest.mark.parametrize("batch", [1, 2])
def test_a_loop_that_branches_on_samples_or_later_steps_is_refused(batch):
    sample = torch.zeros(4, batch, 4)
    to_nir(Loops(lambda x, t: x[t]), sample)
    for rule in (
        lambda x, t: x[t] * (2 if x.shape[1] == 1 else 1),
        lambda x, t: x[t] * (2 if t > 4 else 1),
        lambda x, t: x[t] * (2 if len(x) > 6 else 1),
    ):
        with pytest.raises(UnsupportedNodeError, match="something else with an input of shape"):
            to_nir(Loops(rule), sample)
