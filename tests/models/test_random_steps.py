"""Own networks that draw random numbers: none is drawn once for all steps, none is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.models.running import run_steps, step_graph
from biril_nm.models.tracing import UntraceableError
from tests.support.steps import OneStep, Step, compare, images, leaky

STREAM = np.random.default_rng(0)


class Here(OneStep):
    """A network whose class stands beside :data:`STREAM`."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


def stochastic_depth(draw: Callable[[], float]) -> Step:
    def step(net: Any, x: Tensor) -> Any:
        y = net.f(x)
        if net.training and draw() < 1e-6:
            return net.rest(net.skip(x))
        return net.rest(y)

    return step


DRAWS: dict[str, Callable[[], float]] = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: float(torch.rand(1)),
    "of the file": STREAM.random,
}


@pytest.mark.parametrize("name", DRAWS)
def test_random_branches_need_the_loop_and_no_number_is_lost(name: str) -> None:
    draw = DRAWS[name]
    net = Here(stochastic_depth(draw))
    states = [random.getstate(), torch.get_rng_state(), STREAM.bit_generator.state]
    numbers = np.random.get_state()[1].copy()
    with pytest.raises(UntraceableError, match="draws random numbers"):
        step_graph(net)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert STREAM.bit_generator.state == states[2]
    assert np.array_equal(np.random.get_state()[1], numbers)
    step_graph(net.eval())  # which draws nothing


def test_generators_of_the_network_are_seen() -> None:
    for held in (np.random.default_rng(1), np.random.RandomState(1), random.Random(1)):
        net = OneStep(lambda net, x: net.rest(net.f(x) * (float(net.held.normal()) < 9)))
        net.held = held
        if isinstance(held, random.Random):
            net.step = lambda net, x: net.rest(net.f(x) * (net.held.random() < 9))
        with pytest.raises(UntraceableError, match="draws random numbers"):
            step_graph(net)
    held = torch.Generator()
    before = held.get_state()
    net.step = lambda net, x: net.rest(net.f(x) * torch.rand(1, generator=net.held))
    net.held = held
    with pytest.raises(UntraceableError, match="draws random numbers"):
        step_graph(net)
    assert torch.equal(held.get_state(), before)


@pytest.mark.parametrize("name", ["function", "class", "in place", "noise"])
def test_a_constant_value_gets_a_mask_per_step(name: str) -> None:
    def step(net: Any, x: Tensor) -> Any:
        y = net.f(x).sigmoid()
        if name == "function":
            y = functional.dropout(y, 0.5, net.training)
        elif name == "in place":
            functional.dropout(y, 0.5, net.training, True)
        elif name == "noise":
            y = torch.rand_like(y) * y
        else:
            y = net.dropped(y)
        return net.l(y)

    net = OneStep(step).eval()
    net.l = leaky(threshold=0.3, reset_mechanism="none")
    net.l.beta.zero_()
    run_steps(net, images(True))  # what is known of eval mode does not hold in train mode
    output = run_steps(net.train(), images(True)).output
    assert not torch.equal(output[0], output[1])
    alike = run_steps(net.eval(), images(True)).output
    assert torch.equal(alike[0], alike[1]) == (name != "noise")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_scripted_layers_run_step_by_step() -> None:
    net = OneStep(lambda net, x: net.rest(net.f(x)))
    net.f = torch.jit.script(net.f)  # type: ignore[no-untyped-call]
    compare(net, images(constant=False))
