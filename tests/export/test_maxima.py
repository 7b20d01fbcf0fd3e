"""Pooling by maximum: of spikes it is an OR, exact in every window; of currents it is refused or moved."""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from numpy.testing import assert_array_equal
from torch import nn

from biril_nm.coding import Coding
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.lava.backend import run_lava
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}


class Pooled(nn.Module):
    """Neurons on the input, a maximum of their spikes, neurons that repeat it."""

    def __init__(self, pool) -> None:
        super().__init__()
        self.first, self.pool, self.last = snn.Leaky(0.5, **ZERO), pool, snn.Leaky(0.0, **ZERO)

    def forward(self, x):
        return self.last(2 * self.pool(self.first(1.5 * x)))


def windows_of(pool, shape, n_steps=6, p=0.25):
    """(what the chip's neurons send behind the maximum, what torch's maximum gives for their spikes)."""
    graph = lower(to_nir(Pooled(pool), torch.zeros(2, *shape)), dt_s=1e-4)
    x = (np.random.default_rng(3).random((n_steps, 2, *shape)) < p).astype(int)
    trace = simulate(graph, x, record=("s",))
    spikes = torch.from_numpy(trace["first"].s.astype(np.float32))
    want = np.stack([pool(step).numpy() for step in spikes])
    assert 0.05 < want.mean() < 1.0
    assert graph.latency["last"] >= 3
    return trace["last"].s, want, graph


