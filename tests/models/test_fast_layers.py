"""Convolutions in pieces, BatchNorm in loops, alone and with neurons behind it, against torch's layers."""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

from biril_nm.models import pieces
from biril_nm.models.pieces import can_cut, convolve
from biril_nm.models.running import precision, run_steps
from biril_nm.neurons import memory
from biril_nm.neurons.norms import can_normalise, normalise
from biril_nm.neurons.spike_sums import weight_gradient
from biril_nm.neurons.unroll import can_join, engine, unroll

CONVOLUTIONS = [
    (nn.Conv2d(3, 4, 3, padding=1), (3, 9, 7)),
    (nn.Conv2d(4, 6, (3, 1), stride=2, dilation=(2, 1), groups=2, bias=False), (4, 9, 7)),
    (nn.Conv1d(3, 4, 5, padding=2), (3, 20)),
    (nn.Conv3d(2, 3, 3), (2, 4, 5, 6)),
]
LOW = [  # the last three multiply matrices for the gradients of their weights
    (nn.Conv2d(3, 4, 3, padding=1), (3, 9, 9)),
    (nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 9, 9)),
    (nn.Conv2d(96, 96, 3, stride=2, padding=1, groups=2), (96, 9, 9)),
    (nn.Conv2d(48, 64, 3, stride=2, padding=1), (48, 9, 8)),
    (nn.Conv2d(64, 48, (3, 2), padding=(2, 0), dilation=(2, 1)), (64, 7, 5)),
    (nn.Conv1d(48, 48, 5, stride=3, padding=2, bias=False), (48, 20)),
]
BY_SPIKES = [  # whole blocks of channels and others; places that share a block, and more than one holds
    (nn.Conv2d(5, 40, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(1, 2)), (5, 9, 8)),
    (nn.Conv1d(4, 32, 5, stride=3, padding=2), (4, 20)),
    (nn.Conv3d(4, 33, (3, 2, 1), stride=(1, 1, 2), padding=(1, 0, 0), bias=False), (4, 4, 5, 6)),
    (nn.Conv2d(4, 64, 3, padding=1), (4, 40, 30)),
    (nn.Conv2d(64, 96, 3, stride=2, padding=1), (64, 4, 4)),
    (nn.Conv2d(4, 32, 3, padding=4, dilation=3), (4, 3, 2)),
]
NORMS = [
    (nn.BatchNorm2d(3), (8, 3, 6, 8)),
    (nn.BatchNorm2d(3, momentum=None), (40, 3, 32, 32)),
    (nn.BatchNorm2d(3, affine=False), (8, 3, 4, 6)),
    (nn.BatchNorm1d(5, track_running_stats=False), (8, 5, 16)),
    (nn.BatchNorm3d(2, eps=0.1), (4, 2, 4, 6, 2)),
]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1 << 9)
    monkeypatch.setattr(memory, "LARGE", 1 << 9)


def leaky(**more: Any) -> Any:
    return snn.Leaky(beta=0.8, init_hidden=True, reset_mechanism="zero", **more)


