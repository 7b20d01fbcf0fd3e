"""Neurons over all steps in one node: every reset, surrogate and engine against snnTorch step by step."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.models.running import run_in_loop, run_steps
from biril_nm.neurons import SURROGATES, make_surrogate
from biril_nm.neurons import unroll as neurons
from biril_nm.neurons.surrogates import formula
from biril_nm.neurons.unroll import can_pool, can_unroll, engine, unroll
from tests.support.unrolled import N_STEPS, check, currents, measured, stepped

RESETS = list(itertools.product(("zero", "subtract", "none"), (True, False)))
SHAPES = [(3, 2, 6, 8), (7, 13), (2, 3, 5, 5)]


def leaky(reset: str = "zero", delay: bool = False, surrogate: str = "atan", **more: Any) -> Any:
    return snn.Leaky(
        beta=0.8,
        **{"threshold": 0.7, "init_hidden": True, **more},
        reset_mechanism=reset,
        reset_delay=delay,
        spike_grad=make_surrogate(surrogate),
    )


@pytest.mark.parametrize("name", ["numba", "eager"])
@pytest.mark.parametrize("surrogate", sorted(SURROGATES.keys() - {"learned_atan"}))
@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_equals_snntorch(reset: str, delay: bool, surrogate: str, name: str) -> None:
    for shape in SHAPES:
        neuron, current = leaky(reset, delay, surrogate), currents(shape)
        assert can_unroll(neuron)
        with engine(name):
            check(measured(unroll, neuron, current), measured(stepped, neuron, current))


@pytest.mark.parametrize("name", ["numba", "eager"])
@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_cut_in_two_equals_one_run(reset: str, delay: bool, name: str) -> None:
    def cut(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
        first, mem = unroll(neuron, current[:2])
        second, mem = unroll(neuron, current[2:], start=mem)
        return torch.cat([first, second]), mem

    for more in ({}, {"learn_beta": True, "learn_threshold": True}):
        neuron, current = leaky(reset, delay, **more), currents((3, 2, 6, 8))
        with engine(name):
            check(measured(cut, neuron, current), measured(stepped, neuron, current))


@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_learned_and_per_channel_constants(reset: str, delay: bool) -> None:
    values = torch.tensor([0.5, 0.8, 1.1]).view(3, 1, 1)
    for more in ({}, {"threshold": values}):
        neuron = leaky(reset, delay, "fast_sigmoid", learn_beta=True, learn_threshold=True, **more)
        current = currents((2, 3, 4, 4))
        check(measured(unroll, neuron, current), measured(stepped, neuron, current))


@pytest.mark.parametrize("name", ["numba", "eager"])
def test_a_constant_input_is_held_once(name: str) -> None:
    neuron, once = leaky("subtract", True), currents((2, 3, 4, 4), steps=1) + 0.5

    def ours(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
        return unroll(neuron, current, N_STEPS)

    def loop(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
        return stepped(neuron, current.expand(N_STEPS, *current.shape[1:]))

    with engine(name):
        check(measured(ours, neuron, once), measured(loop, neuron, once))


@pytest.mark.parametrize("steps", [1, 3])
def test_pooling_in_the_same_loop(steps: int) -> None:
    neuron, current = leaky(), currents((2, 3, 6, 8), steps)

    def pooled(spikes: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])

    def ours(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
        assert can_pool(neuron, current)
        return unroll(neuron, current, pooled=True)

    def loop(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
        spikes, mem = stepped(neuron, current)
        return pooled(spikes), mem

    check(measured(ours, neuron, current), measured(loop, neuron, current))
    assert not can_pool(neuron, currents((2, 3, 5, 8)))
    assert not can_pool(leaky(surrogate="triangular"), current)


def test_large_layers_are_shared_among_threads() -> None:
    neuron, current = leaky("subtract", False), currents((4, 8, 33, 33), steps=4)
    threads = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            check(measured(unroll, neuron, current), measured(stepped, neuron, current))
    finally:
        torch.set_num_threads(threads)


def test_only_spikes_or_only_the_membrane_may_be_used() -> None:
    neuron, current = leaky(), currents((3, 4))
    for place in (0, 1):
        found = []
        for run in (unroll, stepped):
            given = current.clone().requires_grad_()
            run(neuron, given)[place].square().sum().backward()
            found.append(given.grad)
        torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["numba", "eager"])
def test_one_tensor_is_kept_for_the_backward_pass(name: str) -> None:
    kept: list[Tensor] = []
    neuron, current = leaky(), currents((3, 4, 6, 6)).requires_grad_()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with engine(name), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        unroll(neuron, current)
    assert sum(t.numel() for t in kept) <= current.numel() + 2  # beta and threshold
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        stepped(neuron, current)
    assert sum(t.numel() for t in kept) > 4 * current.numel()


def test_networks_pool_in_the_loop_of_their_neurons() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        leaky(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 2),
        leaky(),
    )
    with torch.no_grad():  # so that the readout fires
        net[4].weight.abs_()
    x = currents((2, 1, 8, 8)) + 1
    kept: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    )
    for name in ("auto", "eager"):
        kept.clear()
        with engine(name), hooks:
            ours = run_steps(net, x)
        loop = run_in_loop(net, x)
        assert ours.output.mean() > 0
        assert torch.equal(ours.output, loop.output)
        spikes = N_STEPS * 2 * 3 * 64  # of the hidden layer; its input has as many numbers
        assert kept.count(spikes) == (1 if name == "auto" else 2)
    assert run_steps(net, x, ["1"]).recorded["1"].shape == (N_STEPS, 2, 3, 8, 8)


def test_what_cannot_be_unrolled() -> None:
    assert not can_unroll(leaky(graded_spikes_factor=2.0))
    assert not can_unroll(leaky(threshold=-1.0))
    assert not can_unroll(leaky(state_quant=lambda mem: mem))
    assert not can_unroll(snn.Synaptic(alpha=0.5, beta=0.5))
    assert formula(torch.relu) is None


@pytest.mark.parametrize("name", ["numba", "eager"])
def test_states_are_float32_where_layers_compute_in_less(name: str) -> None:
    neuron, current = leaky(), currents((3, 4)).bfloat16()
    with engine(name):
        low, full = unroll(neuron, current), unroll(neuron, current.float())
    assert (low[0].dtype, low[1].dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(low[0].float(), full[0])
    assert torch.equal(low[1], full[1])


def test_without_a_compiler_it_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", broken)
    neuron, current = leaky(), currents((3, 4))
    with engine("compiled"), caplog.at_level(logging.WARNING):
        for _ in range(2):
            check(measured(unroll, neuron, current), measured(stepped, neuron, current))
    said = [r.message for r in caplog.records if r.name == neurons.__name__]
    assert said == ["torch cannot compile neurons on cpu, they run uncompiled: no C++ compiler"]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [True, False])
def test_compiled_equals_uncompiled(delay: bool) -> None:
    neuron, current = leaky("zero", delay), currents((3, 2, 6, 8))
    with engine("compiled"):
        check(measured(unroll, neuron, current), measured(stepped, neuron, current))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("reset", "delay"), RESETS)
def test_cuda_equals_snntorch(reset: str, delay: bool) -> None:
    neuron, current = leaky(reset, delay).cuda(), currents((3, 2, 6, 8)).cuda()
    with engine("eager"):
        spikes, mem = unroll(neuron, current)
    neuron.mem = torch.zeros(0, device="cuda")
    assert torch.equal(spikes, torch.stack([neuron(step) for step in current]))
    assert torch.equal(mem, neuron.mem)
