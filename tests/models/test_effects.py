"""Own networks whose operations do more than give a result: folded runs equal the loop, or become it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.models.links import find_links
from biril_nm.models.running import run_in_loop, run_steps, step_graph
from tests.support.steps import BATCH, HIDDEN, OneStep, Step, compare, images, leaky


class Rounded(torch.autograd.Function):
    """Whole numbers, and gradients as if they were not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def add_(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x).add_(0.5))


def module_as_statement(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    net.swish(y)
    return net.rest(y)


def modules_in_a_row(net: Any, x: Tensor) -> Any:
    return net.rest(net.elu(net.swish(net.f(x))))


def function_as_statement(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    functional.elu(y, inplace=True)
    return net.rest(y)


def function_by_place(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    functional.elu(y, 0.5, True)
    return net.rest(y)


def function_of_torch(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    torch.relu_(y)
    return net.rest(y)


def out_of_torch(net: Any, x: Tensor) -> Any:
    y = net.f(x).detach()
    torch.mul(y, 0.5, out=y)
    return net.rest(y + net.f(x))


def operator_of_another_name(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    same = y
    same += 0.3
    return net.rest(y)


def number_of_another_name(net: Any, x: Tensor) -> Any:
    n = x.shape[1]
    more = n
    more += 10
    return net.rest(net.f(x) * (n / more))


def view(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y.view(-1, 2, HIDDEN // 2)[:, 0].mul_(0.5)
    return net.rest(y)


def mixed_view(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y.view(BATCH - 1 if len(y) == BATCH - 1 else -1, HIDDEN).mul_(0.5)
    return net.rest(y)


def spikes(net: Any, x: Tensor) -> Any:
    y = net.l(net.f(x))
    y.mul_(0.5)
    return net.k(net.g(y))


def spikes_in_function(net: Any, x: Tensor) -> Any:
    y = net.l(net.f(x))
    functional.hardswish(y, inplace=True)
    return net.k(net.g(y))


def view_of_spikes(net: Any, x: Tensor) -> Any:
    y = net.l(net.f(x))
    y.view(-1).mul_(0.5)
    return net.k(net.g(y))


def membrane_in_place(net: Any, x: Tensor) -> Any:
    y, mem = net.both(net.f(x))
    mem.mul_(0.5)
    return net.k(net.g(y))


def recurrent_spikes(net: Any, x: Tensor) -> Any:
    y = net.recurrent(net.f(x))
    y.detach().mul_(0.5)
    return net.k(net.g(y))


def data(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y.data.mul_(0.5)
    return net.rest(y)


def new_data(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y.data = y.data * 0.5
    return net.rest(y)


def skip_in_place(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y += net.skip(x)
    return net.rest(y)


def constant_takes_spikes(net: Any, x: Tensor) -> Any:
    y = net.skip(x)
    y.add_(net.l(net.f(x)))
    return net.k(net.g(y))


def constant_in_place(net: Any, x: Tensor) -> Any:
    held = torch.zeros(HIDDEN)
    held += net.f(x)[0]
    return net.rest(net.f(x) + held)


def weights_in_place(net: Any, x: Tensor) -> Any:
    net.f.weight.data.clamp_(-0.1, 0.1)
    return net.rest(net.f(x))


def buffer_in_place(net: Any, x: Tensor) -> Any:
    net.scale.mul_(0.9)
    return net.rest(net.f(x) * net.scale.clone())


def input_in_place(net: Any, x: Tensor) -> Any:
    x.mul_(0.9)
    return net.rest(net.f(x.clone()))


def threshold_in_place(net: Any, x: Tensor) -> Any:
    net.l.threshold.mul_(0.9)
    return net.rest(net.f(x))


def no_grad(net: Any, x: Tensor) -> Any:
    with torch.no_grad():
        y = net.l(net.f(x))
    return net.k(net.g(y))


def autocast(net: Any, x: Tensor) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net.f(x)
    return net.rest(y.float())


def no_autocast(net: Any, x: Tensor) -> Any:
    with torch.autocast("cpu", enabled=False):
        y = net.f(x)
    return net.rest(y)


def own_gradient(net: Any, x: Tensor) -> Any:
    return net.rest(Rounded.apply(net.f(x)))


def detached_in_place(net: Any, x: Tensor) -> Any:
    y = net.l(net.f(x))
    y.detach_()
    return net.k(net.g(y))


def hooked(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y.register_hook(lambda grad: 3 * grad)
    return net.rest(y)


def last_membrane(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x) - 0.02 * net.l.mem.sum())


def rests_each_step(net: Any, x: Tensor) -> Any:
    net.l.reset_mem()
    return net.rest(net.f(x))


def scaled(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x) * net.scale.exp())


def items(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    y[:, 3:6] = 0.5
    y[0, 0] = 0.1
    y[y < -0.2] = 0
    return net.rest(y)


def items_of_spikes(net: Any, x: Tensor) -> Any:
    y = net.l(net.f(x))
    y[:, ::3] = 0
    return net.k(net.g(y))


def named_results(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    best = y.topk(12, dim=1)
    least = best.values[:, -1:]
    return net.rest(torch.where(y >= least, y, 0.1 * y) + 0.1 * y.sort(1).values)


def items_of_another_name(net: Any, x: Tensor) -> Any:
    y = net.f(x)
    part = y[:, :4]
    part[:, 1] = 2.0
    return net.rest(y)


def items_of_the_input(net: Any, x: Tensor) -> Any:
    x[:, 0] = 0.5
    return net.rest(net.f(x.clone()))


FOLDED = [
    *(items, items_of_spikes, named_results),
    *(add_, modules_in_a_row, module_as_statement, function_as_statement, function_by_place),
    *(function_of_torch, spikes, spikes_in_function, skip_in_place, constant_takes_spikes),
    *(number_of_another_name, scaled),
]
LOOPED = [
    *(items_of_another_name, items_of_the_input),
    *(operator_of_another_name, view, mixed_view, view_of_spikes, membrane_in_place, out_of_torch),
    *(recurrent_spikes, data, new_data, constant_in_place, weights_in_place, buffer_in_place),
    *(input_in_place, threshold_in_place, no_grad, autocast, no_autocast, own_gradient),
    *(detached_in_place, hooked, last_membrane, rests_each_step),
]


@pytest.mark.parametrize("constant", [False, True], ids=["moving", "constant"])
@pytest.mark.parametrize("step", FOLDED + LOOPED, ids=lambda step: step.__name__)
def test_spikes_and_gradients_equal_the_loop(step: Step, constant: bool) -> None:
    compare(OneStep(step), images(constant))


@pytest.mark.parametrize("step", FOLDED, ids=lambda step: step.__name__)
def test_what_harms_nobody_is_folded(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        pytest.fail("it ran in a loop")

    monkeypatch.setattr("biril_nm.models.running.run_in_loop", fail)
    net = OneStep(step)
    for constant in (False, True):
        run_steps(net, images(constant)).output.sum().backward()


def test_modes_are_seen_whatever_the_mode_of_the_first_run() -> None:
    def with_grad(net: Any, x: Tensor) -> Any:
        with torch.enable_grad():
            return net.rest(net.f(x))

    for step, mode in ((no_grad, torch.no_grad), (no_grad, torch.inference_mode)):
        net = OneStep(step)
        with mode():
            run_steps(net, images(False))
        compare(net, images(False))
    with torch.no_grad():
        assert run_steps(OneStep(with_grad), images(False)).membranes["k"].requires_grad


def test_what_is_traced_in_inference_mode_learns() -> None:
    net = OneStep(lambda net, x: net.rest(net.f(x) * torch.arange(HIDDEN)))
    with torch.inference_mode():
        run_steps(net, images(False))
    compare(net, images(False))


def test_layers_that_move_their_buffers_need_the_loop() -> None:
    net = OneStep(lambda net, x: net.rest(net.f(x)))
    torch.nn.utils.parametrizations.spectral_norm(net.f)
    compare(net, images(False))


def test_neurons_without_surrogate() -> None:
    net = OneStep(lambda net, x: net.rest(net.f(x)))
    net.l = leaky(surrogate_disable=True)
    compare(net, images(False))


def test_recorded_spikes_are_those_that_neurons_sent() -> None:
    def summed(net: Any, x: Tensor) -> Any:
        y = net.l(net.f(x))
        y += net.both(net.skip(x))[0]
        return net.k(net.g(y))

    for run in (run_steps, run_in_loop):
        recorded = run(OneStep(summed), images(False), ["l"]).recorded["l"]
        assert set(recorded.unique().tolist()) == {0.0, 1.0}
    compare(OneStep(summed), images(False))


def test_a_path_between_neurons_leaves_spikes_as_they_are() -> None:
    def module(net: Any, x: Tensor) -> Any:
        return net.k(net.g(net.swish(net.l(net.f(x)))))

    for step, factor in ((spikes, 0.5), (module, 2 / 3)):
        net = OneStep(step)
        (between,) = find_links(step_graph(net), net)[1].between
        given = torch.ones(2, HIDDEN)
        torch.testing.assert_close(between(given), torch.full_like(given, factor))
        assert torch.equal(given, torch.ones(2, HIDDEN))
