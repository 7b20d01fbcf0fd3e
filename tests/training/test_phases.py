"""Phases change what they declare and nothing else."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import make_loaders
from biril_nm.errors import (
    ConfigError,
)
from biril_nm.learning.rule import LearningRule, Term
from biril_nm.learning.rules import OFFSET, OJA, PAIR
from biril_nm.models import BirilNet, ModelConfig, build_model
from biril_nm.models.running import precision
from biril_nm.training import (
    PHASES,
    PhaseState,
    plastic_links,
)
from biril_nm.training.local_rule.plasticity import LocalLearner, PlasticityConfig
from biril_nm.training.local_rule.torch_engine import LayerSpikes
from biril_nm.training.losses import mean_squared
from biril_nm.training.phases import Batch
from tests.support.digits import DIGITS, SMALL

INERT = LearningRule(
    "inert", tuple(Term(t.sign, t.exp, t.factors, 0) for t in OFFSET.dw), traces=OFFSET.traces
)


def warm(
    name: str = "convnet", config: ModelConfig = SMALL
) -> tuple[BirilNet, torch.optim.Adam, Batch]:
    """A net after some B steps, so that Adam has moments and BatchNorm statistics."""
    net = build_model(name, config, seed=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    values, labels = next(make_loaders(DIGITS, 48).train.epoch(0))
    batch = (net.encode(values), torch.from_numpy(labels))
    for _ in range(4):
        PHASES["B"].run(net, batch, optimizer, PhaseState())
    return net, optimizer, batch


def snapshot(net: BirilNet, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, buffers and Adam moments by name."""
    found = {k: v.clone() for k, v in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"adam.{name}.{key}"] = value.clone()
    return found


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {key for key in before if not torch.equal(before[key], after[key])}


# --- phases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [OFFSET, PAIR, OJA], ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("name", "plastic", "kernels"),
    [
        ("convnet", "conv", {"layers.conv2.weight"}),
        ("convnet", "conv+fc", {"layers.conv2.weight", "layers.fc1.weight"}),
        ("mlp", "conv", {"layers.fc2.weight"}),
    ],
)
def test_s_changes_the_plastic_kernels_only(
    name: str, plastic: str, kernels: set[str], rule: LearningRule
) -> None:
    config = SMALL if name == "convnet" else ModelConfig(hidden=(30, 20))
    net, optimizer, batch = warm(name, config)
    before = snapshot(net, optimizer)
    state = PhaseState(plastic=plastic, plasticity=PlasticityConfig(rule=rule, eta=0.05))
    for _ in range(3):
        metrics = PHASES["S"].run(net, batch, optimizer, state)
    assert changed(before, snapshot(net, optimizer)) == kernels
    assert all(p.grad is None for p in net.parameters())
    assert {f"layers.{n}.weight" for n in PHASES["S"].updated_layers(net, plastic)} == kernels
    assert metrics["samples"] == 48
    for kernel in kernels:
        layer = kernel.split(".")[1]
        grid = state.grids[layer]
        integers = net.state_dict()[kernel] / grid.unit
        nearest = integers.round()
        torch.testing.assert_close(integers, nearest, rtol=0, atol=1e-4)  # float32 of n * unit
        np.testing.assert_array_equal(nearest.numpy() % grid.step, 0)
        assert nearest.abs().max() <= 256
        on_grid = grid.integers(before[kernel]) * grid.unit
        # More than putting it on the grid.
        assert not torch.equal(net.state_dict()[kernel], on_grid)


@pytest.mark.parametrize("phase", ["S", "H"])
def test_zero_coefficients_change_nothing(phase: str) -> None:
    net, optimizer, batch = warm()
    twin, twin_optimizer = _twin(net, optimizer)
    state = PhaseState(plasticity=PlasticityConfig(rule=INERT))
    PHASES[phase].run(net, batch, optimizer, state)
    if phase == "H":
        PHASES["B"].run(twin, batch, twin_optimizer, PhaseState())
    assert changed(snapshot(twin, twin_optimizer), snapshot(net, optimizer)) == set()


