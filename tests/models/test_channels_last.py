"""Pictures in bfloat16 on the CPU have their channels last in memory: the same numbers as without."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.models import layout
from biril_nm.models.running import precision, run_steps
from biril_nm.neurons.memory import are_last, put_last, to_order
from biril_nm.neurons.norm_rows import repeats
from biril_nm.neurons.norms import normalise
from biril_nm.neurons.unroll import engine, unroll

LAST = torch.channels_last
SHAPES = [(8, 3, 6, 8), (3, 5, 7, 5), (4, 300, 5, 5), (5, 256, 4, 4), (64, 16, 32, 32)]


def leaky(**more: Any) -> Any:
    return snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism="zero", **more)


def close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        largest = float(b.detach().abs().max())
        assert largest > 0
        torch.testing.assert_close(a.float(), b.float(), rtol=tolerance, atol=tolerance * largest)


def gradients(run: Any, x: Tensor, parameters: Any) -> list[Tensor]:
    """The results, and the gradients of a random sum of them by the input and the parameters."""
    x, parameters = x.detach().requires_grad_(), list(parameters)
    found = run(x)
    generator = torch.Generator().manual_seed(2)
    total = sum((f.float() * torch.randn(f.shape, generator=generator)).sum() for f in found)
    return [*found, *torch.autograd.grad(total, [x, *parameters])]


def test_the_order_of_memory_and_of_the_shape() -> None:
    x = torch.rand(2, 3, 4, 5)
    last = to_order(put_last(x, 1), 1)
    assert torch.equal(last, x)
    assert are_last(last)
    assert not are_last(x)
    assert put_last(last, 1).data_ptr() == last.data_ptr()
    assert layout.in_order([last])[0].is_contiguous()
    assert [repeats(64, 100), repeats(3, 48), repeats(5, 105), repeats(512, 64)] == [4, 16, 1, 1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm_of_channels_that_are_last(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, x = nn.BatchNorm2d(shape[1]), (3 * torch.randn(shape) + 5).to(dtype)
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    other = copy.deepcopy(norm)
    given = x.contiguous(memory_format=LAST)
    ours = gradients(lambda x: [normalise(norm, x)[0]], given, norm.parameters())
    theirs = gradients(lambda x: [other(x)], x, other.parameters())
    assert are_last(ours[0])
    close(ours, theirs, 1e-5 if dtype == torch.float32 else 1e-2)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-4  # sums of 65536 values, in another order
    for ours_state, state in zip(norm.buffers(), other.buffers()):
        torch.testing.assert_close(ours_state, state, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("channels", [3, 48, 257])
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_neurons_whose_channels_are_last(
    channels: int, started: bool, pooled: bool, steps: int
) -> None:
    torch.manual_seed(0)
    neuron, x = leaky(learn_beta=True), torch.randn(steps, 4, channels, 6, 8)
    norm = nn.BatchNorm2d(channels)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    start = torch.randn(4, channels, 6, 8) if started else None

    def found(last: bool, behind: Any) -> list[Tensor]:
        parameters = [neuron.beta, *(() if behind is None else behind.parameters())]

        def run(x: Tensor) -> list[Tensor]:
            return list(unroll(neuron, x, 3, pooled, start, behind, last))

        return gradients(run, x, parameters)

    ours, theirs = found(True, None), found(False, None)
    assert are_last(ours[0].flatten(0, 1))
    assert all(torch.equal(a, b) for a, b in zip(ours[:3], theirs[:3], strict=True))
    close(ours, theirs, 1e-4)
    close(found(True, norm), found(False, norm), 1e-4)


class Views(nn.Module):
    """A step that does with pictures what needs them in the order of their shape."""

    def __init__(self, change: bool) -> None:
        super().__init__()
        self.change = change
        self.conv, self.norm, self.first = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), leaky()
        self.inner, self.second = nn.Conv2d(4, 4, 3, padding=1), leaky()
        self.out = nn.Linear(4 * 64 + 64, 3)

    def forward(self, x: Tensor) -> Tensor:
        s = self.first(self.norm(self.conv(x)))
        y = s.view(s.size(0), 4, 64).transpose(1, 2).reshape(s.shape[0], 64, 4).permute(0, 2, 1)
        y = functional.max_pool2d(y.reshape(len(s), 4, 8, 8), 2, 2)
        current = self.inner(s)
        if self.change:
            current += s
        else:
            current = current + s
        z = self.second(current)
        both = torch.cat([z.view(z.size(0), -1), y.reshape(len(y), -1)], 1)
        result: Tensor = self.out(both)
        return result


@pytest.mark.parametrize("change", [True, False])
def test_forwards_that_view_the_memory_of_pictures(change: bool) -> None:
    torch.manual_seed(0)
    net, x = Views(change), torch.rand(3, 5, 2, 8, 8)
    found = []
    for name in ("auto", "eager"):
        with engine(name), precision("bfloat16"):
            output = run_steps(net, x).output.float()
        grads = torch.autograd.grad(output.square().sum(), list(net.parameters()))
        found.append([output.detach(), *grads])
    for ours, theirs in zip(*found):
        assert float((ours - theirs).norm()) < 0.1 * float(theirs.norm())


def test_where_channels_are_last() -> None:
    kept: list[bool] = []
    net = nn.Sequential(nn.Conv2d(2, 8, 3), leaky(), nn.Conv2d(8, 8, 3), leaky(), nn.Flatten())
    plain = copy.deepcopy(net)
    for low in (True, False):
        net = copy.deepcopy(plain)

        def note(t: Tensor) -> Tensor:
            kept.append(are_last(t) or (t.ndim == 5 and t.shape[-1] == 8))
            return t

        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda t: t)
        with hooks, precision("bfloat16" if low else "float32"):
            run_steps(net, torch.rand(3, 5, 2, 9, 9))
        assert any(kept) == low
        kept.clear()
