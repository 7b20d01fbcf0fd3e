"""Gradients of weights as sums over spikes: any shape, layout and thread, and where they are not taken."""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch._ops import ops

from biril_nm.models import pieces
from biril_nm.models.pieces import convolve
from biril_nm.models.running import run_steps
from biril_nm.neurons import kernels, spike_sums
from biril_nm.neurons.spike_sums import pays, weight_gradient
from biril_nm.neurons.unroll import ENGINES, LOOPS, engine
from biril_nm.storage.machine_code import folder_of, is_kept

PLAIN = ((1, 1), (1, 1), (1, 1))  # stride, padding, dilation
EDGE = 64  # numbers around an array that nothing may touch
WRONG = {"f": np.nan, "i": -7, "u": 1}  # of floats, and of places


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Results of the sums that convolutions in small pieces take."""
    found: list[Tensor] = []

    def spied(*given: Any) -> Tensor:
        found.append(weight_gradient(*given))
        return found[-1]

    monkeypatch.setattr(pieces, "PIECE", 1 << 9)
    monkeypatch.setattr(pieces, "weight_gradient", spied)
    return found


@pytest.fixture
def _fenced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops get copies of their arrays in the middle of larger ones, whose edges must stay as they were."""

    def side_by_side(kernel: Callable[..., Any], calls: list[tuple[Any, ...]]) -> None:
        for call in calls:
            fences: list[Any] = []
            kernel(*(_inside(each, fences) for each in call))
            for array, whole in fences:
                wrong = WRONG[array.dtype.kind]
                np.testing.assert_array_equal(whole[:EDGE], np.full(EDGE, wrong, array.dtype))
                np.testing.assert_array_equal(whole[-EDGE:], np.full(EDGE, wrong, array.dtype))
                array[...] = whole[EDGE:-EDGE].reshape(array.shape)

    monkeypatch.setattr(spike_sums, "side_by_side", side_by_side)


def _inside(given: Any, fences: list[Any]) -> Any:
    if isinstance(given, tuple):
        return tuple(_inside(each, fences) for each in given)
    whole = np.full(given.size + 2 * EDGE, WRONG[given.dtype.kind], given.dtype)
    whole[EDGE:-EDGE] = given.ravel()
    fences.append((given, whole))
    return whole[EDGE:-EDGE].reshape(given.shape)


def dense(x: Tensor, grad: Tensor, shape: torch.Size, settings: Any) -> Tensor:
    """The same by torch's convolution, in float64."""
    given = (grad.double(), x.double(), torch.zeros(shape, dtype=torch.float64))
    rest = (None, *settings, False, (0,) * (len(shape) - 2), 1, [False, True, False])
    found: Tensor = ops.aten.convolution_backward(*given, *rest)[1]
    return found


def random_case(seed: int) -> tuple[Tensor, Tensor, torch.Size, Any]:
    """Spikes, a gradient, the shape of the weights, and stride, padding and dilation."""
    draw = random.Random(seed)
    n_dims = draw.choice([1, 2, 2, 3])
    kernel = [draw.choice([1, 2, 3, 5] if n_dims < 3 else [1, 2, 3]) for _ in range(n_dims)]
    stride = tuple(draw.choice([1, 1, 2, 3, 7]) for _ in kernel)
    padding = tuple(draw.choice([0, 1, 2, 6]) for _ in kernel)
    dilation = tuple(draw.choice([1, 1, 2, 5]) for _ in kernel)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation)]
    limit = {1: 600, 2: 24, 3: 6}[n_dims]  # about as many places as are summed at a time
    size = [m if draw.random() < 0.3 else max(m, draw.randint(1, limit)) for m in least]
    n, outputs = draw.choice([1, 2, 7, 33]), draw.choice([1, 31, 32, 33, 64, 70])
    shape = torch.Size((outputs, draw.choice([1, 3, 8]), *kernel))
    torch.manual_seed(seed)
    x = torch.rand(n, shape[1], *size) < draw.choice([0.0, 0.1, 0.5, 1.1])
    out = [
        (m + 2 * p - d * (k - 1) - 1) // s + 1
        for m, k, s, p, d in zip(size, kernel, stride, padding, dilation)
    ]
    return x, torch.randn(n, outputs, *out), shape, (stride, padding, dilation)


