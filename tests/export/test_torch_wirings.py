"""Wirings, loops and states without NIR form are refused by name; the module is left as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import nn

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.export.from_torch.graph import GraphBuilder
from biril_nm.export.from_torch.signals import InputStep, LayerOutput, Operation, Sum
from biril_nm.export.from_torch.wiring import Readout, Wiring
from tests.support.torch_nets import HIDDEN, Between, small_net


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


class StepByStep(WholeSequence):
    def forward(self, x):
        mem, spikes = self.lif.init_leaky(), []
        for step in range(len(x)):
            spk, mem = self.lif(self.fc(x[step]), mem)
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
            StepByStep(),
            (1, 2, 4),
            r"takes the input apart \(x\[...\]\) without a loop.*two or more",
        ),
        (_stack(), (2, 4), "operation 'stack' in front of layer '1'"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3), small_net()[1]),
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


class InPlace(WholeSequence):
    """Adds to tensors that it has made."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        mem, total = self.lif.init_leaky(), torch.zeros(x.shape[1], 3)
        for value in x:
            current = torch.full((len(value), 4), 0.25)
            current += self.fc(value)
            spk, mem = self.lif(current, mem)
            total += self.out(spk)
        return total / len(x)

    def train(self, mode=True):
        super().train(mode)  # and returns nothing


class Anew(InPlace):
    """The same without changing what it has made."""

    def forward(self, x):
        mem, total = self.lif.init_leaky(), 0
        for value in x:
            spk, mem = self.lif(self.fc(value) + 0.25, mem)
            total = total + self.out(spk)
        return total / len(x)


def test_constants_that_are_written_into_have_the_values_from_before():
    net, other = InPlace(), Anew()
    other.load_state_dict(net.state_dict())
    found, same = (to_nir(n, torch.rand(3, 2, 4), dt_s=1e-3) for n in (net, other))
    assert found.edges == same.edges and list(found.nodes) == list(same.nodes)
    assert found.nodes["output"].metadata["readout"] == "mean"
    for name, node in found.nodes.items():
        for field in ("weight", "bias"):
            pair = [getattr(n, field, np.zeros(0)) for n in (node, same.nodes[name])]
            assert np.array_equal(*pair), name
