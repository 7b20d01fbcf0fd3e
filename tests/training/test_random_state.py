"""Layers that are random draw the same for the same seed, whatever ran before, and the program goes on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.coding import Coding
from biril_nm.data import Batches, make_loaders
from biril_nm.models import OwnNet
from biril_nm.training import Callback, TrainConfig, evaluate, fit
from biril_nm.training.joint_layers import joined
from tests.support.digits import DIGITS

CODING = Coding("direct", 4)
QUIET = {"device": "cpu", "tensorboard": False, "curves": False}
SETTINGS = TrainConfig(schedule="B", epochs=3, **QUIET)


class Noisy(nn.Module):
    """Adds random numbers in eval mode, too."""

    def forward(self, x):
        return x + 0.1 * torch.randn_like(x)


def network(random_layer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first, last = nn.Linear(64, 32), nn.Linear(32, 10)
    neurons = [snn.Leaky(beta=0.9, init_hidden=True) for _ in range(2)]
    return nn.Sequential(nn.Flatten(), first, random_layer, neurons[0], last, neurons[1])


def trained(random_layer, folder=None, callbacks=(), resume=False):
    net, data = network(random_layer), DIGITS.head(64, 20)
    fit(net, make_loaders(data, 32), SETTINGS, callbacks, folder, resume=resume, coding=CODING)
    return net


def equal(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))


LAYERS = [nn.Dropout(0.5), nn.AlphaDropout(0.5), Noisy()]


@pytest.mark.parametrize("layer", LAYERS, ids=["dropout", "alpha", "noise"])
def test_equal_seeds_train_equally(layer):
    one = trained(layer)
    torch.rand(7)
    assert equal(one, trained(layer))


@pytest.mark.parametrize("layer", LAYERS, ids=["dropout", "alpha", "noise"])
def test_a_resumed_run_equals_an_uninterrupted_one(layer, tmp_path):
    class Stop(Callback):
        def on_batch(self, index, n_batches, metrics):
            self.left = getattr(self, "left", 5) - 1
            if not self.left:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(layer, tmp_path, [Stop()])
    assert equal(trained(layer, tmp_path, resume=True), trained(layer))


def test_random_numbers_of_the_program_stay_what_they_were():
    net, test = network(Noisy()), Batches(DIGITS.head(32, 32).test, 32)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    fit(net, ([next(iter(test))], test), SETTINGS, coding=CODING)
    found = [evaluate(OwnNet(net, CODING), test).firing_rates for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before) and found[0] == found[1]


@pytest.mark.parametrize("of_samples", [True, False], ids=["rows of samples", "other rows"])
@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5)])
def test_processes_have_parts_of_one_mask(layer, of_samples):
    net, n_steps, batch = nn.Sequential(layer), 3, 5
    x = torch.rand(n_steps, batch, 4, 6, 6) + 1
    parts = []
    for rank, own in enumerate((3, 2)):
        world = SimpleNamespace(rank=rank, size=2, samples=(own, batch), copies=1)
        part = x[:, rank::2].flatten(0, 1) if of_samples else x.flatten(0, 1)[:7]
        with joined(net, world):
            torch.manual_seed(0)
            parts.append(net(part))
    assert "forward" not in vars(layer)
    if of_samples:
        torch.manual_seed(0)
        whole = net(x.flatten(0, 1)).view(x.shape)
        for rank, part in enumerate(parts):
            assert torch.equal(part, whole[:, rank::2].flatten(0, 1))
    else:
        assert parts[0].shape == parts[1].shape and not torch.equal(*parts)
