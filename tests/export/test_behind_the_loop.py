"""Layers behind the loop over time: of means and sums of spikes, and which scores the torch engine gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.engines.registry import Network, RunOptions
from biril_nm.engines.torch_net import run_network
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate

N_STEPS, BATCH, N_IN = 9, 6, 8
X = (np.random.default_rng(1).random((N_STEPS, BATCH, N_IN)) < 0.4).astype(np.int32)
SAMPLE = torch.from_numpy(X[:3]).float()


class Net(nn.Module):
    """Spikes of one population; ``put`` makes the result of them."""

    def __init__(self, put: Callable[[Net, list[Tensor]], Any], bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(N_IN, 12), snn.Leaky(beta=0.9, threshold=0.3)
        self.out, self.more = nn.Linear(12, 5, bias=bias), nn.Linear(12, 4, bias=bias)
        self.norm = nn.BatchNorm1d(5)
        self.norm.running_mean.copy_(torch.linspace(-1.0, 1.0, 5))
        self.put = put

    def forward(self, x: Tensor) -> Any:
        mem, spikes = self.lif.init_leaky(), []
        for step in x:
            spk, mem = self.lif(self.fc(step), mem)
            spikes.append(spk)
        return self.put(self, spikes)


def same(put: Any, other: Any, bias: bool = True) -> bool:
    found, expected = (to_nir(Net(p, bias), SAMPLE, dt_s=1e-3) for p in (put, other))
    return (
        list(found.nodes) == list(expected.nodes)
        and found.edges == expected.edges
        and found.nodes["output"].metadata == expected.nodes["output"].metadata
        and np.array_equal(found.nodes["out"].weight, expected.nodes["out"].weight)
    )


def test_a_layer_of_the_mean_is_the_mean_of_the_layer() -> None:
    each = lambda net, s: torch.stack([net.out(spk) for spk in s]).mean(0)  # noqa: E731
    assert same(lambda net, s: net.out(torch.stack(s).mean(0)), each)
    assert same(lambda net, s: net.out(torch.stack(s, dim=1).sum(1) / len(s)), each)
    assert same(lambda net, s: net.out(sum(s) / len(s)), each)
    total = lambda net, s: torch.stack([net.out(spk) for spk in s]).sum(0)  # noqa: E731
    assert same(lambda net, s: net.out(torch.stack(s).sum(0)), total, bias=False)
    assert same(lambda net, s: net.out(s[-1]), lambda net, s: [net.out(spk) for spk in s][-1])


@pytest.mark.parametrize(
    "put",
    [
        lambda net, s: net.out(torch.stack(s).sum(0)),
        lambda net, s: net.out(0.5 * torch.stack(s).sum(0) / len(s)),
        lambda net, s: net.out(torch.stack(s).mean(0) / len(s)),
        lambda net, s: net.out(1 + sum(s)),
        lambda net, s: net.out(torch.stack(s)),
        lambda net, s: net.out(torch.stack(s).mean(0) + s[-1]),
        lambda net, s: net.out(net.lif.mem),
    ],
    ids=["sum and bias", "half", "of a mean", "offset", "all steps", "two", "membrane"],
)
def test_a_layer_of_something_else_is_refused(put: Any) -> None:
    with pytest.raises(UnsupportedNodeError, match="'out' is used once and the neurons 3 times"):
        to_nir(Net(put), SAMPLE, dt_s=1e-3)


def test_the_mean_of_some_steps_is_refused() -> None:
    with pytest.raises(UnsupportedNodeError, match="returns steps 1, 2 of 3; expected all"):
        to_nir(Net(lambda net, s: net.out(torch.stack(s[1:]).mean(0))), SAMPLE, dt_s=1e-3)


class LastStep(Net):
    """The layer of the last step, or the membrane of neurons without memory behind it."""

    def __init__(self, behind: bool) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.read, self.behind = snn.Leaky(beta=0.0, reset_mechanism="none"), behind

    def forward(self, x: Tensor) -> Tensor:
        mem, membrane = self.lif.init_leaky(), self.read.init_leaky()
        for step in x:
            spk, mem = self.lif(self.fc(step), mem)
            if self.behind:
                _, membrane = self.read(self.out(spk), membrane)
        return membrane if self.behind else self.out(spk)


def test_a_layer_of_the_last_step_has_a_way_out_that_is_the_same() -> None:
    with pytest.raises(UnsupportedNodeError, match="at the last step; .* which is the same, or"):
        lower(to_nir(LastStep(False), SAMPLE, dt_s=1e-3), calibration=X)
    net = LastStep(True)
    graph = lower(to_nir(net, SAMPLE, dt_s=1e-3), calibration=X)
    volts = simulate(graph, X, record=("v",))["read"].v[-1]
    with torch.no_grad():
        expected = LastStep(False)(torch.from_numpy(X).float()).numpy()
    assert np.corrcoef(volts.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.array_equal(volts.argmax(1), expected.argmax(1))


def vote(net: Net, spikes: list[Tensor]) -> Tensor:
    """Four neurons for each of three classes."""
    return torch.stack([spk.view(len(spk), 3, 4).sum(2) for spk in spikes]).sum(0)


@pytest.mark.parametrize(
    "put",
    [
        lambda net, s: net.out(torch.stack(s).mean(0)),
        lambda net, s: (net.out(torch.stack(s).mean(0)), net.more(torch.stack(s).mean(0))),
        lambda net, s: tuple(sum(f(k) for k in s) for f in (net.out, net.more)),
        lambda net, s: {"a": sum(net.norm(net.out(k)) for k in s)},
        vote,
    ],
    ids=["mean", "two of the mean", "two of each step", "norm", "vote"],
)
def test_what_the_forward_returns_first_decides(put: Any) -> None:
    """Also where another layer is called last, or none behind the neurons."""
    net = Net(put)
    net.eval()
    with torch.no_grad():
        output = net(torch.from_numpy(X).float())
    first = next(iter(output.values())) if isinstance(output, dict) else output
    first = first[0] if isinstance(first, tuple) else first
    graph = lower(to_nir(net, SAMPLE, dt_s=1e-3), calibration=X)
    scores = run_network(Network(graph, net), X, RunOptions()).scores
    assert scores is not None
    np.testing.assert_allclose(scores, first.numpy(), rtol=1e-5, atol=1e-5)
    report = bnm.check_parity(graph, X, against=("torch", "sim"), net=net, min_agreement=0.8)
    report.raise_on_mismatch()


class AllAtOnce(nn.Module):
    """A layer of all steps, samples first, of which neurons take one after the other."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.fc, self.lif, self.inside = nn.Linear(N_IN, 4), snn.Leaky(beta=0.9), inside

    def forward(self, x: Tensor) -> Tensor:
        mem, spikes = self.lif.init_leaky(), []
        currents = x if self.inside else self.fc(x)
        for n in range(x.shape[1]):
            current = self.fc(currents[:, n]) if self.inside else currents[:, n]
            spk, mem = self.lif(current, mem)
            spikes.append(spk)
        return torch.stack(spikes)


def test_a_layer_of_all_steps_at_once_is_named() -> None:
    samples = SAMPLE.transpose(0, 1)
    with pytest.raises(UnsupportedNodeError, match="Call 'fc' on one step at a time, inside the"):
        to_nir(AllAtOnce(False), samples, dt_s=1e-3)
    assert "fc" in to_nir(AllAtOnce(True), samples, dt_s=1e-3).nodes
