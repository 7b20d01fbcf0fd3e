"""A last layer that is read by its membrane: what its float neurons would send counts for nothing."""

from __future__ import annotations

import copy

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.export import lower, to_nir
from biril_nm.hw_graph.outputs import integrators
from biril_nm.parity import check_parity

N_STEPS, BATCH, N_IN, N_OUT = 12, 24, 16, 4


class Regression(nn.Module):
    """snnTorch's way of regression: the membrane of the last layer is the answer."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.hidden, self.lif = nn.Linear(N_IN, 40), snn.Leaky(beta=0.9)
        self.answer = nn.Linear(40, N_OUT)
        self.out = snn.Leaky(beta=0.8, threshold=threshold, reset_mechanism="none")

    def forward(self, x):
        mem1, mem2 = self.lif.init_leaky(), self.out.init_leaky()
        found = []
        for step in x:
            spikes, mem1 = self.lif(self.hidden(step), mem1)
            _, mem2 = self.out(self.answer(spikes), mem2)
            found.append(mem2)
        return torch.stack(found)


@pytest.fixture(scope="module")
def spikes():
    generator = torch.Generator().manual_seed(2)
    return (torch.rand(N_STEPS, BATCH, N_IN, generator=generator) < 0.4).int()


@pytest.mark.parametrize("threshold", [0.05, 1.0])
def test_float_spikes_of_the_readout_are_no_difference(threshold, spikes):
    net = Regression(threshold)
    with torch.no_grad():
        membrane = net(spikes.float())[-1]
        sent = (membrane > threshold).float().mean()
    assert threshold == 1.0 or sent > 0.2, "its float neurons would spike"
    graph = lower(to_nir(net, spikes[:2].float(), dt_s=1e-3), calibration=spikes.numpy())
    assert integrators(graph) == ("out",)
    found = check_parity(graph, spikes.numpy(), ("torch", "sim"), net=net)
    assert found.ok and found.silent == (), found.summary()
    assert found.floats.rate_difference["out"] == 0
    assert found.floats.same_predictions >= BATCH - 2

    other = copy.deepcopy(net)
    with torch.no_grad():
        other.answer.weight.copy_(-net.answer.weight)
    assert not check_parity(graph, spikes.numpy(), ("torch", "sim"), net=other).ok


def test_spiking_neurons_are_no_integrators(spikes):
    net = nn.Sequential(nn.Linear(N_IN, N_OUT), snn.Leaky(beta=0.9, init_hidden=True))
    graph = lower(to_nir(net, spikes[0].float(), dt_s=1e-3))
    assert integrators(graph) == ()
