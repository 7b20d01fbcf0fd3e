"""A user's network: neurons of snnTorch in a loop over time inside forward, read as (spikes, membrane)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import snntorch as snn
import torch
from torch import Tensor, nn

__all__ = ["CALLED", "Loop", "OneStep", "SamplesFirst", "broken", "constant", "samples"]

CALLED: list[str] = []  # what a test finds imported or made
NEURON = {"beta": 0.9, "reset_mechanism": "zero", "reset_delay": False}


class Loop(nn.Module):
    """All steps of 12 lines; spikes and membranes of 4 classes."""

    def __init__(self, hidden: int = 10) -> None:
        super().__init__()
        CALLED.append("Loop")
        self.fc1, self.lif1 = nn.Linear(12, hidden), snn.Leaky(**NEURON)
        self.fc2, self.lif2 = nn.Linear(hidden, 4), snn.Leaky(**NEURON)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = self.lif1.init_leaky(), self.lif2.init_leaky()
        found = []
        for step in x:
            spikes, first = self.lif1(self.fc1(step), first)
            spikes, second = self.lif2(self.fc2(spikes), second)
            found.append((spikes, second))
        spikes, membranes = zip(*found)
        return torch.stack(spikes), torch.stack(membranes)

    @classmethod
    def strong(cls) -> Loop:
        """One whose neurons spike."""
        torch.manual_seed(0)
        net = cls()
        with torch.no_grad():
            for parameter in net.fc1.weight, net.fc2.weight:
                parameter.mul_(5)
        return net


class OneStep(Loop):
    """The same, one step a call."""

    def __init__(self) -> None:
        super().__init__()
        self.lif1, self.lif2 = (snn.Leaky(init_hidden=True, **NEURON) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.lif2(self.fc2(self.lif1(self.fc1(x))))


class SamplesFirst(Loop):
    """The same loop over input ``(batch, n_steps, 12)``, as data loaders give it."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x.transpose(0, 1))


broken: Callable[[], int] = lambda: 3  # noqa: E731
constant = 3


def samples(n: int = 30, n_steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Spikes ``(n_steps, n, 12)`` of both kinds, and classes."""
    random = np.random.default_rng(0)
    return (random.random((n_steps, n, 12)) < 0.4).astype(np.uint8), random.integers(0, 4, n)
