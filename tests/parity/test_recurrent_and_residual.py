"""Recurrent and residual networks end to end: torch -> NIR -> integers -> sim and Lava.

Integers agree exactly between hardware_sim and Lava (lava-nc 0.10.0, fixed_pt), over several samples in
one run. With weights on the 8-bit grid and no leak, torch agrees in every spike too.
"""

from __future__ import annotations

import numpy as np
import pytest
import snntorch as snn
import torch
from numpy.testing import assert_array_equal
from snntorch import surrogate
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.parity import check_parity

pytestmark = pytest.mark.lava
ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
DT = 1e-3


def on_grid(net: nn.Module, seed: int, low: int = -50) -> nn.Module:
    random = np.random.default_rng(seed)
    for layer in net.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            w = 2 * random.integers(low, 60, layer.weight.shape)
            w.flat[0], w.flat[1] = 254, -254
            layer.weight.data = torch.from_numpy(w / 64.0).float()
            if layer.bias is not None:
                b = random.integers(-20, 40, layer.bias.shape) / 64.0
                layer.bias.data = torch.from_numpy(b).float()
    return net


def all_to_all(beta: float = 1.0) -> nn.Module:
    return nn.Sequential(
        nn.Linear(10, 12),
        snn.RLeaky(beta, linear_features=12, threshold=6.0, **ZERO),
        nn.Linear(12, 4),
        snn.Leaky(beta, threshold=4.0, **ZERO),
    )


def convolutional(beta: float = 1.0) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 3, 3),
        snn.RLeaky(beta, conv2d_channels=3, kernel_size=3, threshold=8.0, **ZERO),
        nn.Flatten(),
        nn.Linear(3 * 4 * 3, 4),
        snn.Leaky(beta, threshold=4.0, **ZERO),
    )


def one_to_one(beta: float = 1.0) -> nn.Module:
    v = 2 * torch.arange(-6, 6) * 20 / 64.0
    v[0], v[1] = 254 / 64.0, -254 / 64.0
    neuron = snn.RLeaky(beta, V=v, all_to_all=False, threshold=6.0, **ZERO)
    return nn.Sequential(nn.Linear(10, 12), neuron)


SHAPES = {all_to_all: (10,), convolutional: (2, 6, 5), one_to_one: (10,)}


def spikes(shape: tuple[int, ...], n_steps: int = 20, batch: int = 4) -> np.ndarray:
    return (np.random.default_rng(5).random((n_steps, batch, *shape)) < 0.3).astype(np.int32)


@pytest.mark.parametrize("make", SHAPES)
def test_recurrent_nets_on_the_grid_agree_in_torch_sim_and_lava(make) -> None:
    net, shape = on_grid(make(), 1), SHAPES[make]
    x = spikes(shape)
    graph = lower(to_nir(net, torch.zeros(1, *shape), DT), calibration=x)
    assert graph.timing.max_slack == 1
    assert all(f["max_error"] < 1e-6 for f in graph.metadata["quantisation"].values())
    report = check_parity(graph, x, against=("sim", "lava"))
    report.raise_on_mismatch()
    assert not report.silent
    ours, theirs = simulate(graph, x, record=("s",)), run_torch(net, x)
    for name in graph.neurons:
        assert 0.02 < ours[name].s.mean() < 0.9, name
        assert_array_equal(ours[name].s, theirs[name].s, err_msg=name)


@pytest.mark.parametrize("make", SHAPES)
def test_a_loop_that_is_cut_is_seen(make) -> None:
    net, shape = on_grid(make(), 1), SHAPES[make]
    x = spikes(shape)
    graph = lower(to_nir(net, torch.zeros(1, *shape), DT))
    theirs = run_torch(net, x)
    cut = graph.with_node("1.recurrent", weight=graph.connections["1.recurrent"].weight * 0)
    assert np.any(simulate(cut, x, record=("s",))["1"].s != theirs["1"].s)


def test_leaky_and_synaptic_recurrent_nets_in_lava_and_near_torch() -> None:
    torch.manual_seed(0)
    net = all_to_all(0.9)
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 12
    x = spikes((10,))
    graph = lower(to_nir(net, torch.zeros(1, 10), DT), calibration=x)
    check_parity(graph, x, against=("sim", "lava")).raise_on_mismatch()
    ours, theirs = simulate(graph, x, record=("s",)), run_torch(net, x)
    assert (ours["1"].s == theirs["1"].s).mean() > 0.97
    rsyn = snn.RSynaptic(0.6, 0.8, linear_features=12, init_hidden=True, reset_mechanism="zero")
    net = nn.Sequential(nn.Linear(10, 12), rsyn)
    graph = lower(to_nir(net, torch.zeros(1, 10), DT), reset="force-zero")
    report = check_parity(graph, x, against=("sim", "lava")).raise_on_mismatch()
    assert "1.always_on" in graph.neurons and not report.silent


class LinearEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif = nn.Linear(10, 12), snn.Leaky(1.0, threshold=5.0, **ZERO)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc2(self.lif(self.fc1(x)))


def test_a_linear_end_sums_on_chip_what_torch_sums() -> None:
    net, x = on_grid(LinearEnd(), 2), spikes((10,))
    graph = lower(to_nir(net, torch.zeros(1, 10), DT), readout="accumulate", calibration=x)
    report = check_parity(graph, x, against=("torch", "sim", "lava"), net=net).raise_on_mismatch()
    assert report.floats is not None
    assert report.floats.same_predictions == x.shape[1]
    unit = 64 * graph.metadata["neurons"]["fc2.sum"]["scale"]
    trace = simulate(graph, x, record=("v",))
    np.testing.assert_allclose(trace.v_last["fc2.sum"] / unit, run_torch(net, x).scores, atol=1e-5)


