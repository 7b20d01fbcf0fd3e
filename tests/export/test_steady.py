"""What a trace of a few steps does not show by itself: it is found, and refused with the reason."""

from __future__ import annotations

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
    with pytest.raises(UnsupportedNodeError, match=f"became '{became}' .*Make it anew"):
        to_nir(net, TWO)


@pytest.mark.parametrize("method", ["_base_state_function", "mem_reset", "fire"])
def test_a_method_that_was_replaced_on_one_neuron_is_refused(method):
    net = small_net()
    setattr(net[1], method, lambda *values: values[0])
    with pytest.raises(UnsupportedNodeError, match=f"'1' .* replaces {method} of Leaky"):
        to_nir(net, TWO)
