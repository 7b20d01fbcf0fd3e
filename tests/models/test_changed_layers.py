"""Forwards that change what their layers hold, hooks on gradients, and inputs that a forward changes."""

from __future__ import annotations

from typing import Any

import pytest
import snntorch as snn
import torch
from snntorch import surrogate
from torch import Tensor, nn
from torch.func import functional_call

from biril_nm.coding import Coding
from biril_nm.models import OwnNet
from biril_nm.models.running import run_in_loop, run_steps, step_graph
from biril_nm.models.tracing import UntraceableError
from biril_nm.training import TrainConfig, fit
from tests.support.steps import HIDDEN, OneStep, Step, compare, images, leaky

N_STEPS, BATCH, IN, OUT = 4, 5, 6, 3


def other_weights(net: Any, x: Tensor) -> Any:
    weights = {name: 1.5 * value for name, value in net.f.named_parameters()}
    return net.rest(functional_call(net.f, weights, (x,)))


def other_threshold(net: Any, x: Tensor) -> Any:
    kept, net.l.threshold = net.l._buffers["threshold"], torch.tensor(0.1)
    y = net.l(net.f(x))
    net.l.threshold = kept
    return net.k(net.g(y))


def other_setting(net: Any, x: Tensor) -> Any:
    net.elu.alpha = 2.0
    y = net.elu(net.f(x))
    net.elu.alpha = 1.0
    return net.rest(y)


def state_from_outside(net: Any, x: Tensor) -> Any:
    net.l.mem = torch.full((1,), 0.2)
    return net.rest(net.f(x))


def mode_of_a_layer(net: Any, x: Tensor) -> Any:
    net.drop.eval()
    return net.rest(net.drop(net.f(x)))


@pytest.mark.parametrize(
    "step",
    [other_weights, other_threshold, other_setting, state_from_outside, mode_of_a_layer],
    ids=lambda step: step.__name__,
)
def test_layers_that_a_forward_changes_need_the_loop(step: Step) -> None:
    net = OneStep(step)
    net.drop = nn.Dropout(0.5)
    # Newer versions of torch read a buffer before they set it.
    with pytest.raises(UntraceableError, match="the forward (changes what|reads the state)"):
        step_graph(net)
    assert net.drop.training
    assert float(net.l.threshold) == pytest.approx(0.3)
    compare(net, images(False))


def norm_of_all(net: Any, x: Tensor) -> Any:
    size = sum(p.detach().abs().mean() for p in net.parameters())
    return net.rest(net.f(x) * size)


def number_of_all(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x) * net.state_dict()["g.weight"].norm().item())


@pytest.mark.parametrize("step", [norm_of_all, number_of_all], ids=lambda step: step.__name__)
def test_values_of_parameters_are_those_of_each_run(step: Step) -> None:
    net, x = OneStep(step), images(False)
    compare(net, x)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.2)
    compare(net, x)


def test_buffers_that_share_their_memory_can_be_traced() -> None:
    net = OneStep(lambda net, x: net.rest(net.f(x) + net.shared))
    net.register_buffer("shared", torch.full((1,), 0.1).expand(HIDDEN), persistent=False)
    held = [*net.parameters(), net.shared]
    places = [x.data_ptr() for x in held]
    step_graph(net)
    assert places == [x.data_ptr() for x in held]
    assert torch.equal(net.shared, torch.full((HIDDEN,), 0.1))
    compare(net, images(False))


@pytest.mark.parametrize("before", [False, True])
def test_hooks_on_gradients_see_one_step(before: bool) -> None:
    net, shapes = OneStep(lambda net, x: net.rest(net.f(x))), []

    def shorten(_: Any, *grads: Any) -> Any:
        shapes.append(tuple(grads[0][0].shape))
        return (grads[0][0] / grads[0][0].norm().clamp_min(1e-3),)

    register = (
        net.g.register_full_backward_pre_hook if before else net.g.register_full_backward_hook
    )
    register(shorten)
    compare(net, images(False))
    assert set(shapes) == {(len(images(False)[0]), OUT + 1 if before else HIDDEN)}


class Annealed:
    """Steeper at each call."""

    calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        found: Tensor = surrogate.fast_sigmoid(1 + 0.1 * self.calls)(x)
        return found


def test_a_surrogate_that_changes_is_called_at_each_step() -> None:
    found = []
    for run in (run_steps, run_in_loop):
        net = OneStep(lambda net, x: net.rest(net.f(x)))
        net.l = leaky(spike_grad=Annealed())
        run(net, images(False)).output.sum().backward()
        found.append((net.l.spike_grad.calls, net.f.weight.grad))
    assert found[0][0] == found[1][0] == 2 * len(images(False))  # the reset asks it too
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


class Halved(nn.Module):
    """All steps, whose values it halves where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(IN, OUT), snn.Leaky(0.9, init_hidden=True, threshold=0.1)
        self.n_batches = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.n_batches += 1
        x.mul_(0.5)
        return torch.stack([self.lif(self.fc(step)) for step in x])


@pytest.mark.parametrize("kind", ["direct", "regular"])
def test_trials_leave_the_input_alone_and_numbers_of_training_go_on(kind: str) -> None:
    torch.manual_seed(0)
    net, values = Halved(), torch.rand(BATCH, IN).numpy()
    own = OwnNet(net, Coding(kind, N_STEPS))
    x = own.encode(values)
    given = x.clone()
    found = own(x)
    net.lif.reset_mem()
    assert torch.equal(found.spikes, net.eval()(given))
    assert found.spikes.any()
    net.train()
    own(own.encode(values))
    assert net.n_batches == 2


def test_trials_run_in_float32() -> None:
    """In eval mode torch 2.3 takes a way through this layer that autocast breaks on the CPU."""
    attention = nn.TransformerEncoderLayer(IN, 2, 8, batch_first=True)
    net = nn.Sequential(nn.Unflatten(1, (1, IN)), attention, nn.Flatten(), nn.Linear(IN, OUT))
    net.append(snn.Leaky(0.9, init_hidden=True))
    settings = TrainConfig(schedule="B", epochs=1, precision="bfloat16", device="cpu")
    batch = (torch.rand(BATCH, IN).numpy(), torch.arange(BATCH).numpy() % OUT)
    assert fit(net, ([batch], None), settings, coding=Coding("direct", N_STEPS)).records
