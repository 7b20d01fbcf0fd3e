"""What to_nir refuses, with the reason and the way out, and that it leaves everything as it was."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir
from tests.support.torch_nets import HIDDEN, Between, small_net


def _write_into_a_view(y):
    y[:, 0].zero_()
    return y


def _write_into_data(y):
    y.data.mul_(0)
    return y


def _write_by_index(y):
    y[:, 1] = 0
    return y


def _write_as_output(y):
    torch.mul(y, 0, out=y)
    return y


def _noise(y):
    return y + torch.randn_like(y)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_write_into_a_view, "'zero_' in front of layer 'lif'|'__getitem__' in front of"),
        (_write_into_data, "operation 'mul_' in front of layer 'lif'"),
        (_write_by_index, "operation '__setitem__'.*Compute the signal without writing into it"),
        (_write_as_output, "operation 'mul' in front of layer 'lif'"),
        (lambda y: F.relu(y, inplace=True), "'relu'.*Use neurons as the only nonlinear layers"),
        (lambda y: y.clamp_(0), "operation 'clamp_' in front of layer 'lif'"),
        (_noise, "'lif' receives something else from step to step"),
        (lambda y: y + torch.rand(4), "'lif' receives something else from step to step"),
        (lambda y: F.dropout(y, 0.5), "'dropout'.*Pass training=self.training"),
        (
            lambda y: F.max_pool1d(y, 1),
            "'max_pool1d' takes the largest of currents.*behind the neuron",
        ),
        (lambda y: torch.bernoulli(y.sigmoid()), "'sigmoid' in front of layer 'lif'"),
        (lambda y: y * y, "'mul'.*Multiply a signal by constants only"),
        (lambda y: F.linear(y, y, None), "operation 'linear' in front of layer 'lif'"),
        (lambda y: y @ y, "'matmul'.*Multiply a signal by constants"),
        (lambda y: torch.einsum("bi,bi->bi", y, y), "operation 'einsum'"),
        (lambda y: y.roll(1, 0), "'roll' is not linear, or mixes the samples of a batch"),
        (lambda y: y.unsqueeze(0).squeeze(0), "operation 'unsqueeze'"),
        (lambda y: F.conv1d(y[:, None], y[:1, None, :1]).flatten(1), "__getitem__"),
        (lambda y: F.batch_norm(y, None, None, training=True), "'batch_norm' is not linear"),
    ],
)
def test_functions_without_nir_form_are_refused(function, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(Between(function), torch.zeros(4, 4))


class Equations(snn.Leaky):
    def _base_state_function(self, input_):
        return 0.5 * super()._base_state_function(input_)


class Forward(snn.Leaky):
    def forward(self, input_, mem=None):
        return super().forward(2 * input_, mem)


def _patched():
    layer = snn.Leaky(0.9, **HIDDEN)
    layer.forward = lambda x: x
    return layer


def _loop(recurrent):
    layer = snn.RLeaky(0.9, linear_features=4, **HIDDEN)
    layer.recurrent = recurrent
    return layer


class Rectified(nn.Linear):
    def forward(self, x):
        return super().forward(x).relu()


class Transposed(nn.Linear):
    """Derived, so that the loop of RLeaky would run another map than its weight tells."""

    def forward(self, x):
        return F.linear(x, self.weight.T)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            Equations(0.9, **HIDDEN),
            r"Equations\) replaces _base_state_function of Leaky; expected Leaky as",
        ),
        (Forward(0.9, **HIDDEN), r"Forward\) replaces forward of Leaky"),
        (_patched(), r"Leaky\) replaces forward of Leaky"),
        (Rectified(4, 4), "'relu' in front of layer '1'"),
        (
            snn.Leaky(0.9, spike_grad=torch.sigmoid, **HIDDEN),
            "whose forward is not a step",
        ),
        (snn.Leaky(0.9, spike_grad=lambda x: (x >= 0).float(), **HIDDEN), "'0'.*is not a step"),
        (_loop(nn.Sequential(nn.Linear(4, 4), nn.ReLU())), "has the loop Sequential; expected one"),
        (_loop(Transposed(4, 4)), "has the loop Transposed; .*write the loop out in forward"),
        (snn.Leaky(float("nan"), **HIDDEN), "infinite values or NaN.*\n.*'0': tau"),
        (nn.LSTM(4, 4), "'0' .torch.*LSTM. is unknown; .*Use RLeaky or RSynaptic"),
        (nn.MultiheadAttention(4, 2), "'0' .torch.*MultiheadAttention. is unknown"),
        (nn.GroupNorm(1, 4), "'0' .torch.*GroupNorm. is unknown; .*Use BatchNorm"),
        (nn.MaxPool1d(2, return_indices=True), "'0' .*MaxPool1d. returns the places of maxima"),
        (nn.LPPool1d(2, 2), "norm_type is 2; expected 1"),
    ],
)
def test_layers_that_mean_something_else_are_refused(layer, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(nn.Sequential(layer, snn.Leaky(0.9, **HIDDEN)), torch.zeros(2, 4))


def test_inhibition_is_refused():
    with pytest.warns(UserWarning, match="Inhibition"):
        neuron = snn.Leaky(0.9, inhibition=True, **HIDDEN)
    with pytest.raises(UnsupportedNodeError, match="'1'.*inhibition is True; .*Train without it"):
        to_nir(nn.Sequential(nn.Linear(4, 4), neuron), torch.zeros(2, 4))


def _diverged():
    net = small_net()
    net[0].weight.data[0, 0] = float("inf")
    return net


def _locked():
    net = Between(lambda y: y)
    net.generator = (n for n in range(3))
    return net


class Raises(Between):
    def forward(self, x):
        raise KeyError("no such key")


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: "model.pt", ConfigError, "module is of type str; expected a torch.nn.Module"),
        (lambda: nn.Linear, ConfigError, "module is the class Linear; expected a"),
        (
            lambda: small_net().state_dict(),
            ConfigError,
            "OrderedDict; expected a torch.nn.Module with",
        ),
        (
            lambda: nn.Sequential(nn.LazyLinear(4), snn.Leaky(0.9, **HIDDEN)),
            ConfigError,
            r"'0.weight' has no values yet \(lazy\); expected weights. Run the network once",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 4, device="meta")),
            ConfigError,
            r"'0.weight' has no values yet \(meta device\)",
        ),
        (
            lambda: torch.jit.script(nn.Sequential(nn.Linear(4, 4))),
            UnsupportedNodeError,
            "the network is a ScriptModule.*expected a module in Python",
        ),
        (
            lambda: nn.Sequential(torch.jit.script(nn.Linear(4, 4)), snn.Leaky(0.9, **HIDDEN)),
            UnsupportedNodeError,
            "layer '0' is a ScriptModule",
        ),
        (_locked, ConfigError, "Between cannot be copied.*generator.*Take out of the module"),
        (_diverged, UnsupportedNodeError, "infinite values or NaN.*\n.*'0': weight holds"),
        (
            lambda: Raises(None),
            ConfigError,
            r"shape \(2, 4\) .KeyError: 'no such key'.; expected one step",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 3), snn.Leaky(torch.rand(2), **HIDDEN)),
            ConfigError,
            "RuntimeError in layer '1': The size of tensor",
        ),
        (
            lambda: nn.Sequential(snn.StateLeaky(0.9, 4), nn.Linear(4, 4)),
            UnsupportedNodeError,
            "'0' .*StateLeaky. is unknown",
        ),
    ],
)
def test_modules_that_cannot_be_run_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        to_nir(make(), torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (3, "sample_input holds 3; expected a tensor of real numbers"),
        ("abc", "sample_input holds 'abc'"),
        (np.ones((2, 4)), r"sample_input holds ndarray of shape \(2, 4\) .*expected a tensor"),
        ((), r"sample_input holds \(\); expected"),
        ({"x": torch.zeros(2, 4)}, "sample_input holds {'x'"),
        ([[torch.zeros(2, 4)]], "or a tuple of them, one for each input of forward"),
        (
            torch.zeros(2, 4, dtype=torch.complex64),
            r"holds Tensor of shape \(2, 4\) and type torch.complex64; expected a tensor of real",
        ),
        (torch.zeros(2, 4, device="meta"), r"shape \(2, 4\).* on meta; expected"),
        (torch.zeros(4), r"has shape \(4,\); expected \(batch, \*shape\)"),
        (torch.zeros(0, 4), r"has shape \(0, 4\); expected .*without a 0 in it"),
        ((torch.zeros(2, 4), torch.zeros(2, 4)), "takes 2 positional arguments but 3 were given"),
    ],
)
def test_samples_of_another_kind_are_refused(sample, message):
    with pytest.raises(ConfigError, match=message):
        to_nir(small_net(), sample)


@pytest.mark.parametrize("dt_s", [0, -1e-3, float("nan"), float("inf"), "1e-3", None, 1e-16, 1e16])
def test_a_step_without_width_is_refused(dt_s):
    with pytest.raises(ConfigError, match="dt_s is .*; expected the width of a step in sec"):
        to_nir(small_net(), torch.zeros(2, 4), dt_s=dt_s)
