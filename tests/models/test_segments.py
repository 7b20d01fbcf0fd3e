"""Gradient checkpointing over time: equal to a run of all steps at once, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.models.running import run_steps
from biril_nm.models.segments import segments
from biril_nm.neurons import make_neuron
from biril_nm.training import TrainConfig, fit
from biril_nm.training.integers import quantized

N_STEPS = 11


def leaky(**more: Any) -> snn.Leaky:
    return snn.Leaky(beta=0.8, init_hidden=True, **more)


class SentMembrane(nn.Module):
    """Neurons that send their membrane as well."""

    def __init__(self) -> None:
        super().__init__()
        self.lif = leaky(output=True)

    def forward(self, x: Tensor) -> Tensor:
        spikes, membrane = self.lif(x)
        found: Tensor = spikes + 0.1 * membrane
        return found


HIDDEN: dict[str, Callable[[], nn.Module]] = {
    "leaky": leaky,
    "learned": lambda: leaky(learn_beta=True, learn_threshold=True),
    "learned beta": lambda: leaky(learn_beta=True),
    "plif": lambda: make_neuron("plif", 0.5, 0.2),
    "learned alpha": lambda: make_neuron("plif", 0.5, 0.2, "learned_atan"),
    "recurrent": lambda: snn.RLeaky(beta=0.7, linear_features=12, init_hidden=True),
    "synaptic": lambda: snn.Synaptic(alpha=0.6, beta=0.5, init_hidden=True),
    "alpha": lambda: snn.Alpha(alpha=0.6, beta=0.5, init_hidden=True),
    "graded": lambda: leaky(graded_spikes_factor=0.5),
    "membrane": SentMembrane,
    "recurrent synaptic": lambda: snn.RSynaptic(0.6, 0.5, linear_features=12, init_hidden=True),
}


def network(hidden: nn.Module, norm: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    first = [nn.Conv2d(2, 4, 3, padding=1), *([nn.BatchNorm2d(4)] if norm else []), leaky()]
    rest = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 12), hidden, nn.Linear(12, 5), leaky()]
    net = nn.Sequential(*first, *rest)
    with torch.no_grad():  # so that all layers fire
        for layer in (net[0], *rest[2:]):
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.mul_(3)
    return net


def spikes_in() -> Tensor:
    return (torch.rand(N_STEPS, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4) * 1.0


def trained(net: nn.Module, x: Tensor, length: int) -> tuple[Any, list[Tensor]]:
    net.zero_grad()
    with segments(length):
        run = run_steps(net, x, ["1"])
    weights = torch.arange(float(run.output.shape[-1]))
    mems = sum(mem.sum() for mem in run.membranes.values())
    ((run.output * weights).sum() + 0.1 * mems).backward()
    return run, [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("length", [1, 4])
def test_equals_the_whole_run(hidden: str, length: int) -> None:
    net, x = network(HIDDEN[hidden]()), spikes_in()
    whole, expected = trained(net, x, 0)
    cut, found = trained(net, x, length)
    assert 0 < whole.output.mean() < 1
    assert torch.equal(cut.output, whole.output)
    assert torch.equal(cut.recorded["1"], whole.recorded["1"])
    assert list(cut.membranes) == list(whole.membranes)
    assert cut.readout == whole.readout
    for name, mem in whole.membranes.items():
        torch.testing.assert_close(cut.membranes[name], mem, rtol=1e-5, atol=1e-5)
    assert len(found) == len(expected)
    for ours, grad in zip(found, expected):
        largest = float(grad.abs().max())
        assert largest > 0
        torch.testing.assert_close(ours, grad, rtol=1e-5, atol=1e-5 * largest)


def test_batch_norm_counts_each_segment_once() -> None:
    net, x = network(leaky(), norm=True), spikes_in()
    norm: Any = net[1]
    with segments(4):
        run = run_steps(net, x)
    before = norm.running_mean.clone(), norm.running_var.clone()
    run.output.sum().backward()
    assert norm.num_batches_tracked == 3
    assert norm.momentum == 0.1
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])


def kept_bytes(length: int, n_steps: int) -> int:
    """Bytes that the backward pass holds, counted when they are saved."""
    net = nn.Sequential(nn.Linear(20, 30), leaky(), nn.Linear(30, 5), leaky())
    x = (torch.rand(n_steps, 4, 20) < 0.4) * 1.0
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with segments(length), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        run_steps(net, x)
    return sum(kept.values()) - x.untyped_storage().nbytes()


def test_keeps_less_than_the_whole_run() -> None:
    assert kept_bytes(0, 200) > 1.8 * kept_bytes(0, 100)  # in proportion to the steps
    assert kept_bytes(10, 200) < 0.2 * kept_bytes(0, 200)


def test_a_training_reaches_the_same_weights() -> None:
    found = []
    for length in (0, 2):
        net = network(leaky())
        batches = [(spikes_in(), torch.tensor([0, 1, 2]))] * 3
        config = TrainConfig(schedule="BH", epochs=2, checkpoint_steps=length, plastic="conv+fc")
        fit(net, (batches, None), config, coding=Coding("spikes", N_STEPS))
        found.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
    start = torch.cat([p.detach().flatten() for p in network(leaky()).parameters()])
    assert not torch.allclose(found[0], start, atol=1e-3)
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


class Looping(nn.Module):
    """A forward that loops over the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(leaky())

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(step) for step in x])


