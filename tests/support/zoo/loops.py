"""States that are passed on, kept by the network or reset in forward; loops over time and their results."""

from __future__ import annotations

import snntorch as snn
import torch
from snntorch import utils
from torch import nn

from tests.support.zoo.registry import HIDDEN, N_STEPS, louder, net


class PassedOn(nn.Module):
    """States as arguments, made where there are none, and returned in the same order."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(16, 4), snn.Synaptic(alpha=0.8, beta=0.9)

    def forward(self, x, mem1=None, syn2=None, mem2=None):
        if mem1 is None:
            mem1 = self.lif1.init_leaky()
            syn2, mem2 = self.lif2.init_synaptic()
        spk1, mem1 = self.lif1(self.fc1(x), mem1)
        spk2, syn2, mem2 = self.lif2(self.fc2(spk1), syn2, mem2)
        return spk2, mem1, syn2, mem2


@net
def states_passed_on():
    return louder(PassedOn(), 3.0), (12,), "step"


class OneState(nn.Module):
    """All states in one argument, nested, also of a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 16), snn.Leaky(beta=0.9)
        self.fc2, self.rlif2 = nn.Linear(16, 4), snn.RLeaky(beta=0.8, linear_features=4)

    def forward(self, x, state=None):
        if state is None:
            state = {"mem1": self.lif1.init_leaky(), "loop": self.rlif2.init_rleaky()}
        spk1, mem1 = self.lif1(self.fc1(x), state["mem1"])
        spk2, mem2 = self.rlif2(self.fc2(spk1), *state["loop"])
        return spk2, {"mem1": mem1, "loop": (spk2, mem2)}


@net
def one_nested_state():
    return louder(OneState(), 3.0), (12,), "step"


class ResetFirst(nn.Module):
    """``utils.reset`` in forward goes through all neurons of the process."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(12, 20),
            snn.Leaky(beta=0.9, **HIDDEN),
            nn.Linear(20, 5),
            snn.Leaky(beta=0.8, output=True, **HIDDEN),
        )

    def forward(self, x):
        utils.reset(self.body)
        spikes = []
        for step in range(x.size(0)):
            spk, _ = self.body(x[step])
            spikes.append(spk)
        return torch.stack(spikes)


@net
def reset_in_forward():
    return louder(ResetFirst()), (12,), "loop"


class OwnBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(12, 8), snn.Leaky(beta=0.9)
        self.register_buffer("mem", torch.zeros(1, 8))

    def forward(self, x):
        spk, self.mem = self.lif(self.fc(x), self.mem)
        return {"spikes": spk, "steps": 1}


@net
def state_in_a_buffer_and_dict_output():
    return louder(OwnBuffer()), (12,), "step"


class Written(nn.Module):
    """Spikes written into a tensor, and several readouts of the same layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fcs = nn.ModuleList([nn.Linear(12, 10), nn.Linear(10, 6)])
        self.lifs = nn.ModuleList([snn.Leaky(beta=0.9), snn.Leaky(beta=0.8)])

    def forward(self, x):
        mems = [lif.init_leaky() for lif in self.lifs]
        out = torch.zeros(x.shape[0], x.shape[1], 6)
        for t in range(x.shape[0]):
            y = x[t]
            for i, (fc, lif) in enumerate(zip(self.fcs, self.lifs)):
                y, mems[i] = lif(fc(y), mems[i])
            out[t] = y
        return out.permute(1, 0, 2), out.sum(0)


@net
def spikes_written_into_a_tensor():
    return louder(Written(), 3.0), (12,), "loop"


class ThreeLoops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.r1 = nn.Linear(12, 10), snn.RLeaky(beta=0.9, linear_features=10)
        self.fc2, self.r2 = (
            nn.Linear(10, 8),
            snn.RSynaptic(alpha=0.5, beta=0.8, all_to_all=False, V=torch.linspace(-0.5, 0.5, 8)),
        )
        self.fc3, self.r3 = nn.Linear(8, 6), snn.RLeaky(beta=0.7, all_to_all=False, V=0.3)

    def forward(self, x):
        spk1, mem1 = self.r1.init_rleaky()
        spk2, syn2, mem2 = self.r2.init_rsynaptic()
        spk3, mem3 = self.r3.init_rleaky()
        spikes = []
        for value in x.unbind(0):
            spk1, mem1 = self.r1(self.fc1(value), spk1, mem1)
            spk2, syn2, mem2 = self.r2(self.fc2(spk1), spk2, syn2, mem2)
            spk3, mem3 = self.r3(self.fc3(spk2), spk3, mem3)
            spikes.append(spk3)
        return spikes


@net
def three_recurrent_layers():
    return louder(ThreeLoops(), 3.0), (12,), "loop"


class Image(nn.Module):
    """A static image: convolved and pooled once, outside of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.lif1 = nn.Conv2d(1, 3, 3), nn.AvgPool2d(2), snn.Leaky(beta=0.9)
        self.fc, self.lif2 = nn.Linear(12, 4), snn.Leaky(beta=0.9)

    def forward(self, image, num_steps=N_STEPS):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        current = self.pool(self.conv(image))
        total = torch.zeros(image.size(0), 4)
        for _ in range(num_steps):
            spk1, mem1 = self.lif1(current, mem1)
            spk2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem2)
            total += spk2
        return total / num_steps


@net
def image_outside_of_the_loop():
    return louder(Image(), 4.0), (1, 6, 6), "static"


class Feedback(nn.Module):
    """Spikes of the last step come back as they are, and scaled, and pooled to an output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(1, 2, 3, padding=1), snn.Leaky(beta=0.7)
        self.lif2 = snn.Leaky(beta=0.6, threshold=1.3)

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spk1 = spk2 = torch.zeros(x.shape[1], 2, 4, 6)
        pooled = []
        for value in x:
            spk1, mem1 = self.lif1(self.conv(value) + spk1, mem1)
            spk2, mem2 = self.lif2(spk1 - 0.25 * spk2, mem2)
            pooled.append(nn.functional.avg_pool2d(spk2, 2))
        return torch.stack(pooled)


@net
def feedback_without_weights():
    return louder(Feedback()), (1, 4, 6), "loop"
