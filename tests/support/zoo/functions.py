"""Torch functions between layers, derived and wrapped layers, branches, layers at several places."""

from __future__ import annotations

import snntorch as snn
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from tests.support.zoo.registry import HIDDEN, louder, net, with_statistics


def leaky(**options):
    return snn.Leaky(**{"beta": 0.9, **HIDDEN, **options})


class Functional(nn.Module):
    """No module but neurons: weights are parameters, layers are functions."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
        self.norm = nn.BatchNorm2d(4)
        self.matrix, self.last = nn.Parameter(torch.randn(6, 16)), nn.Parameter(torch.randn(6, 5))
        self.shift = nn.Parameter(torch.linspace(-0.2, 0.2, 5))
        self.lif1, self.lif2, self.lif3 = leaky(), leaky(), leaky(threshold=0.5)

    def forward(self, x):
        n = self.norm
        y = F.conv2d(x, self.kernel, None, stride=1, padding=1)
        y = F.batch_norm(y, n.running_mean, n.running_var, n.weight, n.bias, False)
        y = F.lp_pool2d(self.lif1(F.avg_pool2d(y, 2)), 1, 2)
        y = F.dropout(torch.flatten(y, 1), 0.3, training=self.training)
        y = self.lif2(F.linear(y, self.matrix))
        return self.lif3(y @ self.last + self.shift)


@net
def functions_instead_of_layers():
    return with_statistics(Functional()), (2, 8, 8), "step"


class Global(nn.Module):
    """Means over all positions, by methods and functions; a scale and a shift of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(1, 4, 3, bias=False), leaky()
        self.gain = nn.Parameter(torch.linspace(1.0, 2.0, 4).reshape(4, 1, 1))
        self.shift = nn.Parameter(torch.linspace(0.0, 0.5, 4).reshape(4, 1, 1))
        self.fc1, self.fc2, self.lif2 = nn.Linear(4, 4), nn.Linear(4, 4), leaky(threshold=0.5)

    def forward(self, x):
        y = self.lif1(self.conv(x) * self.gain + self.shift)
        pooled = F.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(-1)
        z = self.fc1(y.mean((2, 3))) - self.fc2(pooled)
        z *= 2
        z += 0.1
        return self.lif2(1.5 - z)


@net
def means_over_positions():
    return louder(Global(), 3.0), (1, 6, 7), "step"


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 3, 3, padding=1)
        self.pool, self.behind = nn.AvgPool2d(3, 1, 1), nn.Conv2d(2, 2, 1)
        self.lif1 = leaky(threshold=0.4)
        self.conv, self.lif2 = nn.Conv2d(7, 3, 3), leaky()

    def forward(self, x):
        branches = [self.one(x), self.three(x), self.behind(self.pool(x))]
        return self.lif2(self.conv(self.lif1(torch.cat(branches, dim=1))))


@net
def branches_side_by_side():
    return louder(Inception(), 3.0), (2, 6, 6), "step"


class Dense(nn.Module):
    """Each layer receives what all before it have sent."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 6), leaky()
        self.fc2, self.lif2 = nn.Linear(18, 6), leaky()
        self.fc3, self.lif3 = nn.Linear(24, 5), leaky()

    def forward(self, x):
        x = torch.cat([x, self.lif1(self.fc1(x))], 1)
        x = torch.cat([x, self.lif2(self.fc2(x))], -1)
        return self.lif3(self.fc3(x))


@net
def densely_connected():
    return louder(Dense()), (12,), "step"


class Streams(nn.Module):
    """Two halves of the channels go their own ways; a part of the features is read."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.off = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3, bias=False)
        self.lif1, self.fc, self.lif2 = leaky(), nn.Linear(20, 4), leaky()

    def forward(self, x):
        on, off = x.chunk(2, dim=1)
        s = self.lif1(self.on(on) - self.off(off))
        return self.lif2(self.fc(s.flatten(1)[:, ::3][:, :20]))


@net
def parts_of_signals():
    return louder(Streams(), 2.0), (2, 6, 7), "step"