SLOPE = 2  # of the surrogate gradient; steeper ones vanish over the blocks


class Block(nn.Module):
    """conv, spike, conv, plus identity or projection, spike."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        grad = surrogate.fast_sigmoid(SLOPE)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1, self.lif1 = nn.BatchNorm2d(c_out), snn.Leaky(0.9, spike_grad=grad, **ZERO)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2, self.lif2 = nn.BatchNorm2d(c_out), snn.Leaky(0.9, spike_grad=grad, **ZERO)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or c_in != c_out:
            self.skip = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)

    def forward(self, x):
        y = self.lif1(self.bn1(self.conv1(x)))
        return self.lif2(self.bn2(self.conv2(y)) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        grad = surrogate.fast_sigmoid(SLOPE)
        self.stem, self.lif0 = (
            nn.Conv2d(1, 6, 3, padding=1),
            snn.Leaky(0.9, spike_grad=grad, **ZERO),
        )
        self.block1, self.block2, self.block3 = Block(6, 6), Block(6, 10, stride=2), Block(10, 10)
        self.pool, self.flat = nn.AvgPool2d(2), nn.Flatten()
        self.fc, self.out = nn.Linear(10 * 2 * 2, 10), snn.Leaky(0.9, spike_grad=grad, **ZERO)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.lif0(self.stem(x)))))
        return self.out(self.fc(self.flat(self.pool(x))))


def test_a_resnet_on_the_grid_keeps_every_spike_in_torch_sim_and_lava() -> None:
    net = on_grid(ResNet(), 3, low=-40)
    for block in (net.block1, net.block2, net.block3):
        block.bn1, block.bn2 = nn.Identity(), nn.Identity()
    for layer in net.modules():
        if isinstance(layer, snn.Leaky):
            layer.beta, layer.threshold = torch.tensor(1.0), torch.tensor(4.0)
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.weight.data.flatten()[2] = 254 / 64.0
    net.fc.weight.data *= 4  # undoes the divisor of the pooling behind block3
    x = spikes((1, 8, 8), 10, 3)
    graph = lower(to_nir(net, torch.zeros(1, 1, 8, 8), DT), calibration=x)
    errors = {n: f["max_error"] for n, f in graph.metadata["quantisation"].items()}
    assert max(errors.values()) < 1e-6, errors
    check_parity(graph, x, against=("sim", "lava")).raise_on_mismatch()
    ours, theirs = simulate(graph, x, record=("s",)), run_torch(net, x)
    assert set(graph.neurons) == set(theirs)
    for name in graph.neurons:
        assert 0 < ours[name].s.mean() < 1, name
        assert_array_equal(ours[name].s, theirs[name].s, err_msg=name)


def rate_code(images: np.ndarray, n_steps: int) -> torch.Tensor:
    p = torch.from_numpy(images).float()[:, None] / 16.0
    noise = torch.rand(n_steps, *p.shape, generator=torch.Generator().manual_seed(0))
    return (noise < p).float()


def trained_resnet(n_steps: int = 6, n_batches: int = 90) -> tuple[nn.Module, torch.Tensor]:
    from sklearn.datasets import load_digits
    from snntorch import utils

    torch.manual_seed(0)
    digits = load_digits()
    net = ResNet()
    net.stem.weight.data *= 3  # loud enough to spike from the first batch on
    net.fc.weight.data *= 4
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    order = np.random.default_rng(0).permutation(1500)
    for step in range(n_batches):
        rows = order[(step * 50) % 1500 : (step * 50) % 1500 + 50]
        x, y = rate_code(digits.images[rows], n_steps), torch.from_numpy(digits.target[rows])
        utils.reset(net)
        count = sum(net(value) for value in x)
        loss = nn.functional.cross_entropy(count, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    utils.reset(net.eval())
    x = rate_code(digits.images[1500:1560], n_steps)
    with torch.no_grad():
        right = sum(net(value) for value in x).argmax(1).numpy() == digits.target[1500:1560]
    assert right.mean() > 0.5, right.mean()  # it has learned something; chance is 0.1
    utils.reset(net)
    return net, x


@pytest.mark.slow
def test_a_trained_resnet_is_the_same_in_sim_and_lava_and_near_torch() -> None:
    net, x = trained_resnet()
    spikes_in = x.numpy().astype(np.int32)
    graph = lower(to_nir(net, x[0], DT), calibration=spikes_in)
    assert graph.connections["lif0_to_block1.lif2"].delay == 1  # identity: one step shorter
    assert graph.connections["block2.skip"].delay == 1
    assert graph.timing.max_slack == 0
    check_parity(graph, spikes_in[:, :3], against=("sim", "lava")).raise_on_mismatch()
    trace, run = simulate(graph, spikes_in, record=("s",)), run_torch(net, spikes_in)
    for name in graph.neurons:
        ours, theirs = trace[name].s, run[name].s
        assert ours.sum() > 0, name
        assert (ours == theirs).mean() > 0.8, (name, (ours == theirs).mean())
        assert abs(ours.mean() - theirs.mean()) < 0.02, name
        shifted = (ours[1:] == theirs[:-1]).mean()
        assert (ours[1:] == theirs[1:]).mean() > shifted, name  # at the same node time