@pytest.mark.usefixtures("_fenced")
def test_any_shape_within_the_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(150):
        parts = seed % 4 + 1
        monkeypatch.setattr(spike_sums, "threads_for", lambda _, most, p=parts: min(p, most))
        x, grad, *further = random_case(seed)
        found, exact = weight_gradient(x, grad, *further), dense(x, grad, *further)
        summands = float(dense(x, grad.abs(), *further).max())
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-6 * summands)


def test_gradients_and_inputs_of_any_layout(summed: list[Tensor]) -> None:
    conv, x = nn.Conv2d(5, 40, 3, padding=1), (torch.rand(40, 5, 9, 8) < 0.2).float()
    grad = torch.randn(conv(x).shape)
    grads = [
        torch.randn(1, 40, 1, 1).expand(grad.shape),
        torch.randn(grad.numel() + 1)[1:].view(grad.shape),
        torch.cat([grad, grad], 3)[..., ::2],
        grad.contiguous(memory_format=torch.channels_last),
    ]
    inputs = [x, x.contiguous(memory_format=torch.channels_last), x[:1].expand(x.shape)]
    for g in grads:
        for given in inputs:
            found = []
            for run in (lambda x: convolve(conv, x, x.bool()), conv):
                conv.zero_grad()
                run(given).backward(g)
                found.append([p.grad.clone() for p in conv.parameters() if p.grad is not None])
            for ours, theirs in zip(*found):
                apart = 1e-5 * float(theirs.abs().max())
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=apart)
    assert len(summed) >= len(grads) * len(inputs)


@pytest.mark.parametrize("share", [0.2, 0.4])
@pytest.mark.parametrize("last", [False, True])
def test_layers_in_bfloat16_sum_in_float32(share: float, last: bool, summed: list[Tensor]) -> None:
    conv, places = nn.Conv2d(128, 256, 3, stride=2, padding=1), 20 * 128 * 7 * 6
    x = (torch.randperm(places) < share * places).float().view(20, 128, 7, 6)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = convolve(conv, x, x.detach().bool())
    grad = torch.randn(found.shape).bfloat16()
    found.backward(grad)
    assert len(summed) == (share < 0.25)
    ours = [x.grad, conv.weight.grad, conv.bias.grad]
    exact, given = copy.deepcopy(conv).bfloat16().double(), x.detach().double().requires_grad_()
    exact.zero_grad()
    exact(given).backward(grad.double())
    theirs = [given.grad, exact.weight.grad, exact.bias.grad]
    for i, (a, b) in enumerate(zip(ours, theirs)):
        apart = 1e-5 if summed and i else 1e-2
        assert (a - b).abs().max() < apart * b.abs().max()  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("frozen", ["weight", "bias", "x"])
def test_what_needs_no_gradient_gets_none(frozen: str, summed: list[Tensor]) -> None:
    conv = nn.Conv2d(5, 40, 3, padding=1)
    x = (torch.rand(40, 5, 9, 8) < 0.2).float().requires_grad_()
    leaves = {**dict(conv.named_parameters()), "x": x}
    leaves[frozen].requires_grad_(False)
    convolve(conv, x, x.bool()).sum().backward()
    assert {name for name, leaf in leaves.items() if leaf.grad is None} == {frozen}
    assert bool(summed) == (frozen != "weight")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_so_at_the_weights_of_its_output(wrong: float) -> None:
    x, grad = torch.rand(4, 8, 9, 9) < 0.2, torch.randn(4, 40, 9, 9)
    x[2, 3, 4, 4], grad[2, 7, 4, 4] = True, wrong
    found = weight_gradient(x, grad, torch.Size((40, 8, 3, 3)), PLAIN)
    assert not found[7, 3, 1, 1].isfinite()
    assert found[torch.arange(40) != 7].isfinite().all()


