"""The seven that snnTorch's own exporter fails on; states and loops in every style."""

from __future__ import annotations

import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.zoo.registry import HIDDEN, N_STEPS, louder, net, with_statistics

# --- the seven that snnTorch's own exporter fails on ---------------------------------------------


@net
def mlp():
    layers = (nn.Linear(12, 20), snn.Leaky(beta=0.9, **HIDDEN))
    return (
        louder(nn.Sequential(*layers, nn.Linear(20, 5), snn.Leaky(beta=0.8, **HIDDEN))),
        (12,),
        "step",
    )


@net
def conv_pool():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 5),
        nn.AvgPool2d(2),
        snn.Leaky(beta=0.5, **HIDDEN),
        nn.Conv2d(4, 6, 3),
        nn.AvgPool2d(2),
        snn.Leaky(beta=0.5, **HIDDEN),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 10),
        snn.Leaky(beta=0.5, output=True, **HIDDEN),
    )
    return louder(module, 4.0), (1, 16, 16), "step"


@net
def conv_batchnorm():
    module = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        snn.Leaky(beta=0.9, threshold=0.7, **HIDDEN),
        nn.AvgPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 3 * 4, 7),
        nn.BatchNorm1d(7),
        nn.Identity(),
        snn.Leaky(beta=0.95, **HIDDEN),
    )
    return louder(with_statistics(module)), (2, 6, 8), "step"


@net
def synaptic():
    module = nn.Sequential(nn.Linear(12, 15), snn.Synaptic(alpha=0.8, beta=0.9, **HIDDEN))
    return louder(module), (12,), "step"


class RecurrentNet(nn.Module):
    def __init__(self, neuron) -> None:
        super().__init__()
        self.fc1, self.rlif1 = nn.Linear(12, 10), neuron
        self.fc2, self.lif2 = nn.Linear(10, 4), snn.Leaky(beta=0.9)

    def forward(self, x):
        spk1, mem1 = self.rlif1.init_rleaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.rlif1(self.fc1(x[step]), spk1, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


@net
def rleaky():
    return louder(RecurrentNet(snn.RLeaky(beta=0.9, linear_features=10))), (12,), "loop"


@net
def beta_one():
    layers = (nn.Linear(12, 20), snn.Leaky(beta=1.0, **HIDDEN))
    return (
        louder(nn.Sequential(*layers, nn.Linear(20, 5), snn.Leaky(beta=1, **HIDDEN))),
        (12,),
        "step",
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(beta=0.9, **HIDDEN)
        self.conv2, self.lif2 = nn.Conv2d(4, 4, 3, padding=1), snn.Leaky(beta=0.9, **HIDDEN)
        self.skip = nn.Conv2d(4, 4, 1, bias=False)
        self.lif3 = snn.Leaky(beta=0.9, threshold=1.5, **HIDDEN)

    def forward(self, x):
        a = self.lif1(self.conv1(x))
        b = self.lif2(self.conv2(a))
        return self.lif3(b + self.skip(a) + a)


@net
def residual():
    return louder(Residual(), 3.0), (2, 5, 6), "step"


# --- states and loops in every style -------------------------------------------------------------


class Tutorial(nn.Module):
    """The network of snnTorch's tutorial 5: static image, loop and states in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 30), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(30, 10), snn.Leaky(beta=0.95)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spk2_rec, mem2_rec = [], []
        for _step in range(N_STEPS):
            cur1 = self.fc1(x)
            spk1, mem1 = self.lif1(cur1, mem1)
            cur2 = self.fc2(spk1)
            spk2, mem2 = self.lif2(cur2, mem2)
            spk2_rec.append(spk2)
            mem2_rec.append(mem2)
        return torch.stack(spk2_rec, dim=0), torch.stack(mem2_rec, dim=0)


@net
def tutorial_static():
    return louder(Tutorial()), (12,), "static"


class ExplicitStates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Leaky(beta=0.9, learn_beta=True)
        self.fc2, self.lif2 = nn.Linear(16, 4), snn.Leaky(beta=0.8, learn_threshold=True)

    def forward(self, x, mem1, mem2):
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
        return spk2, mem1, mem2


@net
def explicit_states():
    return louder(ExplicitStates()), (12,), "step"


class SynapticLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Synaptic(alpha=0.7, beta=0.9)
        self.fc2, self.lif2 = nn.Linear(16, 4), snn.Synaptic(alpha=0.7, beta=0.9)

    def forward(self, x):
        syn1, mem1 = self.lif1.init_synaptic()
        syn2, mem2 = self.lif2.reset_mem()
        count = 0
        for value in x:
            spk1, syn1, mem1 = self.lif1(self.fc1(value), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
            count = count + spk2
        return count


@net
def synaptic_loop_that_counts():
    return louder(SynapticLoop()), (12,), "loop"


class FunctionalConv(nn.Module):
    """Reshaping by tensor methods, functional dropout, states as attributes of forward's caller."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.5)
        self.pool = nn.AvgPool2d(2)
        self.fc, self.lif2 = nn.Linear(4 * 3 * 2, 5), snn.Leaky(beta=0.9)

    def forward(self, x, mem1=None, mem2=None):
        spk1, mem1 = self.lif1(self.bn1(self.conv1(x)), mem1)
        y = self.pool(spk1)
        y = F.dropout(y, 0.5, training=self.training)
        y = y.view(y.size(0), -1)
        spk2, mem2 = self.lif2(self.fc(y), mem2)
        return spk2, (mem1, mem2)


@net
def functional_conv():
    return louder(with_statistics(FunctionalConv()), 3.0), (1, 14, 11), "step"


@net
def rsynaptic():
    module = nn.Sequential(
        nn.Linear(12, 10), snn.RSynaptic(alpha=0.6, beta=0.8, linear_features=10, **HIDDEN)
    )
    return louder(module), (12,), "step"


@net
def rleaky_one_to_one():
    neuron = snn.RLeaky(beta=0.9, V=torch.linspace(-0.5, 0.5, 10), all_to_all=False, **HIDDEN)
    return louder(nn.Sequential(nn.Linear(12, 10), neuron)), (12,), "step"


@net
def rleaky_convolutional():
    neuron = snn.RLeaky(
        beta=0.8,
        conv2d_channels=3,
        kernel_size=3,
        reset_mechanism="zero",
        reset_delay=False,
        **HIDDEN,
    )
    return louder(nn.Sequential(nn.Conv2d(1, 3, 3), neuron), 3.0), (1, 7, 9), "step"


class HandMadeLoop(nn.Module):
    """Recurrence written out, over one and over two layers, and a delayed skip."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.rec = nn.Linear(12, 10), nn.Linear(10, 10, bias=False)
        self.lif1 = snn.Leaky(beta=0.8)
        self.fc2, self.back = nn.Linear(10, 6), nn.Linear(6, 10)
        self.skip = nn.Linear(10, 6)
        self.lif2 = snn.Leaky(beta=0.9)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk1, spk2 = torch.zeros(x.shape[1], 10).to(x), torch.zeros(x.shape[1], 6).to(x)
        out = []
        for step in range(len(x)):
            before = spk1
            spk1, mem1 = self.lif1(self.fc1(x[step]) + self.rec(spk1) + self.back(spk2), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1) + self.skip(before), mem2)
            out.append(spk2)
        return torch.stack(out).mean(0)


@net
def hand_made_loop():
    return louder(HandMadeLoop(), 1.5), (12,), "loop"
