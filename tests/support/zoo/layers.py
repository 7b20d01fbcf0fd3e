"""Layers, parameters, additions, wiring and readouts."""

from __future__ import annotations

import snntorch as snn
import torch
from torch import nn

from tests.support.zoo.registry import HIDDEN, louder, net, with_statistics

# --- layers --------------------------------------------------------------------------------------


@net
def conv1d_stack():
    module = nn.Sequential(
        nn.Conv1d(3, 6, 5, stride=2, padding=2, groups=3),
        nn.BatchNorm1d(6),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.AvgPool1d(2),
        nn.Conv1d(6, 4, 3, dilation=2),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.Flatten(),
        nn.Linear(4 * 4, 5),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
    )
    return louder(with_statistics(module), 3.0), (3, 32), "step"


@net
def grouped_oblong_kernels():
    module = nn.Sequential(
        nn.Conv2d(2, 4, (3, 5), padding=(1, 2)),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.Conv2d(4, 8, 3, groups=4, stride=(1, 2)),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
    )
    return louder(module, 4.0), (2, 7, 10), "step"


@net
def kernels_of_odd_difference():
    module = nn.Sequential(
        nn.Conv2d(1, 3, (2, 5), padding=(1, 0)),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.Conv2d(3, 6, (4, 1), padding=(0, 1), groups=3, dilation=(1, 2)),
        nn.BatchNorm2d(6),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.Conv2d(6, 2, (1, 2), stride=(2, 3)),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
    )
    return louder(with_statistics(module), 4.0), (1, 9, 12), "step"


@net
def sum_and_adaptive_pooling():
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding="same"),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.LPPool2d(1, 2),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(6, 4),
        snn.Leaky(beta=0.9, threshold=0.5, **HIDDEN),
    )
    return louder(module, 4.0), (1, 8, 6), "step"


@net
def batchnorm_behind_pooling_and_before_conv():
    module = nn.Sequential(
        nn.BatchNorm2d(2),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(4),
        snn.Leaky(beta=0.9, **HIDDEN),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 3, padding=1),
        snn.Leaky(beta=0.9, **HIDDEN),
        nn.Flatten(),
        nn.BatchNorm1d(4 * 3 * 4),
        nn.Linear(48, 5),
        snn.Leaky(beta=0.9, **HIDDEN),
    )
    return louder(with_statistics(module), 2.0), (2, 6, 8), "step"


# --- parameters ----------------------------------------------------------------------------------


@net
def per_channel_and_per_neuron():
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        snn.Leaky(
            beta=torch.tensor([0.5, 0.8, 1.0]).reshape(3, 1, 1),
            threshold=torch.tensor([0.3, 0.5, 0.7]).reshape(3, 1, 1),
            learn_beta=True,
            **HIDDEN,
        ),
        nn.Flatten(),
        nn.Linear(3 * 4 * 5, 6),
        snn.Leaky(beta=torch.linspace(0, 1, 6), threshold=torch.linspace(0.5, 1, 6), **HIDDEN),
    )
    return louder(module, 3.0), (1, 6, 7), "step"


@net
def reset_kinds():
    module = nn.Sequential(
        nn.Linear(12, 10),
        snn.Leaky(beta=0.9, reset_mechanism="zero", **HIDDEN),
        nn.Linear(10, 10),
        snn.Leaky(beta=0.9, reset_mechanism="subtract", reset_delay=False, **HIDDEN),
        nn.Linear(10, 10),
        snn.Synaptic(alpha=0.5, beta=0.9, reset_mechanism="zero", reset_delay=False, **HIDDEN),
        nn.Linear(10, 10),
        snn.Synaptic(alpha=0.5, beta=0.9, reset_mechanism="zero", **HIDDEN),
        nn.Linear(10, 4),
        snn.Leaky(beta=0.7, reset_mechanism="none", **HIDDEN),
    )
    return louder(module, 3.0), (12,), "step"


@net
def lapicque():
    module = nn.Sequential(
        nn.Linear(12, 10),
        snn.Lapicque(R=5.0, C=1.0, time_step=1.0, threshold=0.5, **HIDDEN),
        nn.Linear(10, 6),
        snn.Lapicque(beta=0.8, threshold=0.3, reset_mechanism="zero", **HIDDEN),
    )
    return louder(module, 4.0), (12,), "step"


@net
def synaptic_alpha_one():
    neuron = snn.Synaptic(alpha=1.0, beta=torch.linspace(0.5, 1.0, 8), threshold=20.0, **HIDDEN)
    return louder(nn.Sequential(nn.Linear(12, 8), neuron)), (12,), "step"


# --- additions, wiring, readouts ----------------------------------------------------------------


class Additions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (nn.Linear(12, 8) for _ in range(3))
        self.lif1 = snn.Leaky(beta=0.9, **HIDDEN)
        self.fc4, self.lif2 = nn.Linear(8, 8), snn.Leaky(beta=0.9, **HIDDEN)
        self.lif3 = snn.Leaky(beta=0.9, threshold=3.0, **HIDDEN)

    def forward(self, x):
        a = torch.add(self.fc1(x), self.fc2(x))
        a += 0.5 * self.fc3(x)
        s = self.lif1(a)
        t = self.lif2(self.fc4(s) - s / 4)
        return self.lif3(s + t + s)


@net
def additions():
    return louder(Additions()), (12,), "step"


class Blocks(nn.Module):
    """Nested modules, ModuleList, a module without effect, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        block = lambda a, b: nn.Sequential(nn.Linear(a, b), snn.Leaky(beta=0.9, **HIDDEN))  # noqa: E731
        self.stem = block(12, 10)
        self.blocks = nn.ModuleList([block(10, 10), block(10, 10)])
        self.heads = nn.ModuleDict({"a": block(10, 3), "b": block(10, 2)})

    def forward(self, x):
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x) + x
        return self.heads["a"](x), self.heads["b"](x)


@net
def nested_blocks_with_two_heads():
    return louder(Blocks()), (12,), "step"


class Membrane(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Leaky(beta=0.9)
        self.fc2, self.readout = nn.Linear(16, 4), snn.Leaky(**options)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.readout.init_leaky()
        mems = []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            _, mem2 = self.readout(self.fc2(spk1), mem2)
            mems.append(mem2)
        return torch.stack(mems)


@net
def membrane_readout_without_reset():
    return louder(Membrane(beta=0.95, reset_mechanism="none")), (12,), "loop"


@net
def membrane_readout_behind_a_huge_threshold():
    return louder(Membrane(beta=1.0, threshold=1e9)), (12,), "loop"


class LinearEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Leaky(beta=0.9)
        self.fc2 = nn.Linear(16, 4)

    def forward(self, x):
        mem = self.lif1.init_leaky()
        total = 0.0
        for step in range(x.size(0)):
            spk, mem = self.lif1(self.fc1(x[step]), mem)
            total += self.fc2(spk)
        return total / x.size(0)


@net
def linear_end():
    return louder(LinearEnd()), (12,), "loop"