def test_on_any_number_of_threads() -> None:
    x, grad = torch.rand(8, 70, 20, 20) < 0.2, torch.randn(8, 40, 20, 20)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3, 5):
            torch.set_num_threads(n)
            found.append(weight_gradient(x, grad, torch.Size((40, 70, 3, 3)), PLAIN))
    finally:
        torch.set_num_threads(before)
    assert found[0].abs().sum() > 0
    assert all(torch.equal(each, found[0]) for each in found)


def test_called_from_several_threads_at_once() -> None:
    x, grad = torch.rand(8, 70, 20, 20) < 0.2, torch.randn(8, 40, 20, 20)
    given = (x, grad, torch.Size((40, 70, 3, 3)), PLAIN)
    expected, found = weight_gradient(*given), []

    def work() -> None:
        found.extend(weight_gradient(*given) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert all(torch.equal(each, expected) for each in found)


@pytest.mark.parametrize("name", [name for name in ENGINES if name != "compiled"])
def test_engines_without_compiled_loops_convolve(name: str, summed: list[Tensor]) -> None:
    leaky: Any = {"beta": 0.5, "init_hidden": True, "threshold": 0.5, "reset_mechanism": "zero"}
    layers = [nn.Conv2d(1, 8, 3, padding=1), snn.Leaky(**leaky), nn.Conv2d(8, 32, 3, padding=1)]
    net = nn.Sequential(*layers, snn.Leaky(**leaky))
    with engine(name):
        run_steps(net, torch.rand(3, 8, 1, 8, 8)).output.sum().backward()
    assert net[2].weight.grad is not None
    assert bool(summed) == (name in LOOPS)


def test_many_spikes_few_channels_and_groups_are_convolved() -> None:
    weight, grad = torch.rand(32, 4, 3, 3), torch.rand(8, 32, 5, 5)
    few, many = torch.rand(8, 4, 5, 5) < 0.1, torch.rand(8, 4, 5, 5) < 0.9
    settings = (*PLAIN, False, (0, 0), 1)
    assert pays(few, weight, grad, settings)
    assert not pays(many, weight, grad, settings)
    assert not pays(few, weight, grad, (*settings[:-1], 2))
    assert not pays(few, weight[:16], grad, settings)
    assert not pays(few, weight[:, :, :1, :1], grad, settings)
    assert not pays(few.float(), weight, grad, settings)
    assert not pays(few, weight, grad.bfloat16(), settings)


def test_where_convolutions_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(outputs: int, channels: int, sizes: tuple[int, int, int], stride: int = 1) -> bool:
        given, kernel, found = sizes
        x = torch.zeros(2, channels, given, given, dtype=torch.bool)
        weight = torch.zeros(outputs, channels, kernel, kernel)
        settings = ((stride, stride), (0, 0), (1, 1), False, (0, 0), 1)
        return pays(x, weight, torch.zeros(2, outputs, found, found), settings)

    assert chosen(32, 4, (10, 3, 8))
    assert not chosen(32, 3, (10, 3, 8))
    assert chosen(32, 4, (16, 2, 8), 2)
    assert not chosen(32, 4, (16, 4, 4), 4)  # each tap joins one of 16 spikes
    assert chosen(128, 4, (16, 4, 4), 4)
    assert not chosen(32, 4, (7, 7, 1))  # as far apart without a stride
    assert not chosen(32, 4, (512, 11, 502))  # a table of 121 taps and 512 x 512 places
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert not chosen(32, 4, (10, 3, 8))


def test_machine_code_of_the_sums_is_kept() -> None:
    weight_gradient(
        torch.ones(1, 4, 3, 3).bool(), torch.ones(1, 32, 3, 3), torch.Size((32, 4, 3, 3)), PLAIN
    )
    for loop in (spike_sums.sum_loop, spike_sums.to_rows_loop, spike_sums.from_rows_loop):
        code: Any = kernels.compiled(loop)
        if folder_of(code) is None:
            pytest.skip("this machine has no private folder for machine code")
        assert all(is_kept(code, types) for types in code.signatures)
        assert code.signatures
