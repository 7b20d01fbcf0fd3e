"""Scales with which training on the integers starts: nearest to the floats, within all limits."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm import build_model
from biril_nm.coding import Coding
from biril_nm.export import to_nir
from biril_nm.export.lowering import LoweringOptions, lower_stages
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.outputs import integrators
from biril_nm.models import ModelConfig
from biril_nm.training.integers import QuantizedNet
from biril_nm.training.integers.scales import FACTORS, GridLink, best_factors
from biril_nm.training.integers.straight import clipped


def error(rows, factor, low, high):
    wrong = np.clip(np.floor(rows * factor + 0.5), low, high) - rows * factor
    return ((wrong / factor) ** 2).sum()


def test_each_channel_gets_the_factor_that_loses_least():
    r = np.random.default_rng(0)
    rows = r.normal(size=(5, 40)) * np.geomspace(0.3, 4, 5)[:, None]
    link = GridLink(rows, -4, 3, 1.0)
    found = best_factors([link], np.full(5, 100.0), 1.0, shared=False)
    assert len(set(found)) > 3 and found[0] > found[-1]
    for row, factor in zip(rows, found):
        best = min(error(row, other, -4, 3) for other in FACTORS)
        assert error(row, factor, -4, 3) == pytest.approx(best)
    (one,) = set(best_factors([link], np.full(5, 100.0), 1.0, shared=True))
    wanted = min(FACTORS, key=lambda f: sum(error(row, f, -4, 3) for row in rows))
    assert one == wanted


def test_limits_of_registers_and_of_u_hold():
    rows = np.random.default_rng(2).uniform(-9, 9, (2, 400))
    reach = max(rows[0].clip(min=0).sum(), -rows[0].clip(max=0).sum())

    def found(limit=(1e9, 1e9), unit=2.0, gain=1.0):
        return best_factors([GridLink(rows, -127, 127, unit)], np.array(limit), gain, shared=False)

    assert found().min() > 5, "finer grids lose less"
    limited = found(limit=(1.5, 0.2))
    assert 1.3 < limited[0] <= 1.5
    assert limited[1] <= 1, "what the lowering found is allowed"
    unit = (1 << 17) / reach / 2  # at factor 2 the sum reaches the end of u
    assert 1.7 < found(unit=unit)[0] < 2
    assert found(unit=unit, gain=4.0)[0] <= 1, "u adds up"


@pytest.mark.parametrize("bits", [8, 3])
def test_channels_start_nearer_to_the_float_network_than_one_scale_is(bits):
    net = build_model("convnet", ModelConfig(coding=Coding("direct", 4, 8), channels=(6, 8)), 0)
    r = np.random.default_rng(1)
    for layer in (net.layers.conv2, net.layers.fc1):
        size = r.uniform(0.3, 1.0, (len(layer.weight), *(1,) * (layer.weight.ndim - 1)))
        layer.weight.data *= layer.weight.new_tensor(size)
    net.eval()
    student = QuantizedNet(lower_stages(to_nir(net), LoweringOptions(weight_bits=bits)))

    def lost(factor=None):
        total = 0.0
        for name in ("pool1+conv2+bn2", "pool2+fc1+bn3"):
            link, target = student.connection(name), student.base.ends[name][1]
            scale = student.population(target).scale.detach()
            scale = scale if factor is None else factor[target]
            back = link.integers(scale).detach() / link.step * link.unit / link.rows(scale)
            total += float((back - link.weight.detach()).square().sum())
        return total

    facts = student.base.metadata["neurons"]
    one = {
        name: student.population(name).scale.detach() * 0 + facts[name]["scale"] for name in facts
    }
    assert lost() < 0.9 * lost(one)
    scales = student.population("if_out").scale
    assert scales.numel() == 1, "classes are compared"


def test_weights_at_a_limit_keep_their_gradient_and_those_beyond_lose_it():
    x = torch.tensor([-2.5, -2.0, 0.3, 1.0, 1.5], requires_grad=True)
    y = clipped(x, -2, 1)
    assert y.tolist() == x.detach().clamp(-2, 1).tolist()
    (y * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 0.0]


def test_weights_of_a_graph_at_the_ends_of_their_grid_learn():
    """Float32 moves them beyond a limit by some units in the last place, for about half of the scales."""
    for vth in range(90, 130):
        nodes = {
            "in": Input((4,), message_bits=8),
            "fc": Dense([[-128, 128, 0, 128]], weight_bits=2),
            "n": Neurons((1,), registers={"vth": vth, "dv": 100}),
            "end": Output(),
        }
        net = QuantizedNet(
            LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "end"))), symmetric=True
        )
        link = net.connection("fc")
        link.integers(net.population("n").scale).sum().backward()
        assert torch.all(link.weight.grad > 0), vth


@pytest.mark.parametrize("size", [0.0, 1e-5, 1e-3])
def test_neurons_that_hardly_anything_reaches_still_spike_and_learn(size):
    """At the largest threshold they would count as integrators, which never spike."""
    torch.manual_seed(0)
    neuron = snn.Leaky(beta=0.9, init_hidden=True)
    net = nn.Sequential(nn.Linear(6, 4, bias=False), neuron)
    net[0].weight.data *= size
    graph = to_nir(net, torch.zeros(2, 6), dt_s=1e-3)
    student = QuantizedNet(lower_stages(graph))
    (name,) = student.base.neurons
    for _ in range(2):
        assert integrators(student.graph()) == () and student.population(name).trained
        student.population(name).log_scale.data += 20