@pytest.mark.parametrize("rule", [OFFSET, PAIR, OJA], ids=lambda rule: rule.name)
def test_the_rule_computes_in_the_type_of_the_weights(rule: LearningRule) -> None:
    spikes = Coding("rate", n_steps=4, message_bits=0)
    net, optimizer, batch = warm(config=replace(SMALL, batch_norm=False, bias=False, coding=spikes))
    with torch.no_grad():  # sums that bfloat16 holds, so that the spikes are the same
        for parameter in net.parameters():
            parameter.copy_((parameter * 4).round() / 4)
    before, found = copy.deepcopy(net.state_dict()), []
    for name in ("float32", "bfloat16"):
        net.load_state_dict(before)
        state = PhaseState(plastic="conv", plasticity=PlasticityConfig(rule=rule, eta=0.05))
        with precision(name):
            metrics = PHASES["S"].run(net, batch, optimizer, state)
        found.append((metrics["loss"], net.state_dict()["layers.conv2.weight"].clone()))
    assert found[0][0] == found[1][0]
    assert torch.equal(found[0][1], found[1][1])
    assert not torch.equal(found[0][1], before["layers.conv2.weight"])


def _twin(
    net: BirilNet, optimizer: torch.optim.Optimizer
) -> tuple[BirilNet, torch.optim.Optimizer]:
    twin = copy.deepcopy(net)
    twin_optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
    twin_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return twin, twin_optimizer


@pytest.mark.parametrize("confident", [False, True])
def test_h_is_b_plus_the_rule(confident: bool) -> None:
    net, optimizer, batch = warm()
    twin, twin_optimizer = _twin(net, optimizer)
    plasticity = PlasticityConfig(eta=0.05, confident=confident)
    PHASES["H"].run(net, batch, optimizer, PhaseState(plasticity=plasticity, seed=5))

    twin.train()
    recording = copy.deepcopy(twin)
    out = recording(batch[0], record=True)
    PHASES["B"].run(twin, batch, twin_optimizer, PhaseState())
    difference = changed(snapshot(twin, twin_optimizer), snapshot(net, optimizer))
    assert difference == {"layers.conv2.weight"}

    learner = LocalLearner(plasticity, seed=5)
    post = learner.gate(out.recorded["if2"])
    if confident:
        right = out.predictions == batch[1]
        assert 0 < int(right.sum()) < len(right)
        post = post * right.float().view(1, -1, 1, 1, 1)
    (link,) = plastic_links(twin)
    unit = float(link.weight.detach().abs().max()) / 254
    lsb = link.weight.detach() / unit
    activity = LayerSpikes(out.recorded["if1"], post, link.between)
    change = learner.change(link.layer, lsb, bnm.loihi.SignMode.MIXED, activity) - lsb
    assert change.abs().max() > 0.1
    assert torch.equal(net.layers.conv2.weight, link.weight + change * unit)


def test_b_changes_everything_it_declares() -> None:
    net, optimizer, batch = warm()
    before = snapshot(net, optimizer)
    PHASES["B"].run(net, batch, optimizer, PhaseState())
    touched = {name.split(".")[1] for name in changed(before, net.state_dict() | _adam(before))}
    assert touched == set(PHASES["B"].updated_layers(net))


def _adam(before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v for k, v in before.items() if k.startswith("adam.")}


def test_s_keeps_the_adam_momentum_out() -> None:
    """Zeroed gradients would let Adam move weights; S leaves them None and never steps."""
    net, optimizer, batch = warm()
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = net.layers.fc1.weight.clone()
    PHASES["S"].run(net, batch, optimizer, PhaseState())
    assert torch.equal(net.layers.fc1.weight, before)
    assert net.layers.fc1.weight.grad is None


def test_plastic_layers() -> None:
    net = build_model("convnet", SMALL)
    assert [link.name for link in plastic_links(net)] == ["conv2"]
    assert [link.name for link in plastic_links(net, "conv+fc")] == ["conv2", "fc1"]
    with pytest.raises(ConfigError, match="expected one of conv, conv"):
        plastic_links(net, "all")
    with pytest.raises(ConfigError, match="Add a hidden layer, or use a schedule of B only"):
        plastic_links(build_model("mlp", ModelConfig(hidden=(8,))))


def test_mean_squared_loss() -> None:
    scores = torch.tensor([[4.0, 0.0], [2.0, 2.0]])
    loss = mean_squared(scores, torch.tensor([0, 1]), n_steps=4)
    assert float(loss) == pytest.approx(0.5 * (0 + 0.25 + 0.25) / 2)
