"""BrainCog's networks on the chip: learned taus in registers, gains in weights; Lava is lava-nc 0.10.0."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from biril_nm.coding import Coding
from biril_nm.export import lower, to_nir
from biril_nm.export.lowering import lower_stages
from biril_nm.models import BirilNet, ModelConfig, build_model
from biril_nm.models.braincog import PreResNet
from biril_nm.neurons import make_neuron
from biril_nm.parity import check_parity
from biril_nm.training import TrainConfig, fit
from biril_nm.training.integers import QuantizedNet

N_STEPS = 6
CONFIG = ModelConfig(
    input_shape=(2, 8, 8), n_classes=3, neuron="plif", beta=0.5, threshold=0.5, surrogate="qgate",
    channels=(8, 8), depths=(2, 1), coding=Coding("spikes", N_STEPS, 1),
)  # fmt: skip


def frames(n: int, seed: int = 0):
    """Noisy stripes, lying, upright or crossed, ``(n_steps, n, 2, 8, 8)``, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    row, column = np.indices((8, 8)) // 2 % 2
    shown = np.stack([row, column, row ^ column])[labels][None, :, None]
    share = np.broadcast_to(0.05 + 0.5 * shown, (N_STEPS, n, 2, 8, 8))
    return (random.random(share.shape) < share).astype(np.float32), labels


@pytest.fixture(scope="module")
def trained() -> BirilNet:
    net = build_model("braincog_convnet", CONFIG)
    values, labels = frames(96)
    batches = [(values[:, i : i + 16], labels[i : i + 16]) for i in range(0, 96, 16)]
    config = TrainConfig(
        schedule="B", epochs=5, lr=0.02, optimizer="adamw", weight_decay=1e-4, loss="ce_smooth"
    )
    history = fit(net, (batches, None), config)
    assert history.records[-1]["train_accuracy"] > 0.8
    return net


def test_learned_taus_are_decay_registers(trained):
    graph = lower(to_nir(trained))
    taus = [float(1 / layer.gain.detach()) for layer in list(trained.neurons.values())[:-1]]
    assert len(set(taus)) == 3 and all(abs(tau - 2) > 1e-2 for tau in taus), "they have learned"
    registers = [int(np.unique(graph.neurons[f"plif{i}"].dv)[0]) for i in (1, 2, 3)]
    assert registers == [round(4096 / tau) for tau in taus]
    assert int(np.unique(graph.neurons["if_out"].dv)[0]) == 0


def test_the_gain_is_in_the_weights():
    """The same integers as of a Leaky without gain behind weights times gain."""
    torch.manual_seed(1)
    plain = nn.Sequential(nn.Linear(5, 4), make_neuron("lif", 0.5, 0.5))
    gained = nn.Sequential(copy.deepcopy(plain[0]), make_neuron("plif", 0.5, 0.5))
    with torch.no_grad():
        for parameter in plain[0].parameters():
            parameter.mul_(0.5)
    ours, theirs = (lower(to_nir(net, torch.zeros(1, 5), dt_s=1e-3)) for net in (gained, plain))
    np.testing.assert_array_equal(ours.nodes["0"].weight, theirs.nodes["0"].weight)
    assert np.abs(ours.nodes["0"].weight).max() > 60
    for name, values in ours.neurons["1"].registers.items():
        np.testing.assert_array_equal(values, theirs.neurons["1"].registers[name])


@pytest.mark.lava
def test_torch_sim_and_lava_agree_in_every_integer(trained):
    integers = QuantizedNet(lower_stages(to_nir(trained)))
    graph, spikes = integers.graph(), CONFIG.coding.encode(frames(3, seed=1)[0])
    report = check_parity(graph, spikes, against=("torch", "sim", "lava"), net=integers)
    report.raise_on_mismatch()
    assert report.integer_engines == ("torch", "sim", "lava")
    assert min(report.n_spikes.values()) > 0, report.summary()
    for name in ("plif2", "if_out"):
        changed = graph.with_node(name, dv=graph.neurons[name].dv + 1)
        report = check_parity(changed, spikes, against=("torch", "sim"), net=integers)
        assert not report.ok and name in report.summary()


def test_the_float_network_decides_as_the_integers(trained):
    values, labels = frames(48, seed=2)
    spikes = CONFIG.coding.encode(values)
    report = check_parity(
        lower(to_nir(trained), calibration=spikes), spikes, ("torch", "sim"), net=trained
    )
    assert report.ok and report.floats.same_predictions >= 46, report.summary()
    assert float((trained(trained.encode(values)).predictions.numpy() == labels).mean()) > 0.8


@pytest.mark.lava
def test_sums_around_blocks_become_repeated_connections():
    """No population holds the sums of pre-activation blocks: each reader has convolutions of its own."""
    torch.manual_seed(0)
    net = BirilNet("pre", CONFIG, PreResNet(CONFIG))
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.fill_(0.4)
        net.layers.fc_out.weight.mul_(4)
    net.eval()
    integers = QuantizedNet(lower_stages(to_nir(net)))
    graph = integers.graph()
    readers = [name for name in graph.connections if name.startswith("stage1_1.conv2+")]
    assert len(readers) == 3, "the next block, and both ways of the first block of stage 2"
    spikes = CONFIG.coding.encode(frames(3)[0])
    report = check_parity(graph, spikes, against=("torch", "sim", "lava"), net=integers)
    report.raise_on_mismatch()
    assert min(report.n_spikes.values()) > 0, report.summary()
    found = check_parity(lower(to_nir(net)), spikes, ("torch", "sim"), net=net)
    assert found.ok and found.floats.same_predictions == 3
