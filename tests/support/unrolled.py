"""A layer of neurons over all steps beside snnTorch's loop: spikes, membrane and all gradients of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

N_STEPS = 5


def stepped(neuron: Any, current: Tensor) -> tuple[Tensor, Tensor]:
    neuron.mem = torch.zeros(0)
    return torch.stack([neuron(step) for step in current]), neuron.mem


def currents(shape: tuple[int, ...], steps: int = N_STEPS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(steps, *shape, generator=generator) * 0.7 + 0.4


def measured(run: Any, neuron: Any, current: Tensor) -> list[Tensor]:
    """Spikes, membrane and all gradients of a random sum of both."""
    current = current.clone().requires_grad_()
    neuron.zero_grad()
    spikes, mem = run(neuron, current)
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(spikes.shape, generator=generator)
    (
        (spikes * weights).sum() + (mem * torch.randn(mem.shape, generator=generator)).sum()
    ).backward()
    learned = [p.grad for p in neuron.parameters()]
    return [spikes.detach(), mem.detach(), current.grad, *learned]  # type: ignore[list-item]


def check(ours: list[Tensor], loop: list[Tensor]) -> None:
    assert 0 < loop[0].mean() < 1
    assert torch.equal(ours[0], loop[0])
    assert torch.equal(ours[1], loop[1])
    for ours_grad, grad in zip(ours[2:], loop[2:]):
        largest = float(grad.abs().max())
        assert largest > 0
        torch.testing.assert_close(ours_grad, grad, rtol=1e-5, atol=3e-5 * largest)
