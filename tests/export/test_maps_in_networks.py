"""Whole networks with a fixed map or a pool between their neurons: the spikes are those of torch.

The maps themselves are compared in test_fixed_maps.py and test_maxima.py; here is what users run. Weights
have 8 bits on the chip, so a few spikes move: nearly all cells (step, sample, neuron) are equal. Another
order of what the map brings makes another network.
"""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate

STEPS, BATCH, N_OUT = 24, 4, 12
PICTURE, ROW = (1, 6, 6), (1, 20)


def neuron():
    return snn.Leaky(beta=0.7, init_hidden=True, reset_mechanism="zero", reset_delay=False)


class Votes(nn.Module):
    """The mean of groups of four features, by shape."""

    def forward(self, x):
        return x.unflatten(1, (-1, 4)).mean(-1)


# name: (layers in front of the first neurons, layers behind them, features there, shape of the input)
NETWORKS = {
    "largest of windows": lambda: (nn.Conv2d(1, 5, 3), nn.MaxPool2d(2), 20, PICTURE),
    "largest, overlapping": lambda: (nn.Conv2d(1, 5, 3), nn.MaxPool2d(3, stride=1, padding=1), 80, PICTURE),
    "largest along a row": lambda: (nn.Conv1d(1, 5, 5), nn.MaxPool1d(4), 20, ROW),
    "transposed": lambda: (nn.Conv2d(1, 5, 3), nn.ConvTranspose2d(5, 2, 2, stride=2), 128, PICTURE),
    "nearest": lambda: (nn.Conv2d(1, 4, 4), nn.Upsample(scale_factor=2), 144, PICTURE),
    "bilinear": lambda: (nn.Conv2d(1, 4, 4), nn.Upsample(scale_factor=2, mode="bilinear"), 144, PICTURE),
    "shuffled pixels": lambda: (
        nn.Sequential(nn.Flatten(), nn.Linear(36, 32)),
        nn.Sequential(nn.Unflatten(1, (8, 2, 2)), nn.PixelShuffle(2), nn.ZeroPad2d(1)),
        72, PICTURE,
    ),
    "volume": lambda: (nn.Conv3d(1, 4, (1, 2, 2)), nn.AvgPool3d((2, 1, 1)), 36, (1, 2, 4, 4)),
    "votes by pooling": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(20, 48)), nn.AvgPool1d(4), 12, ROW),
    "votes by shape": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(20, 48)), Votes(), 12, ROW),
}  # fmt: skip


def network(name):
    torch.manual_seed(12)
    front, behind, features, shape = NETWORKS[name]()
    net = nn.Sequential(front, neuron(), behind, nn.Flatten(), nn.Linear(features, N_OUT), neuron())
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(getattr(layer, "weight", None), torch.Tensor):
                layer.weight *= 2
        net[4].weight.normal_(4 / features, 2 / features**0.5)
    return net, shape


def torch_spikes(net, x):
    utils.reset(net)
    with torch.no_grad():
        return np.stack([net(step).numpy() for step in torch.from_numpy(x).float()])


@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_are_those_of_torch(name):
    net, shape = network(name)
    x = (np.random.default_rng(11).random((STEPS, BATCH, *shape)) < 0.35).astype(np.int32)
    graph = lower(to_nir(net, torch.zeros(1, *shape), dt_s=1e-3), calibration=x)
    got = simulate(graph, x, record=("s",))[graph.outputs["output"]].s
    want = torch_spikes(net, x)
    assert 0.05 < want.mean() < 0.7
    assert (got == want).mean() > 0.95
    assert abs(got.mean() - want.mean()) < 0.01
    with torch.no_grad():
        net[4].weight[:] = net[4].weight.flip(1)
    assert (torch_spikes(net, x) == want).mean() < 0.93
