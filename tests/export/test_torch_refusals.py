"""What to_nir refuses, with the reason and the way out, and that it leaves everything as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import surrogate, utils
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.export.from_torch.graph import GraphBuilder
from biril_nm.export.from_torch.signals import InputStep, LayerOutput, Operation, Sum
from biril_nm.export.from_torch.wiring import Readout, Wiring

HIDDEN = {"init_hidden": True}


class Between(nn.Module):
    """A linear layer and neurons, with a function between."""

    def __init__(self, function) -> None:
        super().__init__()
        self.fc, self.lif, self.function = nn.Linear(4, 4), snn.Leaky(0.9, **HIDDEN), function

    def forward(self, x):
        return self.lif(self.function(self.fc(x)))


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
        (_noise, "operation 'add'.*Add one number, or one per channel"),
        (lambda y: y + torch.rand(4), "'lif' receives something else from step to step"),
        (lambda y: F.dropout(y, 0.5), "'dropout'.*Pass training=self.training"),
        (lambda y: F.max_pool1d(y, 1), "'max_pool1d'.*Use average pooling"),
        (lambda y: torch.bernoulli(y.sigmoid()), "'sigmoid' in front of layer 'lif'"),
        (lambda y: y * y, "'mul'.*Multiply a signal by constants only"),
        (lambda y: y.roll(1, 1), "'roll'.*Reorder the input, or the weights"),
        (lambda y: F.linear(y, y, None), "operation 'linear' in front of layer 'lif'"),
        (lambda y: y @ y, "'matmul'.*Multiply a signal by constants"),
        (lambda y: torch.einsum("bi->bi", y), "operation 'einsum'"),
        (lambda y: y[:, [1, 0, 3, 2]], "operation '__getitem__'"),
        (lambda y: y.unsqueeze(0).squeeze(0), "operation 'unsqueeze'"),
        (lambda y: F.conv1d(y[:, None], y[:1, None, :1]).flatten(1), "__getitem__"),
        (lambda y: F.batch_norm(y, None, None, training=True), "operation 'batch_norm'"),
        (lambda y: torch.add(y, y, alpha=2), "operation 'add'"),
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
        (nn.MaxPool1d(2), "'0' .torch.*MaxPool1d. is unknown; .*Use average pooling"),
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


def _net():
    return nn.Sequential(nn.Linear(4, 4), snn.Leaky(0.9, **HIDDEN))


def _diverged():
    net = _net()
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
@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: "model.pt", ConfigError, "module is of type str; expected a torch.nn.Module"),
        (lambda: nn.Linear, ConfigError, "module is the class Linear; expected a"),
        (lambda: _net().state_dict(), ConfigError, "OrderedDict; expected a torch.nn.Module with"),
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
        to_nir(_net(), sample)


@pytest.mark.parametrize("dt_s", [0, -1e-3, float("nan"), float("inf"), "1e-3", None])
def test_a_step_without_width_is_refused(dt_s):
    with pytest.raises(ConfigError, match="dt_s is .*; expected a finite number above 0"):
        to_nir(_net(), torch.zeros(2, 4), dt_s=dt_s)


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.a, self.b = (
            nn.Linear(4, 4),
            snn.Leaky(0.9, **HIDDEN),
            snn.Leaky(0.9, **HIDDEN),
        )

    def forward(self, x):
        return self.a(self.fc(x)), self.b(-self.fc(x))


class WholeSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 4), snn.Leaky(0.9)

    def forward(self, x):
        mem, spikes, currents = self.lif.init_leaky(), [], self.fc(x)
        for step in range(len(x)):
            spk, mem = self.lif(currents[step], mem)
            spikes.append(spk)
        return torch.stack(spikes)


class Softmax(WholeSequence):
    def forward(self, x):
        mem, total = self.lif.init_leaky(), 0
        for value in x:
            spk, mem = self.lif(self.fc(value), mem)
            total = total + spk
        return total.softmax(-1)


class LookAhead(WholeSequence):
    def forward(self, x):
        mem, spikes = self.lif.init_leaky(), []
        for step in range(len(x) - 1):
            spk, mem = self.lif(self.fc(x[step + 1]), mem)
            spikes.append(spk)
        return torch.stack(spikes)


class Alternating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.a, self.b = nn.Linear(4, 4), snn.Leaky(0.9), snn.Leaky(0.8)

    def forward(self, x):
        mem, mem2, spikes = self.a.init_leaky(), self.b.init_leaky(), []
        for step in range(len(x)):
            y = self.fc(x[step])
            spk, mem = self.a(y, mem)
            spk2, mem2 = self.b(y, mem2)
            spikes.append(spk2 if step % 2 else spk)
        return torch.stack(spikes)


class BehindTheLoop(Alternating):
    def forward(self, x):
        mem, total = self.a.init_leaky(), 0
        for value in x:
            spk, mem = self.a(value, mem)
            total = total + spk
        return self.fc(total)


class OnlyStates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.a = nn.Linear(4, 4), snn.Leaky(0.9)
        self.fc2, self.b = nn.Linear(4, 4), snn.Leaky(0.9)

    def forward(self, x):
        mem, mem2 = self.a.init_leaky(), self.b.init_leaky()
        for value in x:
            spk, mem = self.a(self.fc(value), mem)
            _, mem2 = self.b(self.fc2(spk), mem2)
        return mem


class ResetsEachStep(Between):
    def forward(self, x):
        utils.reset(self)
        return super().forward(x)


class NotAtRest(Between):
    def __init__(self) -> None:
        super().__init__(None)
        self.lif, self.mem = snn.Leaky(0.9), torch.ones(2, 4)

    def forward(self, x):
        spk, self.mem = self.lif(self.fc(x), self.mem)
        return spk


class Returns(Between):
    def forward(self, x):
        super().forward(x)


class Stacks(nn.Module):
    def forward(self, x):
        return torch.stack([x, x])


def _stack():
    return nn.Sequential(Stacks(), nn.Linear(4, 4), snn.Leaky(0.9, **HIDDEN))


class GivenState(Between):
    def __init__(self) -> None:
        super().__init__(None)
        self.lif = snn.Leaky(0.9)

    def forward(self, x, mem):
        return self.lif(self.fc(x), mem)


def test_states_are_no_inputs():
    assert to_nir(GivenState(), torch.zeros(2, 4)).nodes["lif"].tau.shape == (4,)
    with pytest.raises(UnsupportedNodeError, match="'lif' is given an input of forward; expected"):
        to_nir(GivenState(), (torch.zeros(2, 4), torch.zeros(2, 4)))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            Sum((InputStep(0, 0), InputStep(0, 0))),
            r"added to itself \(input -> fc\).*Scale the weights",
        ),
        (Operation("relu", (InputStep(0, 0),)), "Operation has no NIR form"),
    ],
)
def test_wirings_are_checked_when_they_are_built(source, message):
    net = nn.ModuleDict({"fc": nn.Linear(4, 4)})
    output = Readout(LayerOutput("fc", 0), "step")
    shapes = {"fc": ((4,), (4,))}
    wiring = Wiring({"fc": source}, shapes, {0: (4,)}, (output,), (), (), dict(net.named_modules()))
    with pytest.raises(UnsupportedNodeError, match=message):
        GraphBuilder(wiring, 1e-3, ["x"]).build()


@pytest.mark.parametrize(
    ("net", "shape", "message"),
    [
        (
            Reused(),
            (2, 4),
            "^[^-]*- layer 'fc' is used 2 times; expected once. Give each use its own module\nSupp",
        ),
        (WholeSequence(), (3, 2, 4), "'select' in front of layer 'lif'.*inside the loop over time"),
        (Softmax(), (3, 2, 4), "'softmax' in front of the output.*do the rest outside of the net"),
        (LookAhead(), (4, 2, 4), "'fc' receives a signal of another step; expected one of this"),
        (Alternating(), (3, 2, 4), "forward returns different layers at different steps"),
        (
            BehindTheLoop(),
            (3, 2, 4),
            "'fc' is used once and the neurons 3 times; .*Call it at every",
        ),
        (
            Alternating(),
            (1, 2, 4),
            r"takes the input apart \(x\[...\]\) without a loop.*two or more",
        ),
        (_stack(), (2, 4), "operation 'stack' in front of layer '1'"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3), _net()[1]),
            (4, 6, 6),
            r"receives shape \(6, 6\); expected 3",
        ),
        (OnlyStates(), (3, 2, 4), "returns only states of layers that feed others.*\n  - a"),
        (ResetsEachStep(lambda y: y), (2, 4), "'lif' starts each step from rest.*take the last st"),
        (NotAtRest(), (2, 4), "'lif' starts from a state other than zero; expected rest. Put"),
        (Returns(lambda y: y), (2, 4), "forward returns nothing that a layer has sent"),
    ],
)
def test_wirings_without_nir_form_are_refused(net, shape, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(net, torch.zeros(shape))


# --- nothing changes ------------------------------------------------------------------------------


def _state(net):
    """Everything of a module, and of the process, that to_nir must leave alone."""
    facts = {
        "random": (torch.get_rng_state().tolist(), random.getstate()),
        "grad": torch.is_grad_enabled(),
        "methods": (torch.Tensor.__getitem__, torch.Tensor.__setitem__),
        "neurons": [id(layer) for layer in snn.SpikingNeuron.instances],
    }
    for path, layer in net.named_modules():
        for name, value in vars(layer).items():
            content = value if isinstance(value, dict) else {"": value}
            for key, item in content.items():
                kept = item.tolist() if isinstance(item, torch.Tensor) else None
                facts[f"{path}.{name}.{key}"] = (id(item), kept)
    return facts


class Dreams(nn.Module):
    """Random numbers, resets of all neurons, a mode change, and states of a graph in a list."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 4), snn.Leaky(0.9, learn_beta=True, **HIDDEN)
        self.norm, self.fails, self.seen = nn.BatchNorm1d(4), fails, []

    def forward(self, x):
        utils.reset(self)
        spikes = []
        for value in x:
            y = self.norm(self.fc(value))
            noise = torch.rand(3)
            spikes.append(self.lif(y))
            self.seen.append(spikes[-1])
        if self.fails:
            self.eval()
            raise RuntimeError(f"woken up at {noise.sum()}")
        return torch.stack(spikes)