def results(layer: Any, run: Any, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of a random sum of it by the input and all parameters."""
    x = x.clone().requires_grad_()
    layer.zero_grad()
    found = run(x)
    generator = torch.Generator().manual_seed(2)
    (found * torch.randn(found.shape, generator=generator)).sum().backward()
    return [found.detach(), x.grad, *(p.grad for p in layer.parameters())]  # type: ignore[list-item]


def close(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        largest = float(b.detach().abs().max())
        assert largest > 0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * largest)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("conv", "shape"), CONVOLUTIONS)
@pytest.mark.parametrize("spikes", [True, False])
def test_convolutions_in_pieces(conv: nn.Module, shape: tuple[int, ...], spikes: bool) -> None:
    x = torch.rand(40, *shape)
    x = (x > 0.7).float() if spikes else x
    assert can_cut(conv, x)
    ours, theirs = (
        results(conv, lambda x: convolve(conv, x, x.bool() if spikes else None), x),
        results(conv, conv, x),
    )
    assert torch.equal(ours[0], theirs[0])
    close(ours[1:], theirs[1:])


@pytest.mark.parametrize("shape", [(1600, 1, 28, 28), (640, 2, 28, 28), (1600, 1, 400)])
def test_gradients_of_many_steps_are_as_exact_as_those_of_few(shape: tuple[int, ...]) -> None:
    kind = nn.Conv1d if len(shape) == 3 else nn.Conv2d
    conv: Any = kind(shape[1], 2 * shape[1], 3, padding=1)
    x = (torch.rand(shape) > 0.8).float()
    assert can_cut(conv, x)
    exact = copy.deepcopy(conv).double()
    weighting = torch.randn(exact(x.double()).shape) + 0.02
    (convolve(conv, x) * weighting).sum().backward()
    (exact(x.double()) * weighting).sum().backward()
    for ours, theirs in zip(conv.parameters(), exact.parameters()):
        error = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
        assert error < 4e-6  # in one sum 1e-5


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("conv", "shape"), BY_SPIKES)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.28])
def test_gradients_of_weights_by_spikes(
    conv: Any, shape: tuple[int, ...], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[Tensor] = []

    def spied(*given: Any) -> Tensor:
        sums.append(weight_gradient(*given))
        return sums[-1]

    monkeypatch.setattr(pieces, "weight_gradient", spied)
    places = 40 * prod(shape)
    x = (torch.randperm(places) < share * places).float().view(40, *shape)  # no more, by no seed
    ours = results(conv, lambda x: convolve(conv, x, x.bool()), x)
    assert sums and all(found.shape == conv.weight.shape for found in sums)
    exact = copy.deepcopy(conv).double()
    theirs = results(exact, exact, x.double())
    parts = slice(1, None) if share else slice(1, 2)
    close(ours[parts], [t.float() for t in theirs[parts]])
    assert share or not ours[2].any()


@pytest.mark.usefixtures("small_pieces")
def test_spikes_are_kept_as_bytes() -> None:
    kept: list[Tensor] = []
    conv, x = nn.Conv2d(3, 4, 3), (torch.rand(40, 3, 9, 9) > 0.5).float()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        convolve(conv, x, x.bool())
    assert [t.dtype for t in kept if t.shape == x.shape] == [torch.bool]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(("conv", "shape"), LOW)
def test_pieces_under_autocast(conv: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.rand(40, *shape)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = results(conv, lambda x: convolve(conv, x), x)
        order = torch.channels_last if x.ndim == 4 else torch.contiguous_format
        theirs = results(conv, lambda x: conv(x.contiguous(memory_format=order)), x)
    assert ours[0].dtype == torch.bfloat16
    assert torch.equal(ours[0], theirs[0])
    assert [t.dtype for t in ours] == [t.dtype for t in theirs]
    close(ours[1:], theirs[1:], 2e-2)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(3)], ids=["conv", "norm"])
@pytest.mark.parametrize(
    "how", ["forward", "forward_hook", "forward_pre_hook", "full_backward_hook"]
)
def test_layers_that_do_more_than_their_class_are_called(layer: nn.Module, how: str) -> None:
    layer, x = copy.deepcopy(layer), torch.rand(40, 3, 9, 9)
    fast = can_cut if isinstance(layer, nn.Conv2d) else can_normalise
    assert fast(layer, x)
    if how == "forward":
        layer.forward = torch.relu  # type: ignore[method-assign]
    else:
        getattr(layer, f"register_{how}")(lambda *given: None)
    assert not fast(layer, x)


@pytest.mark.usefixtures("small_pieces")
def test_what_is_not_cut() -> None:
    x = torch.rand(40, 3, 9, 9)
    assert not can_cut(nn.Conv2d(3, 4, 3, padding="same"), x)
    assert not can_cut(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular"), x)
    assert not can_cut(nn.ConvTranspose2d(3, 4, 3), x)
    assert not can_cut(nn.Conv2d(3, 4, 3), x[:1, :, :3, :3])
    assert not can_cut(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), x)


@pytest.mark.parametrize(("norm", "shape"), NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batch_norm(norm: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    norm, x = copy.deepcopy(norm), (3 * torch.randn(shape) + 5).to(dtype)
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    other = copy.deepcopy(norm)
    assert can_normalise(norm, x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for _ in range(2):
        ours, theirs = results(norm, lambda x: normalise(norm, x)[0], x), results(other, other, x)
        close(ours, theirs, tolerance)
    for ours_state, state in zip(norm.buffers(), other.buffers()):
        torch.testing.assert_close(ours_state, state, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("steps", [1, 3])
def test_batch_norm_in_the_loop_of_the_neurons(steps: int, pooled: bool) -> None:
    torch.manual_seed(0)
    norm, neuron = nn.BatchNorm2d(3), leaky(learn_beta=True)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, 0.5, 1.5)
    both, x = nn.ModuleList([norm, neuron]), torch.randn(steps, 4, 3, 6, 8)
    assert can_join(neuron, norm, x.flatten(0, 1))

    def joined(x: Tensor) -> Tensor:
        spikes, mem = unroll(neuron, x, 3, pooled, norm=norm)
        return torch.cat([spikes.flatten(), mem.flatten()])

    def apart(x: Tensor) -> Tensor:
        normed = norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        spikes, mem = unroll(neuron, normed, 3, pooled)
        return torch.cat([spikes.flatten(), mem.flatten()])

    close(results(both, joined, x), results(both, apart, x))


def test_what_norms_and_neurons_do_apart() -> None:
    norm, x = nn.BatchNorm2d(3), torch.randn(4, 3, 6, 8)
    assert not can_join(leaky(threshold=torch.ones(3, 1, 1)), norm, x)
    assert not can_normalise(nn.BatchNorm2d(3).eval(), x)
    assert not can_normalise(nn.InstanceNorm2d(3), x)
    assert not can_normalise(nn.BatchNorm2d(3), x.double())
    assert not can_normalise(nn.BatchNorm1d(3), x[:, :, 0, 0])
    with engine("eager"):
        assert not can_join(leaky(), norm, x)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("low", [False, True])
def test_a_network_is_the_same_with_every_engine(low: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), leaky(), nn.AvgPool2d(2)),
        *(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Identity(), leaky()),
        *(nn.Flatten(), nn.Linear(64, 3)),
    )
    found, x = [], torch.rand(3, 13, 2, 8, 8)
    for name in ("numba", "eager"):
        for norm in (net[1], net[5]):
            norm.reset_running_stats()
        net.zero_grad()
        with engine(name), precision("bfloat16" if low else "float32"):
            output = run_steps(net, x).output.float()
        output.square().sum().backward()
        grads = [p.grad.clone() for p in net.parameters() if p.grad is not None]
        found.append([output.detach(), *grads, *(b.float() for b in net[1].buffers())])
    for a, b in zip(*found):
        apart = float((a - b).norm() / b.norm().clamp_min(1e-3))
        assert apart < (0.2 if low else 1e-4)