class Branching(nn.Module):
    """A step whose way depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network(leaky())

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = self.net(x if x.sum() > 3 else 2 * x)
        return spikes


@pytest.mark.parametrize("kind", [Looping, Branching])
def test_what_cannot_be_cut_is_refused(kind: type[nn.Module]) -> None:
    batches = [(spikes_in(), torch.tensor([0, 1, 2]))]
    config = TrainConfig(schedule="B", epochs=1, checkpoint_steps=2)
    with pytest.raises(ConfigError, match=r"checkpoint_steps is above 0.*Set checkpoint_steps=0"):
        fit(kind(), (batches, None), config, coding=Coding("spikes", N_STEPS))


class Traced(snn.Leaky):
    """Neurons of the user's own, with a state that only they know."""

    def forward(self, input_: Tensor, mem: Any = None) -> Any:
        spikes = super().forward(input_ - getattr(self, "trace", 0.0), mem)
        self.trace = 0.5 * spikes
        return spikes


def test_states_of_own_neurons_are_not_known() -> None:
    net = network(Traced(beta=0.8, init_hidden=True))
    with segments(4), pytest.raises(ConfigError, match=r"'5' is a Traced, .* Set checkpoint_st"):
        run_steps(net, spikes_in())


def test_the_loop_cannot_be_cut_and_says_so() -> None:
    batches = [(spikes_in(), torch.tensor([0, 1, 2]))]
    config = TrainConfig(schedule="B", epochs=1, checkpoint_steps=2, engine="loop")
    with pytest.raises(ConfigError, match=r"engine 'loop' calls .* Use engine='auto'"):
        fit(network(leaky()), (batches, None), config, coding=Coding("spikes", N_STEPS))


@pytest.mark.parametrize("steps", [-1, 1.5, True])
def test_wrong_lengths(steps: Any) -> None:
    with pytest.raises(ConfigError, match="checkpoint_steps is .*expected an integer"):
        TrainConfig(checkpoint_steps=steps)


def test_training_on_integers_refuses_it() -> None:
    net = quantized(bnm.build_model("mlp", bnm.ModelConfig(input_shape=(1, 4, 4), hidden=(4,))))
    batches = [(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))]
    with pytest.raises(ConfigError, match="checkpoint_steps 2, and .* computes in integers"):
        fit(net, (batches, None), TrainConfig(schedule="B", epochs=1, checkpoint_steps=2))
