"""Copies and pickles of networks, and averages of their weights, compute what the networks do."""

from __future__ import annotations

import copy
import pickle

import pytest
import snntorch as snn
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.compartments import COMPARTMENTS
from biril_nm.engines.torch_net import run_torch
from biril_nm.export import to_nir
from biril_nm.models import OwnNet
from biril_nm.models.wrappers import unwrapped
from biril_nm.neurons import SURROGATES, make_surrogate
from biril_nm.neurons.surrogates import formula, slope
from biril_nm.training.integers import quantized
from tests.support.quantized import assert_equal

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value))}
CODING = Coding("direct", 3)
SAMPLES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
KINDS = ("biril", "own", "integers")


def made(kind, surrogate="fast_sigmoid"):
    """A small network of a kind."""
    if kind == "own":
        torch.manual_seed(0)
        options = {"init_hidden": True, "spike_grad": make_surrogate(surrogate), "beta": 0.9}
        layers = (nn.Flatten(), nn.Linear(64, 12), snn.Leaky(**options), nn.Linear(12, 10))
        return OwnNet(nn.Sequential(*layers, snn.Leaky(**options)), CODING)
    config = bnm.ModelConfig(
        hidden=(12,), coding=CODING, surrogate=surrogate, input_shape=(1, 8, 8)
    )
    net = bnm.build_model("mlp", config, seed=0)
    return net if kind == "biril" else quantized(net, "4")


def scores(net, core=None):
    x = (net if core is None else core).encode(SAMPLES.numpy())
    return net(x).scores


def step(net, by=0.02):
    """Another network of the same kind."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(by)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_computes_the_same_and_learns_alone(kind, way):
    net = made(kind)
    before = scores(net).detach()
    found = WAYS[way](net)
    torch.testing.assert_close(scores(found), before, rtol=0, atol=0)
    scores(found).square().sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in found.parameters())
    step(found)
    assert not torch.equal(scores(found), before)
    torch.testing.assert_close(scores(net), before, rtol=0, atol=0)
    if kind == "integers":
        assert assert_equal(found, net.encode(SAMPLES.numpy()).numpy()) > 50


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_averaged(kind, buffers):
    net = made(kind)
    scores(net)
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=buffers)
    for _ in range(2):
        averaged.update_parameters(net)
        step(net)
    for mean, now in zip(averaged.module.parameters(), net.parameters()):
        torch.testing.assert_close(mean, now - 0.03, rtol=1e-4, atol=1e-5)
    assert unwrapped(averaged) is averaged.module
    torch.testing.assert_close(scores(averaged, net), scores(averaged.module))
    if kind == "integers":
        assert assert_equal(averaged.module, net.encode(SAMPLES.numpy()).numpy()) > 50
    else:
        run = run_torch(averaged, CODING.encode(SAMPLES.numpy()))
        assert run.scores.shape == (4, 10)
    if kind == "biril":
        assert to_nir(averaged).nodes.keys() == to_nir(net).nodes.keys()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*sorted(SURROGATES), "atan:3", "fast_sigmoid:7"])
def test_surrogates_are_copied(name, way):
    surrogate = make_surrogate(name)
    found, x = WAYS[way](surrogate), torch.linspace(-2, 2, 9)
    torch.testing.assert_close(slope(found, x), slope(surrogate, x), rtol=0, atol=0)
    assert formula(found) == formula(surrogate)


@pytest.mark.parametrize("way", WAYS)
def test_a_registered_compartment_model_is_its_own_copy(way):
    for model in COMPARTMENTS.values():
        assert WAYS[way](model) is model
