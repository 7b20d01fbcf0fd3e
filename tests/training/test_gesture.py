"""The gesture protocol: event-driven GRU, convolutions before online layers, frames of moving bars."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from biril_nm.data import DataSet, Split, make_loaders
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.training import TrainConfig, evaluate, fit
from biril_nm.training.online.gesture import GestureConfig, egru_layer, gesture_net
from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import EGRU, LEAKY_READOUT, LIF, LINEAR_READOUT
from biril_nm.training.online.rules import OnlineRule
from biril_nm.training.online.to_nir import online_to_nir
from tests.support.online_gradients import cosine, error, exact, online

SMALL = GestureConfig((4, 6), (3, 3), 1, (0,), features=16, dropout=0.0, hidden=24, decay=0.5)
SHAPE, STEPS = (2, 8, 8), 7


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_one_unit_follows_its_equations():
    r = np.random.default_rng(0)
    p = {"theta": 0.25, "b_g": 0.3, "b_r": -0.2, "b_z": 0.1}
    values = {name: torch.tensor([value], dtype=torch.float64) for name, value in p.items()}
    c, sent, state = 0.0, [], (torch.zeros(1, dtype=torch.float64),)
    for _ in range(40):
        i = r.normal(0, 1.5, 4)
        gate, reset = sigmoid(i[0] + p["b_g"]), sigmoid(i[1] + p["b_r"])
        before = c if c > p["theta"] else 0.0
        c = gate * math.tanh(i[2] + reset * i[3] + p["b_z"]) + (1 - gate) * c - before
        state = EGRU.step(state, tuple(torch.tensor([x]) for x in i), values)
        assert float(state[0]) == pytest.approx(c, abs=1e-12)
        sent.append(float(EGRU.send(state, values)))
        assert sent[-1] == pytest.approx(c if c > p["theta"] else 0.0, abs=1e-12)
    assert 5 < np.count_nonzero(sent) < 35


def hidden_egru(loop: bool):
    torch.manual_seed(0)
    layer = egru_layer(12, 10, torch.float64)
    with torch.no_grad():
        for name, projection in layer.links():
            if name.startswith("V") and not loop:
                projection.weight.zero_()
    return OnlineNet([layer, layer_of(LINEAR_READOUT, 10, 4, dtype=torch.float64)])


@pytest.fixture(scope="module")
def frames():
    random = torch.Generator().manual_seed(1)
    x = torch.rand(30, 6, 2, 4, 3, generator=random).double()
    return x, torch.randint(0, 4, (6,), generator=random)


def test_online_gradients_of_the_unit(frames):
    batch = (frames[0][:, :, 0].flatten(2), frames[1])
    net = hidden_egru(False)
    found, wanted = online(net, batch, OnlineRule()), exact(net, batch)
    reset = {name for name in wanted if name.endswith(("W1.weight", "V1.weight", "b_r"))}
    # There is nothing to reset.
    assert len(reset) == 3 and not any(bool(found[name].any()) for name in reset)
    kept = wanted.keys() - reset
    assert error({k: found[k] for k in kept}, {k: wanted[k] for k in kept}) < 1e-10
    net = hidden_egru(True)  # the way through the loop is left out
    found, wanted = online(net, batch, OnlineRule()), exact(net, batch)
    es = online(net, batch, OnlineRule("es-d-rtrl", decay=0.5))
    assert 1e-3 < error(found, wanted) < 0.1
    for name in wanted:
        assert cosine(es, wanted, name) > 0.95
    with pytest.raises(ConfigError, match="egru neurons send depends on theta.*Leave kappa out"):
        online(net, batch, OnlineRule(kappa=True))


def with_features(al):
    torch.manual_seed(2)
    features = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Flatten()).double()
    lif = layer_of(LIF, 36, 9, dtype=torch.float64, constants={"al": al})
    with torch.no_grad():
        lif.links()[0][1].weight.mul_(12)
    return OnlineNet([lif, layer_of(LINEAR_READOUT, 9, 4, dtype=torch.float64)], features=features)


def test_features_get_the_gradient_of_their_own_step(frames):
    memoryless, leaky = with_features(0.0), with_features(0.6)
    assert error(online(memoryless, frames, OnlineRule()), exact(memoryless, frames)) < 1e-10
    found, wanted = online(leaky, frames, OnlineRule()), exact(leaky, frames)
    rest = {name: g for name, g in found.items() if not name.startswith("features")}
    assert error(rest, {name: wanted[name] for name in rest}) < 1e-10  # layers keep their traces
    own = cosine(found, wanted, "features.0.weight")
    assert 0.5 < own < 1 - 1e-3  # what the features did before is left out
    assert error(online(leaky, frames, OnlineRule(), block=1), found) < 1e-10


def test_frozen_features_leave_the_layers_as_they_learn(frames):
    net = with_features(0.6)
    wanted = online(net, frames, OnlineRule())
    net.features.requires_grad_(False)
    found = online(net, frames, OnlineRule())
    assert found.keys() == {name for name in wanted if not name.startswith("features")}
    assert error(found, {name: wanted[name] for name in found}) < 1e-12


def test_features_may_keep_channels_last(frames):
    net = with_features(0.6)
    net.features = net.features[:2]  # no Flatten, which copies
    wanted = net(frames[0]).scores
    assert wanted.abs().max() > 0
    found = net.to(memory_format=torch.channels_last)
    inputs = net.features(frames[0][0])
    assert not inputs.is_contiguous()
    torch.testing.assert_close(found(frames[0]).scores, wanted)


def bars():
    """A bar that crosses noisy frames, to the right or to the left."""
    r = np.random.default_rng(0)
    labels = r.integers(0, 2, 200)
    stored = (r.random((200, STEPS, *SHAPE)) < 0.1).astype(np.uint8)
    for sample, label in enumerate(labels):
        for t in range(STEPS):
            stored[sample, t, t % 2, :, t if label else 7 - t] += 3
    rows = (slice(0, 140), slice(140, 200))
    parts = (Split(stored[part], labels[part], top=255, steps=True) for part in rows)
    return DataSet("bars", *parts, n_classes=2)


@pytest.mark.parametrize("schedule", ["B", "d-rtrl", "es-d-rtrl"])
def test_small_networks_learn_where_bars_move(schedule):
    loaders = make_loaders(bars(), 20, 0)
    net = gesture_net(SHAPE, 2, SMALL)
    before = [p.detach().clone() for p in net.parameters()]
    fit(net, (loaders.train, None), TrainConfig(schedule, 8, 1e-2, device="cpu"))
    assert all(bool((a != b).any()) for a, b in zip(before, net.parameters()))
    assert evaluate(net, loaders.test, device="cpu").accuracy >= 0.9


def test_the_published_size():
    net = gesture_net((2, 128, 128), 11)
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    convolutions = sum(
        n * (k * k * m + 1)
        for n, m, k in ((64, 1, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    )
    assert sizes["features"] == convolutions + 512 * (256 * 9 + 1)
    assert sizes["layers"] == 3 * 1024 * (512 + 1024) + 4 * 1024 + 11 * 1024
    assert net.decay == 0.2 and net.features[-3].p == 0.5


def test_what_does_not_fit_is_refused():
    layers = list(gesture_net(SHAPE, 4, SMALL).stack)
    with pytest.raises(ConfigError, match="features hold 0.running_mean.*without BatchNorm"):
        OnlineNet(layers, features=nn.Sequential(nn.BatchNorm2d(2)))
    with pytest.raises(ConfigError, match="decay is 1.0; expected a number between 0 and 1"):
        OnlineNet(layers, decay=1.0)
    with pytest.raises(
        ConfigError, match="frames of 8 x 8 pixels do not pass .*expected larger ones"
    ):
        gesture_net(SHAPE, 4)
    with pytest.raises(
        ConfigError, match=r"input_shape is \(64,\).*expected \(channels, height, width\)"
    ):
        gesture_net((64,), 4)
    with pytest.raises(ConfigError, match="input_shape is .*from 1"):
        gesture_net((2, -8, 8), 4)
    torch.manual_seed(0)
    net = OnlineNet(
        [layer_of(LIF, 8, 4), layer_of(LEAKY_READOUT, 4, 2)], first_step=-1, features=nn.Flatten()
    )
    with pytest.raises(UnsupportedNodeError, match="has features before its layers.*on the host"):
        online_to_nir(net)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stride": 0}, "stride is 0; expected an integer from 1"),
        ({"channels": (4, -6)}, r"channels is \(4, -6\); expected .* from 1"),
        ({"kernels": (3, 0)}, r"kernels is \(3, 0\); expected .* from 1"),
        ({"kernels": (3,)}, r"kernels \(3,\); expected as many kernels as channels"),
        ({"pooled": (7,)}, r"pooled is \(7,\); expected indices of convolutions, from 0 to 1"),
        ({"pooled": (-1,)}, r"pooled is \(-1,\); expected indices"),
        ({"dropout": 2.0}, "dropout is 2.0; expected a share from 0 to below 1"),
        ({"dropout": 1.0}, "dropout is 1.0; expected a share from 0 to below 1"),
        ({"decay": 1.5}, "decay is 1.5; expected a number between 0 and 1"),
    ],
)
def test_sizes_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **settings)


def test_frames_hold_counts_of_a_byte():
    coding = gesture_net(SHAPE, 2, SMALL).coding
    frame = np.full((1, 1, *SHAPE), 255, np.uint8)
    assert coding.encode(frame).max() == coding.to_float(frame).max() == 255
    with pytest.raises(
        ConfigError, match="values are 256 to 256; expected 0 to 255 for counts coding"
    ):
        coding.encode(frame.astype(int) + 1)