@pytest.mark.parametrize("fails", [False, True])
def test_module_and_process_are_left_as_they_were(fails):
    net = Dreams(fails=False).train()
    net.fc.register_forward_hook(lambda layer, args, output: output)
    net(torch.rand(3, 2, 4)).sum().backward()
    net.fails = fails
    other = snn.Leaky(0.9, **HIDDEN)  # utils.reset reaches every neuron of the process
    other(torch.full((2, 4), 0.7))
    before, held = _state(net), other.mem
    if fails:
        with pytest.raises(ConfigError, match="RuntimeError: woken up"):
            to_nir(net, torch.rand(3, 2, 4, requires_grad=True))
    else:
        assert to_nir(net, torch.rand(3, 2, 4, requires_grad=True)).nodes["lif"].tau.shape == (4,)
    assert _state(net) == {**before, "random": _state(net)["random"]}
    assert other.mem is held


def test_random_numbers_go_on_as_if_nothing_was_exported():
    net = Dreams(fails=False)
    sample = torch.rand(3, 2, 4)
    before = torch.get_rng_state()
    to_nir(net, sample)
    assert torch.equal(torch.get_rng_state(), before)


def test_surrogates_and_dtypes_are_of_no_matter():
    net = nn.Sequential(
        nn.Linear(4, 4),
        snn.Leaky(0.9, spike_grad=surrogate.sigmoid(), **HIDDEN),
        nn.Linear(4, 4),
        snn.Leaky(0.9, spike_grad=surrogate.straight_through_estimator(), **HIDDEN),
    )
    net[0].weight.data = torch.round(net[0].weight.data * 64) / 64
    weight = net[0].weight.detach().numpy().copy()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        graph = to_nir(net.to(dtype), torch.ones(2, 4, dtype=torch.int64))
        np.testing.assert_array_equal(graph.nodes["0"].weight, weight)
        assert next(net.parameters()).dtype == dtype
