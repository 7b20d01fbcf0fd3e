"""A network that learned by label projection, with BRP-SNN's neuron, on the chip: torch, simulator, Lava."""

from __future__ import annotations

import numpy as np
import pytest

from biril_nm.coding import Coding
from biril_nm.data import DataSet, Split, make_loaders
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.models import ModelConfig, build_model
from biril_nm.parity import check_parity
from biril_nm.training import TrainConfig, fit

BANDS, FRAMES, CLASSES = 4, 8, 2
CONFIG = ModelConfig(
    input_shape=(BANDS, FRAMES), n_classes=CLASSES, channels=(4,), kernel=5, hidden=(12,),
    neuron="lif", beta=0.2, threshold=0.5, surrogate="rectangle", batch_norm=False,
    coding=Coding("rate", 10),
)  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """Rising and falling tones; a 1-D convolution, trained by label projection."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 160)
    rising = np.arange(BANDS)[:, None] == np.arange(FRAMES) * BANDS // FRAMES
    raw = np.stack([rising[::-1] if label else rising for label in labels]) * 200
    raw = (raw + random.integers(0, 40, raw.shape)).astype(np.uint8)
    parts = (Split(raw[part], labels[part], 255) for part in (slice(0, 120), slice(120, 160)))
    data = DataSet("tones", *parts, n_classes=CLASSES)
    net = build_model("convnet", CONFIG, seed=0)
    settings = TrainConfig("brp", 4, 1e-2, loss="mse", device="cpu")
    history = fit(net, make_loaders(data, 16), settings)
    return net, data, history


def test_it_learned_and_runs_on_the_chip(trained):
    net, data, history = trained
    assert history.test_accuracy >= 0.9
    spikes = net.coding.encode(data.test.values(), 1)
    graph = lower(to_nir(net), calibration=net.coding.encode(data.train.values(), 0))
    hidden = graph.neurons["lif2"]
    assert int(np.max(hidden.dv)) == 3277 and hidden.spike_threshold > 0  # 4096 (1 - 0.2), rounded
    assert check_parity(graph, spikes, ("sim", "torch"), net=net).ok


@pytest.mark.lava
def test_every_integer_equals_lava(trained):
    net, data, _ = trained
    graph = lower(to_nir(net), calibration=net.coding.encode(data.train.values(), 0))
    spikes = net.coding.encode(data.test.values(slice(2)), 1)
    assert check_parity(graph, spikes, ("sim", "lava")).ok
    other = simulate(graph.with_node("lif1", dv=3278), spikes, record=("v",))["lif1"].v
    assert np.any(other != simulate(graph, spikes, record=("v",))["lif1"].v)
