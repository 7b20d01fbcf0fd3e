"""BIRIL's residual network: its size, its wiring, and the settings that it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from biril_nm.errors import ConfigError
from biril_nm.models import ModelConfig, build_model, load, save
from biril_nm.training.phases import plastic_links

SMALL = ModelConfig(
    input_shape=(2, 8, 8), channels=(3, 3, 4), depths=(1, 1), hidden=(5,), n_classes=4
)


def test_the_full_network_has_the_parameters_of_the_published_one():
    """12,705,288 of the published object, less 90 more outputs of FC 256 and an unused layer 512 x 100."""
    net = build_model("biril", ModelConfig(input_shape=(3, 32, 32)))
    size = sum(p.numel() for p in net.parameters())
    assert size == 12_630_858 == 12_705_288 - 90 * 257 - 513 * 100
    shapes = {name: tuple(p.shape) for name, p in net.layers.named_parameters()}
    assert shapes["stem.conv.weight"] == (64, 3, 3, 3)
    assert shapes["stage3_1.around.conv.weight"] == (512, 256, 1, 1)
    assert len(net.neurons) == 1 + 2 * 8 + 2 and "stage1_3.out" in net.neurons
    small = build_model("biril_xs", ModelConfig(input_shape=(3, 32, 32)))
    assert sum(p.numel() for p in small.parameters()) == 82_202


def test_a_block_adds_what_goes_around_it():
    net = build_model("resnet", SMALL)
    net.eval()
    block = net.layers.stage1_1
    with torch.no_grad():
        block.second.conv.weight.zero_()
        block.second.bn.bias.zero_()
        x = (torch.rand(6, 3, 8, 8) < 0.5).float()
        total = sum(block(0.6 * x) for _ in range(2))
        net.reset()
        assert torch.equal(total, x), "0.6 twice is over the threshold of 1, once is not"
        net.layers.stage2_1.second.conv.weight.zero_()
        out = net.layers.stage2_1(x)
    assert out.shape == (6, 4, 4, 4)


def test_phases_leave_stem_projections_and_readout_alone():
    names = [link.name for link in plastic_links(build_model("resnet", SMALL), "conv")]
    assert names == [f"stage{i}_1.{part}.conv" for i in (1, 2) for part in ("first", "second")]


def test_it_is_saved_and_loaded(tmp_path):
    net = build_model("resnet", SMALL, seed=3)
    save(net, tmp_path / "model.pt")
    x = net.encode(np.random.default_rng(0).random((3, 2, 8, 8)).astype(np.float32))
    net.eval()
    again = load(tmp_path / "model.pt")
    again.eval()
    assert again.config == SMALL and torch.equal(net(x).membrane, again(x).membrane)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "resnet",
            {"depths": (1,)},
            r"depths is \(1,\) and channels \(3, 3, 4\); expected the channels",
        ),
        (
            "resnet",
            {"input_shape": (9,)},
            r"input_shape of 'resnet' is \(9,\); expected \(C, H, W\)",
        ),
        (
            "resnet",
            {"input_shape": (1, 1, 9)},
            "expected at least 2x2, which 2 stages halve down to 1. Use",
        ),
        (
            "biril",
            {},
            r"channels, depths, hidden of 'biril' are .*Leave them out, or use model 'resnet'",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(name, change, message):
    config = ModelConfig.from_dict(SMALL.to_dict() | change)
    with pytest.raises(ConfigError, match=message):
        build_model(name, config)


@pytest.mark.parametrize("decay", [{"neuron": "if"}, {"neuron": "lif", "beta": 0.5}])
def test_a_spike_may_subtract_the_threshold(decay):
    config = ModelConfig(input_shape=(4,), hidden=(), reset="subtract", **decay)
    net = build_model("mlp", config)
    with torch.no_grad():
        net.layers.fc1.weight.zero_()
        net.layers.fc1.bias.fill_(1.75)
    out = net(torch.zeros(1, 1, 4))
    assert out.spikes.min() == 1 and torch.equal(out.membrane, torch.full((1, 10), 0.75))
    with pytest.raises(
        ConfigError, match="reset 'none' is unknown; expected one of zero, subtract"
    ):
        ModelConfig(reset="none")
