"""Leaky neurons that do something else than their settings say run as snnTorch runs them, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from snntorch import surrogate
from torch import Tensor, nn

from biril_nm.models.running import run_steps
from biril_nm.neurons.surrogates import is_step, slope
from biril_nm.neurons.unroll import can_unroll, engine, unroll
from tests.support.steps import HIDDEN, OneStep, compare, images, leaky


class Step(torch.autograd.Function):
    """A surrogate of the user's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * torch.exp(-ctx.saved_tensors[0].abs())


class Cut(Step):
    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.clamp(-0.1, 0.1)


class AtThreshold(Step):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).float()


class Learned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        soft = torch.sigmoid(self.slope * x)
        return ((x > 0).float() - soft).detach() + soft


def named(spike: Any) -> str:
    return str(getattr(spike, "__qualname__", type(spike).__name__)).partition(".")[0]


def soft(x: Tensor) -> Tensor:
    return torch.sigmoid(5 * x)


def hard(x: Tensor) -> Tensor:
    return (x > 0).float()


def rest(net: Any, x: Tensor) -> Any:
    return net.rest(net.f(x))


def changed(change: Callable[[Any], Any]) -> OneStep:
    net = OneStep(rest)
    change(net.l)
    return net


def compare_all(net: OneStep) -> None:
    for name in ("numba", "eager"):
        with engine(name):
            compare(net, images(constant=False))


@pytest.mark.parametrize("spike", [soft, hard, Cut.apply, AtThreshold.apply, Learned()], ids=named)
def test_surrogates_that_are_no_step_are_called(spike: Any) -> None:
    net = changed(lambda neuron: setattr(neuron, "spike_grad", spike))
    assert not can_unroll(net.l)
    compare_all(net)


@pytest.mark.parametrize(
    "spike",
    [Step.apply, surrogate.sigmoid(slope=5), surrogate.triangular(), surrogate.SFS()],
    ids=named,
)
def test_steps_of_any_slope_are_unrolled(spike: Any) -> None:
    net = changed(lambda neuron: setattr(neuron, "spike_grad", spike))
    assert can_unroll(net.l)
    compare_all(net)


def test_the_sigmoid_of_snntorch_does_not_overflow_below_the_threshold() -> None:
    spike = surrogate.sigmoid(slope=25)
    neuron = leaky(spike_grad=spike)
    current = torch.tensor([-9.0, -2.5, -2.45, -1.0, 0.9, 1.05, 3.0])[None, None].requires_grad_()
    assert not slope(spike, current.detach() - neuron.threshold).isfinite().all()
    unroll(neuron, current)[0].sum().backward()
    x = 25 * (current.detach().double() - neuron.threshold)
    psi = 25 * torch.sigmoid(x) * torch.sigmoid(-x)
    torch.testing.assert_close(current.grad, psi.float(), rtol=2e-5, atol=1e-30)


def test_the_trial_of_a_surrogate_leaves_no_mark() -> None:
    def noisy(x: Tensor) -> Tensor:
        return (x + 0 * torch.rand_like(x) > 0).float() + 0 * x

    state = torch.get_rng_state()
    with torch.inference_mode():
        assert not is_step(noisy)
        assert is_step(surrogate.sigmoid())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("delay", [True, False])
@pytest.mark.parametrize("later", ["zero", "none"])
@pytest.mark.parametrize("how", ["set", "loaded"])
def test_a_reset_that_is_changed_later(how: str, later: str, delay: bool) -> None:
    def change(neuron: Any) -> None:
        neuron.reset_delay = delay
        if how == "set":
            neuron.reset_mechanism = later
        else:
            neuron.load_state_dict(leaky(reset_mechanism=later).state_dict())

    net = changed(change)
    assert can_unroll(net.l) == delay
    compare_all(net)


def test_methods_of_one_neuron_and_its_hooks() -> None:
    compare_all(changed(lambda neuron: setattr(neuron, "fire", lambda mem: (mem > 0.5).float())))
    net = changed(lambda neuron: neuron.register_full_backward_hook(lambda *_: (None,)))
    compare_all(net)
    run_steps(net, images(constant=False)).output.sum().backward()
    assert net.f.weight.grad is None or not net.f.weight.grad.any()


def test_a_graded_factor_for_each_neuron() -> None:
    for factor in (torch.ones(HIDDEN), torch.linspace(0.5, 1, HIDDEN)):
        net = changed(lambda neuron, f=factor: setattr(neuron, "graded_spikes_factor", f))
        assert can_unroll(net.l) == bool((factor == 1).all())
        compare_all(net)


def test_thresholds_of_zero_have_a_gradient() -> None:
    net = OneStep(rest)
    net.l = leaky(threshold=torch.zeros(HIDDEN), learn_threshold=True, reset_delay=False)
    compare_all(net)
    assert bool(net.l.threshold.grad.isfinite().all())


def test_gradients_of_gradients_are_those_of_the_loop_or_refused() -> None:
    def second(name: str, spike: Any) -> Tensor:
        net = changed(lambda neuron: setattr(neuron, "spike_grad", spike))
        x = images(constant=False).requires_grad_()
        with engine(name):
            output = run_steps(net, x).output
            (grad,) = torch.autograd.grad(
                (output * torch.linspace(0, 1, output.numel()).view_as(output)).sum(),
                x,
                create_graph=True,
            )
            (grad**2).sum().backward()
        found: Tensor = net.f.weight.grad
        return found

    for spike in (surrogate.atan(), Step.apply):
        assert torch.allclose(second("eager", spike), second("loop", spike), rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second("numba", surrogate.atan())


def test_slopes_of_functions() -> None:
    x = torch.tensor([-1.0, 0.5])
    assert torch.allclose(slope(Step.apply, x), torch.exp(-x.abs()))
