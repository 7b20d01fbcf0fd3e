"""Sums before neurons are computed again for the backward pass, where other layers keep what they add."""

from __future__ import annotations

import gc
import operator
from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from biril_nm.models.kept import Kept
from biril_nm.models.running import precision, run_steps
from biril_nm.neurons.unroll import engine

N_STEPS, BATCH = 3, 4
Add = Callable[[Tensor, Tensor], Tensor]


def leaky() -> snn.Leaky:
    return snn.Leaky(beta=0.6, threshold=0.4, init_hidden=True, reset_mechanism="zero")


class Residual(nn.Module):
    """A block whose shortcut is spikes, and one whose shortcut is a norm."""

    def __init__(self, add: Add, before: Callable[[Any], Any] = lambda x: x) -> None:
        super().__init__()
        self.first, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), leaky()
        self.conv1, self.norm1, self.lif2 = (
            nn.Conv2d(4, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            leaky(),
        )
        self.conv2, self.norm2, self.lif3 = nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6), leaky()
        self.short, self.norm3 = nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6)
        self.add, self.before = add, before

    def forward(self, x: Tensor) -> Any:
        y = self.lif1(self.first(x))
        y = self.lif2(self.before(self.add(self.norm1(self.conv1(y)), y)))
        return self.lif3(self.add(self.norm2(self.conv2(y)), self.norm3(self.short(y))))


ADDS: list[Add] = [
    operator.add,
    operator.iadd,
    torch.add,
    lambda a, b: a.add(b),
    lambda a, b: a.add_(b),
]
NOT_ADDS: list[Add] = [operator.sub, lambda a, b: torch.add(a, b, alpha=2), lambda a, b: 2 * a + b]


def train(net: nn.Module, x: Tensor, low: bool = False) -> tuple[list[Tensor], list[Tensor]]:
    """Spikes and gradients, and the inputs that neurons keep."""
    kept: list[Tensor] = []
    x = x.clone().requires_grad_()
    net.zero_grad()
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t)
    with precision("bfloat16" if low else "float32"), hooks:
        spikes = run_steps(net, x).output
    (spikes.float() * torch.linspace(-1, 1, spikes.numel()).view(spikes.shape)).sum().backward()
    grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    found = [t for t in kept if t.ndim == 5 and t.is_floating_point()]
    return [spikes.detach(), x.grad, *grads], found  # type: ignore[list-item]


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep sums as they are."""
    monkeypatch.setattr(Kept, "note", lambda *given: None)


@pytest.mark.parametrize("add", ADDS)
@pytest.mark.parametrize("low", [False, True])
def test_the_same_with_less_memory(add: Add, low: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Residual(add), torch.rand(N_STEPS, BATCH, 2, 10, 8)
    ours, few = train(net, x, low)
    forget(monkeypatch)
    theirs, all_inputs = train(net, x, low)
    assert len(all_inputs) == 3 and len(few) == 1  # that of the first neurons
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs)) and len(ours) == len(theirs)
    assert ours[0].any() and all(grad.any() for grad in ours[1:])


@pytest.mark.parametrize("add", NOT_ADDS)
def test_what_is_no_sum_of_what_is_kept_is_kept(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Residual(add), torch.rand(N_STEPS, BATCH, 2, 10, 8)
    ours, kept = train(net, x)
    forget(monkeypatch)
    theirs, _ = train(net, x)
    assert len(kept) == 3 and all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_a_sum_that_changes_before_the_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = Residual(operator.add, lambda y: y.mul_(1.5)), torch.rand(N_STEPS, BATCH, 2, 10, 8)
    ours, kept = train(net, x)
    forget(monkeypatch)
    theirs, _ = train(net, x)
    assert len(kept) == 2 and all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_spikes_that_change_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Residual(lambda a, b: b.add_(a))  # what the shortcut gave is gone behind it
    x = torch.rand(N_STEPS, BATCH, 2, 10, 8)
    ours, kept = train(net, x)
    forget(monkeypatch)
    theirs, _ = train(net, x)
    assert len(kept) == 2 and all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_nothing_is_held_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[Any] = []
    monkeypatch.setattr(Kept, "forget", lambda kept, node: noted.extend([*kept.again, *kept.bits]))
    net, x = Residual(operator.add), torch.rand(N_STEPS, BATCH, 2, 10, 8)
    with torch.no_grad():
        run_steps(net, x)
    assert not noted
    run_steps(net, x)
    assert noted


class Fork(nn.Module):
    """Two layers that take the same spikes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.lif, self.out = nn.Linear(6, 8), leaky(), leaky()
        self.left, self.right = nn.Linear(8, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Any:
        spikes = self.lif(self.first(x))
        return self.out(self.left(spikes) + self.right(spikes))


def test_layers_that_take_the_same_spikes_keep_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []
    monkeypatch.setattr(Kept, "forget", lambda run, node: kept.extend(run.bits.values()))
    net, x = Fork(), torch.rand(N_STEPS, BATCH, 6)
    run_steps(net, x).output.sum().backward()
    assert len(set(map(id, kept))) == 1 and kept[0].dtype == torch.bool
    ours = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with engine("loop"):
        run_steps(net, x).output.sum().backward()
    theirs = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(ours) == len(theirs) == 6
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("net", [Residual(operator.add), Fork()])
def test_what_is_kept_is_freed_by_the_backward_pass(net: nn.Module) -> None:
    x = torch.rand(N_STEPS, BATCH, *((2, 10, 8) if isinstance(net, Residual) else (6,)))
    held: list[StorageWeakRef] = []

    def noted(t: Tensor) -> Tensor:
        if t.grad_fn is not None or t.dtype == torch.bool:
            held.append(StorageWeakRef(t.untyped_storage()))
        return t

    with torch.autograd.graph.saved_tensors_hooks(noted, lambda t: t):
        spikes = run_steps(net, x).output
    assert held and not any(each.expired() for each in held)
    loss = spikes.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.grad_fn is not None and all(each.expired() for each in held)


@pytest.mark.parametrize("net", [Residual(operator.add), Fork()])
def test_a_run_without_a_backward_pass_is_freed(net: nn.Module) -> None:
    x = torch.rand(N_STEPS, BATCH, *((2, 10, 8) if isinstance(net, Residual) else (6,)))
    output = run_steps(net, x).output
    held = StorageWeakRef(output.untyped_storage())
    del output
    gc.collect()
    assert held.expired()
