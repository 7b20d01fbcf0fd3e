"""The local rule beside gradient batches, at one step, on large weights, and layers that it cannot change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from biril_nm.coding import Coding
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.models import build_model
from biril_nm.training import PHASES, Callback, PhaseState, TrainConfig, fit, plastic_links
from biril_nm.training.local_rule.gating import rate_gate
from biril_nm.training.local_rule.plasticity import PlasticityConfig
from tests.support.digits import SMALL

LABELS = torch.arange(20) % 10


def stdp_step(n_steps: int = 4, scale: float = 1.0, **state: Any) -> tuple[Tensor, Tensor, float]:
    """The plastic kernel before and after a batch of S, and the unit of its grid."""
    torch.manual_seed(0)
    net = build_model("convnet", replace(SMALL, coding=Coding("direct", n_steps)), seed=1)
    x = net.encode(torch.rand(20, *SMALL.input_shape).numpy())
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for _ in range(2):
        PHASES["B"].run(net, (x, LABELS), optimizer, PhaseState())
    (link,) = plastic_links(net)
    with torch.no_grad():
        link.weight.mul_(scale)
    before, settings = link.weight.detach().clone(), PhaseState(**state)
    PHASES["S"].run(net, (x, LABELS), optimizer, settings)
    return before, link.weight.detach(), settings.grids[link.name].unit


def test_between_gradient_batches_weights_keep_their_distance_from_the_grid() -> None:
    before, after, unit = stdp_step(by_batch=True, plasticity=PlasticityConfig(eta=0.1))
    steps = (after - before) / unit
    assert steps.abs().max() > 1
    torch.testing.assert_close(steps, 2 * (steps / 2).round(), rtol=0, atol=1e-3)


def test_a_rule_of_rate_0_changes_nothing_between_gradient_batches() -> None:
    before, after, _ = stdp_step(by_batch=True, plasticity=PlasticityConfig(eta=0.0))
    assert torch.equal(after, before)
    by_epoch = stdp_step(plasticity=PlasticityConfig(eta=0.0))[1]
    assert not torch.equal(by_epoch, before)  # on the grid


def test_one_step_is_enough_for_the_rule() -> None:
    assert rate_gate(torch.ones(1, 1, 2), 0.5).tolist() == [[1, 1]]
    assert rate_gate(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), 0.1).tolist() == [1, 0]
    before, after, unit = stdp_step(1, 8.0, by_batch=True, plasticity=PlasticityConfig(eta=0.1))
    assert (after - before).abs().max() > unit


def test_weights_above_w_clip_stay() -> None:
    before, after, unit = stdp_step(scale=20.0, plasticity=PlasticityConfig(eta=0.0))
    assert before.abs().max() > 2
    assert (after - before).abs().max() <= unit  # half a step of the grid


class _Seen(Callback):
    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def on_epoch_start(self, epoch: int, *more: Any) -> None:
        self.seen.append(epoch)


def own(hidden: nn.Module) -> nn.Module:
    def neuron() -> nn.Module:
        return snn.Leaky(beta=0.9, init_hidden=True)

    parts = [nn.Conv2d(1, 4, 3, padding=1), neuron(), hidden, neuron()]
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(4 * 64, 10), neuron())


def conv(**more: Any) -> nn.Conv2d:
    return nn.Conv2d(4, 4, 3, **{"padding": 1, **more})


@pytest.mark.parametrize(
    ("hidden", "text"),
    [
        (parametrizations.weight_norm(conv()), "computed from other parameters"),
        (conv(padding="same"), "Give the padding as numbers"),
        (conv(padding_mode="circular"), "padded with zeros"),
    ],
)
def test_layers_that_cannot_learn_are_refused_before_the_first_epoch(
    hidden: nn.Module, text: str
) -> None:
    net, seen = own(hidden), []
    loader = [(torch.rand(4, 1, 8, 8), torch.arange(4))]
    coding = Coding("direct", 3)
    with pytest.raises(UnsupportedNodeError, match=text):
        fit(net, (loader, None), TrainConfig(schedule="BS"), coding=coding, callbacks=[_Seen(seen)])
    assert seen == []


def test_frozen_weights_are_not_plastic() -> None:
    net = build_model("convnet", SMALL)
    net.layers.conv2.weight.requires_grad_(False)
    assert [link.name for link in plastic_links(net)] == ["fc1"]
    net.layers.fc1.weight.requires_grad_(False)
    with pytest.raises(ConfigError, match="not frozen"):
        plastic_links(net)
