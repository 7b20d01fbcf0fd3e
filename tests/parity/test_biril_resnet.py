"""BIRIL's residual network on the chip: integers of torch, simulator and Lava (lava-nc 0.10.0) are equal."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from biril_nm.export import lower, to_nir
from biril_nm.export.lowering import lower_stages
from biril_nm.models import ModelConfig, build_model
from biril_nm.parity import check_parity
from biril_nm.training.integers import QuantizedNet

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.random((3, 2, 8, 8)).astype(np.float32)


@cache
def network(reset: str, name: str = "biril_xs"):
    """A network whose BatchNorm has seen data, with a threshold at which every layer spikes."""
    config = ModelConfig(input_shape=(2, 8, 8), n_classes=4, reset=reset, threshold=0.5)
    net = build_model(name, config)
    values = np.random.default_rng(1).random((24, 2, 8, 8)).astype(np.float32)
    with torch.no_grad():
        net.layers.fc_out.bias.fill_(0.3)
        net.train()
        for _ in range(30):
            net(net.encode(values))
    return net.eval()


@pytest.mark.lava
@pytest.mark.parametrize("reset", ["zero", pytest.param("subtract", marks=pytest.mark.slow)])
def test_torch_sim_and_lava_agree_in_every_integer(reset):
    net = network(reset)
    integers = QuantizedNet(lower_stages(to_nir(net)))
    spikes = net.config.coding.encode(IMAGES)
    report = check_parity(integers.graph(), spikes, against=("torch", "sim", "lava"), net=integers)
    report.raise_on_mismatch()
    assert report.integer_engines == ("torch", "sim", "lava")
    assert min(report.n_spikes.values()) > 0, report.summary()


def test_a_register_of_a_block_that_is_off_by_one_is_found():
    net = network("zero")
    integers = QuantizedNet(lower_stages(to_nir(net)))
    graph, name = integers.graph(), "stage2_1.out"
    changed = graph.with_node(name, bias_mant=graph.neurons[name].bias_mant + 1)
    spikes = net.config.coding.encode(IMAGES)
    report = check_parity(changed, spikes, against=("torch", "sim"), net=integers)
    assert not report.ok and "stage2_1.out" in report.summary()


def test_the_float_network_predicts_as_the_integers():
    net = network("zero")
    graph = lower(to_nir(net), calibration=net.config.coding.encode(IMAGES))
    values = RANDOM.random((40, 2, 8, 8)).astype(np.float32)
    report = check_parity(
        graph, net.config.coding.encode(values), against=("torch", "sim"), net=net
    )
    (agreement,) = report.agreements
    assert agreement.same_predictions > 0.8 * agreement.n_samples
