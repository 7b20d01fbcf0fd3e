"""States as arguments of a forward of one step, with a default or not, and forwards that forget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError
from biril_nm.export import lower, to_nir
from biril_nm.models import OwnNet
from biril_nm.neurons.unroll import engine

N_STEPS = 6
CODING = Coding("spikes", N_STEPS)


class Two(nn.Module):
    """Two layers whose states forward is given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1 = nn.Linear(20, 30), snn.Leaky(beta=0.9, threshold=0.5, **settings)
        self.fc2, self.lif2 = nn.Linear(30, 4), snn.Leaky(beta=0.9, threshold=0.5, **settings)

    def step(self, x: Tensor, first: Any, second: Any) -> tuple[Tensor, Tensor, Tensor]:
        if first is None:
            first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, first = self.lif1(self.fc1(x), first)
        spikes, second = self.lif2(self.fc2(spikes), second)
        return spikes, first, second


class Required(Two):
    def forward(self, x: Tensor, first: Any, second: Any) -> Any:
        return self.step(x, first, second)


class Optional(Two):
    def forward(self, x: Tensor, first: Any = None, second: Any = None) -> Any:
        return self.step(x, first, second)


class Mixed(Two):
    def forward(self, x: Tensor, first: Any, second: Any = None, record: bool = False) -> Any:
        return self.step(x, first, second)


class Together(Two):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        spikes, *state = self.step(x, *(state or (None, None)))
        return spikes, tuple(state)


class Named(Two):
    def forward(self, x: Tensor, state: Any = None) -> Any:
        first, second = (state["first"], state["second"]) if state else (None, None)
        spikes, first, second = self.step(x, first, second)
        return spikes, {"first": first, "second": second}


class InNeurons(Two):
    """What is not a state: the neurons keep theirs, and forward returns one."""

    def forward(self, x: Tensor, mask: Any = None, record: bool = False) -> Any:
        x = x if mask is None else x * mask
        spikes, _ = self.lif1(self.fc1(x))
        return self.lif2(self.fc2(spikes))


class Unused(Two):
    def forward(self, x: Tensor, n_steps: Any = None) -> Any:
        del n_steps
        return self.lif2(self.fc2(self.lif1(self.fc1(x))[0]))[0]


ALIKE = (Required, Optional, Mixed, Together, Named, InNeurons, Unused)


def spikes() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return (torch.rand(N_STEPS, 5, 20, generator=random) < 0.5).float()


@pytest.mark.parametrize("name", ["loop", "auto"])
@pytest.mark.parametrize("kind", ALIKE, ids=lambda kind: kind.__name__)
def test_states_are_carried_however_they_are_taken(kind: Callable[..., Any], name: str) -> None:
    x, net = spikes(), kind()
    rows, first, second = [], None, None
    for row in x:
        found, first, second = net.step(row, first, second)
        rows.append(found)
    expected = torch.stack(rows)
    with engine(name), torch.no_grad():
        out = OwnNet(net, CODING)(x)
    assert expected.sum() > 0
    assert torch.equal(out.spikes, expected)
    torch.testing.assert_close(out.membrane, second / 0.5)


@pytest.mark.parametrize("kind", [Required, Optional, Together], ids=lambda kind: kind.__name__)
def test_parity_runs_the_network_that_was_trained(kind: Callable[..., Any]) -> None:
    x, net = spikes(), kind()
    values = x.numpy().astype(np.uint8)
    bnm.fit(net, ([(values, np.arange(5) % 4)], None), bnm.TrainConfig(schedule="B"), coding=CODING)
    graph = lower(to_nir(net, x[0], dt_s=1e-3))
    with torch.no_grad():
        trained = OwnNet(net, CODING)(x).spikes.sum().item()
    assert run_torch(net, values, CODING).n_spikes["lif2"] == trained
    bnm.check_parity(graph, values, against=("torch", "sim"), net=net).raise_on_mismatch()


class Makes(Two):
    def forward(self, x: Tensor) -> Any:
        return self.step(x, None, None)


class Short(Two):
    def forward(self, x: Tensor, first: Any = None, second: Any = None) -> Any:
        return self.step(x, first, second)[:2]


class Listed(Two):
    def forward(self, x: Tensor, first: Any = None, second: Any = None) -> Any:
        spikes, *states = self.step(x, first, second)
        return spikes, states


class TooFew(Two):
    def forward(self, x: Tensor, first: Any, second: Any) -> Any:
        return self.step(x, first, second)[0]


class Trace(Two):
    """A value of its own with a default, beside neurons that keep theirs."""

    def forward(self, x: Tensor, trace: Any = None) -> Any:
        trace = x if trace is None else 0.5 * trace + x
        return self.lif2(self.fc2(self.lif1(self.fc1(trace))[0]))[0], trace


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Makes, "'lif1', 'lif2' of Makes would start each step from rest; expected their last states"),
        (Short, "'lif1', 'lif2' of Short would start each step from rest"),
        (Listed, "'lif1', 'lif2' of Listed would start .* return as many in the same order"),
        (TooFew, "TooFew takes 2 further arguments and returns 0 further results; expected as many"),
        (Trace, r"Trace takes 'trace' with a default .* by keyword only \(\*, trace=None\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_would_be_forgotten_in_silence_is_refused(
    kind: Callable[..., Any], message: str
) -> None:
    values = spikes().numpy().astype(np.uint8)
    settings = bnm.TrainConfig(schedule="B", epochs=1)
    with pytest.raises(ConfigError, match=message):
        bnm.fit(kind(), ([(values, np.arange(5) % 4)], None), settings, coding=CODING)


def test_the_trial_leaves_no_mark() -> None:
    net, x = Optional(), spikes()
    state = torch.random.get_rng_state()
    net.train()
    OwnNet(net, CODING)(x)
    assert net.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(layer._forward_hooks for layer in net.modules())