class Shared(nn.Module):
    """One pooling, dropout and flatten for all places, in a loop over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 3, 3, padding=1), snn.Leaky(beta=0.9)
        self.conv2, self.lif2 = nn.Conv2d(3, 3, 3, padding=1), snn.Leaky(beta=0.9)
        self.fc, self.lif3 = nn.Linear(12, 4), snn.Leaky(beta=0.9)
        self.pool, self.drop, self.flat = nn.AvgPool2d(2), nn.Dropout(0.3), nn.Flatten()

    def forward(self, x):
        mem1, mem2, mem3 = (lif.init_leaky() for lif in (self.lif1, self.lif2, self.lif3))
        spikes = []
        for step in range(x.size(0)):
            spk, mem1 = self.lif1(self.drop(self.pool(self.conv1(x[step]))), mem1)
            spk, mem2 = self.lif2(self.drop(self.pool(self.conv2(spk))), mem2)
            spk, mem3 = self.lif3(self.fc(self.flat(spk)), mem3)
            spikes.append(spk)
        return torch.stack(spikes, dim=1).mean(dim=1)


@net
def one_pooling_layer_at_many_places():
    return louder(Shared(), 4.0), (1, 8, 8), "loop"


class FeedbackThroughPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 2, 3, padding=1), nn.AvgPool2d(3, 1, 1)
        self.back, self.lif = nn.Conv2d(2, 2, 3, padding=1, bias=False), snn.Leaky(beta=0.9)

    def forward(self, x):
        mem, spk = self.lif.init_leaky(), torch.zeros(x.shape[1], 2, 5, 6)
        spikes = []
        for value in x:
            spk, mem = self.lif(self.conv(value) + self.back(self.pool(spk)), mem)
            spikes.append(spk)
        return torch.stack(spikes)


@net
def feedback_through_pooling():
    return louder(FeedbackThroughPooling(), 3.0), (1, 5, 6), "loop"


class Masked(nn.Linear):
    def __init__(self, *sizes) -> None:
        super().__init__(*sizes)
        self.register_buffer("mask", (torch.rand_like(self.weight) > 0.4).float())

    def forward(self, x):
        return F.linear(x, self.weight * self.mask, self.bias)


class Standardized(nn.Conv2d):
    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / self.weight.std(), self.bias)


class Rounded(nn.Linear):
    def forward(self, x):
        return F.linear(x, torch.round(self.weight * 8) / 8, self.bias)


class LayerOfNeurons(snn.Leaky):
    """Derived without other equations."""

    def __init__(self, n_neurons: int) -> None:
        super().__init__(beta=torch.linspace(0.2, 0.95, n_neurons), init_hidden=True)


@net
def derived_layers():
    module = nn.Sequential(
        Standardized(1, 3, 3),
        leaky(),
        nn.Flatten(),
        Masked(60, 12),
        leaky(),
        Rounded(12, 6),
        LayerOfNeurons(6),
    )
    return louder(module, 1.5), (1, 6, 7), "step"


@net
def normed_and_pruned_weights():
    module = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(12, 16)),
        leaky(threshold=0.3),
        parametrizations.spectral_norm(nn.Linear(16, 10)),
        leaky(threshold=0.3),
        nn.Linear(10, 6),
        leaky(threshold=0.3),
    )
    prune.l1_unstructured(module[4], "weight", 0.4)
    module[4].weight_orig.data.mul_(2)  # as an optimizer step does: the product is stale
    return module.train(), (12,), "step"


@net
def hooks_that_change_signals():
    module = nn.Sequential(nn.Linear(12, 10), leaky(), nn.Linear(10, 6), leaky())
    module[0].register_forward_hook(lambda layer, args, output: output * 3)
    module[2].register_forward_pre_hook(lambda layer, args: (args[0] / 2,))
    return louder(module), (12,), "step"


class ResBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.bn1, self.lif1 = nn.BatchNorm2d(c_out), leaky(threshold=0.5)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2, self.lif2 = nn.BatchNorm2d(c_out), leaky(threshold=0.5)
        self.down = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.down = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x):
        y = self.lif1(self.bn1(self.conv1(x)))
        return self.lif2(self.bn2(self.conv2(y)) + self.down(x))


@net
def resnet():
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        leaky(),
        ResBlock(4, 4),
        ResBlock(4, 6, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
        leaky(threshold=0.3),
    )
    return louder(with_statistics(module)), (1, 8, 8), "step"


@net
def edges_of_parameters():
    module = nn.Sequential(
        nn.Linear(12, 10),
        leaky(beta=0.0),
        nn.Linear(10, 10),
        snn.Synaptic(alpha=0.0, beta=0.8, **HIDDEN),
        nn.Linear(10, 10),
        leaky(beta=1.7, threshold=torch.rand(10) + 0.5, learn_threshold=True),
        nn.Linear(10, 6),
        leaky(beta=-0.3, threshold=0.4, surrogate_disable=True),
    )
    return louder(module, 3.0), (12,), "step"
