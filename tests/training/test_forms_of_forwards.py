"""fit on forwards as they are written: orders of dimensions, the number of steps as an argument, sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn
from torch.nn import functional

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.models import OwnNet
from biril_nm.training import TrainConfig

N_STEPS, BATCH, N_IN, N_OUT = 6, 5, 7, 3
SETTINGS = TrainConfig(schedule="B", epochs=1, lr=0.02, device="cpu")


class Loop(nn.Module):
    """Its own loop over the steps; ``put`` makes the result of spikes and of another layer's values."""

    def __init__(self, put: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1 = nn.Linear(N_IN, 8), snn.Leaky(beta=0.9, threshold=0.2)
        self.fc2, self.lif2 = nn.Linear(8, N_OUT), snn.Leaky(beta=0.8, threshold=0.2)
        self.fc3, self.put = nn.Linear(N_OUT, N_OUT), put

    def loop(self, steps: Any) -> Any:
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, values = [], []
        for step in steps:
            spk, mem1 = self.lif1(self.fc1(step), mem1)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            spikes.append(spk)
            values.append(self.fc3(spk))
        return self.put(spikes, values)

    def forward(self, x: Tensor) -> Any:
        return self.loop(x)


class Samples(Loop):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x[:, n] for n in range(x.size(1)))


class Last(Loop):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x[..., n] for n in range(x.size(-1)))


class Image(Loop):
    def forward(self, x: Tensor) -> Any:
        return self.loop(x for _ in range(N_STEPS))


class Shown(Loop):
    """A picture, as often as is said."""

    def forward(self, x: Tensor, num_steps: int) -> Any:
        return self.loop(x for _ in range(num_steps))


class Counted(Loop):
    """All steps, and how many they are."""

    def forward(self, data: Tensor, timestep: int) -> Any:
        return self.loop(data[n] for n in range(timestep))


CALLS: dict[type[Loop], tuple[str, Callable[[nn.Module, Tensor], Any]]] = {
    Loop: ("steps", lambda net, x: net(x)),
    Samples: ("samples", lambda net, x: net(x.transpose(0, 1))),
    Last: ("last", lambda net, x: net(x.movedim(0, -1))),
    Image: ("image", lambda net, x: net(x[0])),
    Shown: ("image", lambda net, x: net(x[0], len(x))),
    Counted: ("steps", lambda net, x: net(x, len(x))),
}
PUTS: dict[str, Callable[..., Any]] = {
    "spikes": lambda spikes, values: torch.stack(spikes),
    "spikes of samples": lambda spikes, values: (torch.stack(spikes, dim=1), values),
    "count": lambda spikes, values: torch.stack(spikes).sum(0),
    "mean of a layer": lambda spikes, values: sum(values) / len(values),
}


def scores_of(put: str, net: Loop, output: Any) -> Tensor:
    """As the page says them."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    if not put.startswith("spikes"):
        return found
    count = found.sum(1 if put == "spikes of samples" else 0)
    return count + net.lif2.mem / net.lif2.threshold


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("kind", CALLS)
def test_a_forward_is_trained_as_a_loop_trains_it(kind: type[Loop], put: str) -> None:
    random = torch.Generator().manual_seed(1)
    images = kind in (Image, Shown)
    shape = (BATCH, N_IN) if images else (N_STEPS, BATCH, N_IN)
    batches = [
        (torch.rand(shape, generator=random).round(), torch.arange(BATCH) % N_OUT) for _ in range(3)
    ]
    net, other = kind(PUTS[put]), kind(PUTS[put])
    own = OwnNet(net, Coding("direct" if images else "spikes", N_STEPS))
    history = bnm.fit(own, (batches, None), SETTINGS)
    optimizer, losses = torch.optim.Adam(other.parameters(), SETTINGS.lr_at(0)), []
    takes, call = CALLS[kind]
    for values, labels in batches:
        x = values.expand(N_STEPS, *values.shape) if images else values
        loss = functional.cross_entropy(scores_of(put, other, call(other, x)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert own.takes == takes
    assert history.records[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    for mine, theirs in zip(net.parameters(), other.parameters()):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert not torch.equal(net.fc1.weight, kind(PUTS[put]).fc1.weight)


@pytest.mark.parametrize("put", ["spikes", "count"])
@pytest.mark.parametrize("kind", [kind for kind in CALLS if kind is not Image])
@pytest.mark.parametrize(("n_steps", "batch"), [(1, 1), (1, 2), (1, 4), (2, 3), (3, 3), (3, 2)])
def test_any_numbers_of_steps_and_samples_show_what_a_forward_takes(
    kind: type[Loop], put: str, n_steps: int, batch: int
) -> None:
    x = torch.rand(batch, N_IN, generator=torch.Generator().manual_seed(2))
    steps = x.expand(n_steps, batch, N_IN)
    net = kind(PUTS[put])
    takes, call = CALLS[kind]
    own = OwnNet(net, Coding("direct", n_steps))
    with torch.no_grad():
        scores = own(steps).scores
        expected = scores_of(put, net, call(net, steps))
    assert own.takes == takes
    torch.testing.assert_close(scores, expected)
