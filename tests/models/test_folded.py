"""Own networks over all steps at once: equal to step by step, whatever their forward does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.models.effects import effects
from biril_nm.models.links import find_links
from biril_nm.models.running import run_in_loop, run_steps, step_graph
from biril_nm.models.tracing import UntraceableError, readout_name

N_STEPS, BATCH = 6, 4


def leaky(**changes: Any) -> snn.Leaky:
    return snn.Leaky(beta=0.8, **{"init_hidden": True, **changes})


class Block(nn.Module):
    """Two convolutions, and what came in added to what comes out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.lif1 = leaky(reset_mechanism="zero", reset_delay=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.lif2 = leaky()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.lif1(self.norm(self.conv1(x))))
        y += x
        spikes: Tensor = self.lif2(y)
        return spikes


class Own(nn.Module):
    """A network whose forward of one step is ``step(self, x)``."""

    def __init__(self, step: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.lif = nn.Conv2d(2, 4, 3, padding=1), leaky()
        self.stage = nn.Sequential(Block(4), Block(4))
        self.recurrent = snn.RLeaky(beta=0.7, all_to_all=False, init_hidden=True)
        self.synaptic = snn.Synaptic(alpha=0.5, beta=0.5, init_hidden=True)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(4, 5)
        with torch.no_grad():  # so that the readout fires
            self.fc.weight.mul_(4)
            self.fc.bias.abs_().add_(0.2)
        self.out = snn.Leaky(beta=0.9, reset_mechanism="zero", reset_delay=False)
        self.step = step
        self.held: Any = None
        self.count = 0
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Any:
        return self.step(self, x)

    def head(self, y: Tensor) -> Any:
        """Spikes and membrane of the readout, of a picture."""
        return self.out(self.fc(y.mean((2, 3))))


def residual(net: Any, x: Tensor) -> Any:
    y = functional.relu(net.lif(net.conv(x)) * 2)
    y = functional.adaptive_avg_pool2d(net.stage(y), 1).view(x.size(0), -1)
    rows, columns = y.shape
    return net.out(net.fc(y.reshape(rows, columns)))


def mixes_samples(net: Any, x: Tensor) -> Any:
    y = net.lif(net.conv(x))
    y = (y - y.mean()).flip(0)
    y = net.stage(torch.cat([y[:, :2], y[:, 2:]], 1)).mean((2, 3))
    return net.out(net.fc(torch.softmax(y, 0)))


def keeps_state(net: Any, x: Tensor) -> Any:
    y = net.lif(net.conv(x))
    net.held = y if net.held is None else y + net.held
    return net.head(net.held)


def counts(net: Any, x: Tensor) -> Any:
    net.count += 1
    net.seen.append(net.count)
    return net.head(net.lif(net.conv(x)) * net.count)


def depends_on_values(net: Any, x: Tensor) -> Any:
    y = net.lif(net.conv(x))
    return net.head(y * 2 if y.sum() > 40 else y)


def recurrent(net: Any, x: Tensor) -> Any:
    return net.head(net.synaptic(net.recurrent(net.conv(x))))


def twice(net: Any, x: Tensor) -> Any:
    return net.head(net.lif(net.conv(x)) + net.lif(2 * net.conv(x)))


def membrane(net: Any, x: Tensor) -> Any:
    return net.head(net.lif(net.conv(x)))[1]


FOLDED = [residual, mixes_samples, recurrent, membrane]
LOOPED = [keeps_state, counts, depends_on_values, twice]


def images(constant: bool) -> Tensor:
    x = torch.rand(N_STEPS, BATCH, 2, 8, 8, generator=torch.Generator().manual_seed(3)) * 2
    return x[0].expand(x.shape) if constant else x


@pytest.mark.parametrize("constant", [False, True], ids=["moving", "constant"])
@pytest.mark.parametrize("step", FOLDED + LOOPED, ids=lambda step: step.__name__)
def test_all_steps_equal_the_loop(step: Callable[[Any, Tensor], Any], constant: bool) -> None:
    torch.manual_seed(1)
    net = Own(step).eval()
    x = images(constant)
    names = ["recurrent" if step is recurrent else "lif", "out"]
    with torch.no_grad():
        ours, again = run_steps(net, x, names), run_steps(net, x, names)
        loop = run_in_loop(net, x, names)
    for name in names:
        if step is not twice or name == "out":
            assert 0 < loop.recorded[name].mean() < 1
            assert torch.equal(ours.recorded[name], loop.recorded[name])
    if step is not membrane:
        assert torch.equal(ours.output, loop.output)
        assert torch.equal(ours.output, again.output)
    torch.testing.assert_close(ours.output, loop.output, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.membranes["out"], loop.membranes["out"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", LOOPED, ids=lambda step: step.__name__)
def test_what_needs_the_loop_says_why_and_stays_as_it_was(step: Callable[..., Any]) -> None:
    net = Own(step)
    reasons = {
        keeps_state: "the forward changes held",
        counts: "the forward changes count, seen",
        depends_on_values: "cannot be traced",
        twice: "'lif' is called twice in a step",
    }
    with pytest.raises(UntraceableError, match=reasons[step]):
        step_graph(net)
    assert (net.held, net.count, net.seen) == (None, 0, [])


def test_random_numbers_and_hooks_need_the_loop() -> None:
    noisy = Own(lambda net, x: net.head(net.lif(net.conv(x)) * torch.rand(1)))
    with pytest.raises(UntraceableError, match="draws random numbers"):
        step_graph(noisy)
    hooked = Own(residual)
    step_graph(hooked)
    hooked.conv.register_forward_hook(lambda *_: None)
    with pytest.raises(UntraceableError, match="'conv' has hooks"):
        step_graph(hooked)


def test_dropout_of_a_constant_input_differs_at_each_step() -> None:
    net = Own(lambda net, x: net.head(net.lif(net.drop(x).repeat(1, 2, 1, 1) * 3)))
    found = run_steps(net, images(True), ["lif"]).recorded["lif"]
    assert not torch.equal(found[0] > 0, found[1] > 0)


def test_the_search_for_mixing_operations_leaves_no_mark() -> None:
    net = Own(residual)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    numbers = torch.random.get_rng_state()
    net.train()
    run_steps(net, images(False))
    assert torch.equal(torch.random.get_rng_state(), numbers)
    norm = net.stage[0].norm
    assert norm.num_batches_tracked == 1  # of the run itself: all steps at once
    moved = [k for k, v in net.state_dict().items() if not torch.equal(v, before[k])]
    assert all("norm.running" in name or "num_batches" in name for name in moved)


def test_memory_that_is_used_again_is_no_state_of_neurons() -> None:
    """Its sum in place gets the memory that some value before it has left, another each time."""
    net, x = Own(residual).eval(), images(False)[0]
    graph, left = step_graph(net), []
    for number in range(150):
        left.append(torch.rand(number % 7 + 1))
        left = left if number % 5 else []
        assert effects(graph, net, x).writers == {"iadd", "iadd_1"}


@pytest.mark.parametrize("step", [*FOLDED, keeps_state], ids=lambda step: step.__name__)
def test_gradients_equal_those_of_the_loop(step: Callable[..., Any]) -> None:
    torch.manual_seed(1)
    net = Own(step).eval()
    found = []
    for run in (run_steps, run_in_loop):
        net.zero_grad()
        run(net, images(False)).output.square().sum().backward()
        found.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert found[1]["conv.weight"].abs().sum() > 0
    largest = max(float(gradient.abs().max()) for gradient in found[1].values())
    for name, gradient in found[1].items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=1e-5 * largest)


def test_a_step_that_takes_its_states() -> None:
    class Explicit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(3, 4), snn.Leaky(beta=0.5)

        def forward(self, x: Tensor, mem: Tensor | None) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = self.lif(self.fc(x), mem)
            return found

    torch.manual_seed(0)
    net, x = Explicit(), torch.rand(5, 2, 3) * 4
    mem, expected = None, []
    for step in x:
        spikes, mem = net(step, mem)
        expected.append(spikes)
    net.lif.reset_mem()
    assert torch.equal(run_steps(net, x).output, torch.stack(expected))
    assert torch.stack(expected).sum() > 0


def test_links_of_a_residual_network() -> None:
    net = Own(residual)
    graph = step_graph(net)
    assert readout_name(graph, net) == "out"
    found = [(link.name, link.pre, link.post) for link in find_links(graph, net)]
    assert found == [
        ("conv", "input", "lif"),
        ("stage.0.conv1", "lif", "stage.0.lif1"),
        ("stage.0.conv2", "stage.0.lif1", "stage.0.lif2"),
        ("stage.1.conv1", "stage.0.lif2", "stage.1.lif1"),
        ("stage.1.conv2", "stage.1.lif1", "stage.1.lif2"),
        ("fc", "stage.1.lif2", "out"),
    ]
    between = find_links(graph, net)[1].between
    spikes = torch.ones(2, 4, 3, 3)
    assert torch.equal(between[0](spikes), 2 * spikes)


def test_a_sum_of_two_populations_has_two_links() -> None:
    net = Own(lambda net, x: net.head(net.lif(net.conv(x)) + net.synaptic(net.conv(x))))
    found = [(link.name, link.pre, link.post) for link in find_links(step_graph(net), net)]
    assert ("fc", "lif", "out") in found
    assert ("fc", "synaptic", "out") in found