POOLS = {
    "2d": (nn.MaxPool2d(2), (2, 4, 6)),
    "kernel, stride and padding apart": (nn.MaxPool2d((3, 2), (1, 2), (1, 0)), (2, 5, 6)),
    "overlapping": (nn.MaxPool2d(3, stride=2, padding=1), (1, 7, 7)),
    "over the edge": (nn.MaxPool2d(2, ceil_mode=True), (2, 5, 5)),
    "dilated": (nn.MaxPool2d(2, stride=1, dilation=2), (1, 5, 5)),
    "1d": (nn.MaxPool1d(2), (3, 7)),
    "1d with padding": (nn.MaxPool1d(3, 2, 1), (2, 8)),
    "3d": (nn.MaxPool3d(2), (1, 2, 4, 4)),
    "adaptive": (nn.AdaptiveMaxPool2d((2, 3)), (2, 4, 6)),
    "adaptive, windows of different sizes": (nn.AdaptiveMaxPool1d(3), (2, 7)),
    "of features": (nn.MaxPool1d(4), (8,)),
    "function": (lambda y: F.max_pool2d(y, 2, padding=1), (1, 4, 4)),
    "adaptive function": (lambda y: F.adaptive_max_pool1d(y, 2), (2, 6)),
    "amax": (lambda y: torch.amax(y, dim=(2, 3)), (3, 2, 2)),
    "max along a dimension": (lambda y: y.max(dim=2).values, (3, 4)),
    "maximum": (lambda y: torch.maximum(y, y.flip(1)), (6,)),
    "behind a permutation": (lambda y: F.max_pool1d(y.transpose(1, 2), 2), (4, 3)),
    "of a maximum": (lambda y: F.max_pool1d(F.max_pool1d(y, 2), 2), (2, 8)),
    "of parts put together": (lambda y: torch.cat([y[:, 2:], y[:, :2]], 1).amax(1, True), (4, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", POOLS)
def test_the_largest_of_spikes_is_exact(name):
    got, want, _ = windows_of(*POOLS[name])
    assert_array_equal(got, want)


def test_plain_pooling_stays_a_convolution_of_ones():
    _, _, graph = windows_of(nn.MaxPool2d(2, padding=1), (2, 4, 4))
    link = graph.connections["pool.windows"]
    assert isinstance(link, Conv) and link.groups == 2
    assert len(np.unique(link.weight)) == 1


def net(*behind):
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *behind)
    layers[0].weight.data *= 4
    return layers


def test_parallel_paths_wait_for_the_pool():
    """A path around the pool gets a delay, so that sums meet as in torch."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.lif = nn.Conv2d(1, 2, 3, padding=1), snn.Leaky(0.5, **ZERO)
            self.pool, self.last = nn.MaxPool2d(2), snn.Leaky(0.0, threshold=1.3, **ZERO)

        def forward(self, x):
            spikes = self.lif(self.conv(x))
            return self.last(self.pool(spikes) + F.avg_pool2d(spikes, 2))

    torch.manual_seed(1)
    both = Both()
    both.conv.weight.data *= 4
    graph = lower(to_nir(both, torch.zeros(1, 1, 4, 4), dt_s=1e-3))
    assert graph.metadata["balanced_delays"]
    x = (np.random.default_rng(0).random((12, 2, 1, 4, 4)) < 0.4).astype(int)
    trace = simulate(graph, x, record=("s",))
    spikes = torch.from_numpy(trace["lif"].s.astype(np.float32))
    want = [(F.max_pool2d(s, 2) + F.avg_pool2d(s, 2)).numpy() > 1.3 for s in spikes]
    assert 0.05 < np.mean(want) < 0.9
    assert_array_equal(trace["last"].s, want)


@pytest.mark.lava
@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_simulator_and_lava_pool_alike(chip):
    layers = net(
        snn.Leaky(0.5, **ZERO),
        nn.MaxPool2d(3, 2, 1),
        nn.Flatten(),
        nn.Linear(12, 4),
        snn.Leaky(0.9, **ZERO),
    )
    graph = lower(to_nir(layers, torch.zeros(1, 1, 4, 4), dt_s=1e-3), chip=chip)
    x = (np.random.default_rng(0).random((10, 2, 1, 4, 4)) < 0.4).astype(int)
    ours, theirs = (run(graph, x, record=("s", "u", "v")) for run in (simulate, run_lava))
    assert ours["2"].s.sum() > 20
    for name in graph.neurons:
        for variable in ("s", "u", "v"):
            assert_array_equal(getattr(ours[name], variable), getattr(theirs[name], variable))
    weight = (
        int(graph.connections["2.windows"].weight.max())
        << graph.connections["2.windows"].weight_exp
    )
    other = simulate(graph.with_node("2", vth=weight), x)  # one spike is not enough any more
    assert other.n_spikes["2"] < ours.n_spikes["2"]


CURRENTS = [
    lambda y: F.max_pool1d(2 * y, 2),
    lambda y: F.max_pool1d(F.avg_pool1d(y, 2), 2),
    lambda y: F.max_pool1d(y + y.flip(1), 2),
    lambda y: torch.maximum(y, 0.5 * y),
    lambda y: (y - 0.5).amax(1, keepdim=True),
]


@pytest.mark.parametrize("pool", CURRENTS)
def test_the_largest_of_other_values_is_refused(pool):
    class Net(Pooled):
        def __init__(self) -> None:
            super().__init__(pool)
            self.last = snn.Leaky(0.5, **ZERO)

    with pytest.raises(
        UnsupportedNodeError, match="takes the largest of currents.*behind the neuron"
    ):
        to_nir(Net(), torch.zeros(1, 2, 8))


@pytest.mark.parametrize(
    "neuron",
    [
        snn.Leaky(0.5, **ZERO),
        snn.Leaky(0.0, init_hidden=True),
        snn.Leaky(0.0, init_hidden=True, reset_delay=False),
    ],
)
def test_in_front_of_neurons_with_memory_it_is_refused(neuron):
    """A reset by subtraction is memory too."""
    message = "'1' takes the largest of currents.*Move it behind the neuron, .* use average pooling"
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(net(nn.MaxPool2d(2), neuron), torch.zeros(1, 1, 4, 4))


def test_in_front_of_neurons_without_memory_it_changes_places_with_them():
    """max(x) > threshold where one x > threshold, also with a threshold for each channel."""
    neuron = snn.Leaky(0.0, threshold=torch.tensor([0.4, 0.8, 1.2]).reshape(3, 1, 1), **ZERO)
    layers = net(nn.MaxPool2d(2), neuron)
    graph = lower(to_nir(layers, torch.zeros(1, 1, 4, 4), dt_s=1e-3))
    assert set(graph.neurons) == {"2.all", "2"}
    x = (np.random.default_rng(0).random((20, 2, 1, 4, 4)) < 0.4).astype(int)
    with torch.no_grad():
        want = np.stack([layers(step).numpy() for step in torch.from_numpy(x).float()])
    got = simulate(graph, x, record=("s",))["2"].s
    assert 0.05 < want.mean() < 0.95
    assert (got == want).mean() > 0.98


def test_integers_at_the_input_have_no_largest_spike():
    net_of_input = nn.Sequential(
        nn.MaxPool1d(2), nn.Flatten(), nn.Linear(4, 3), snn.Leaky(0.5, **ZERO)
    )
    plain = to_nir(net_of_input, torch.zeros(1, 1, 8), dt_s=1e-3)
    assert lower(plain).neurons["0"].shape == (1, 4)
    graded = to_nir(net_of_input, torch.zeros(1, 1, 8), dt_s=1e-3, coding=Coding("counts", 5, 4))
    with pytest.raises(UnsupportedNodeError, match="'0' takes the largest of values of 'input'"):
        lower(graded)
