"""Parts of an input: crops, channels, polarities, the last step; each as the module computes it."""

from __future__ import annotations

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from tests.support.torch_nets import HIDDEN

NOW = {**HIDDEN, "reset_mechanism": "zero", "reset_delay": False}


class Parts(nn.Module):
    """Weights of 1/4, which 8 bits hold exactly."""

    def __init__(self, n_in, part) -> None:
        super().__init__()
        self.fc, self.lif, self.part = nn.Linear(n_in, 5, bias=False), snn.Leaky(0.5, **NOW), part
        generator = torch.Generator().manual_seed(0)
        weight = torch.randint(-3, 6, self.fc.weight.shape, generator=generator) / 4
        self.fc.weight = nn.Parameter(weight)

    def forward(self, x):
        return self.lif(self.fc(self.part(x).flatten(1)))


PARTS = {
    "a channel": (12, lambda x: x[:, 0]),
    "the last channel": (12, lambda x: x[:, -1]),
    "a difference of channels": (12, lambda x: x[:, 1] - x[:, 0]),
    "one of several": (12, lambda x: x.unbind(1)[1]),
    "a selection": (12, lambda x: x.select(1, 1)),
    "a crop": (4, lambda x: x[:, :, 1:-1, 1:3]),
    "a crop behind an ellipsis": (4, lambda x: x[..., 1:-1, 1:3]),
    "all of it": (24, lambda x: x[:]),
    "channels by a list": (24, lambda x: x[:, [1, 0]]),
    "channels by a tensor": (24, lambda x: x[:, torch.tensor([1, 0])]),
    "channels by an array": (24, lambda x: x[:, np.array([1, 0])]),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_each_sample_is_the_matrix_that_takes_it(name):
    n_in, part = PARTS[name]
    net = Parts(n_in, part)
    x = (np.random.default_rng(0).random((10, 3, 2, 3, 4)) < 0.5).astype(np.int32)
    graph = lower(to_nir(net, torch.from_numpy(x[0]).float(), dt_s=1e-3))
    assert graph.inputs["input"].shape == x.shape[2:]
    ours = simulate(graph, x, record=("s",))["lif"].s
    assert 0.05 < ours.mean() < 0.95
    np.testing.assert_array_equal(ours, run_torch(net, x)["lif"].s)


def test_samples_are_not_parts():
    with pytest.raises(UnsupportedNodeError, match="takes the input apart"):
        to_nir(Parts(12, lambda x: x[0]), torch.zeros(3, 2, 3, 4))


class Changes(nn.Module):
    """What changes in the input from step to step, as delta encoders give it."""

    def __init__(self, first) -> None:
        super().__init__()
        self.inner, self.first = Parts(6, lambda x: x), first

    def forward(self, x):
        return torch.stack(
            [self.inner(x[t] - x[t - 1] if t else self.first(x[0])) for t in range(len(x))]
        )


def test_the_input_of_the_last_step_is_delayed_by_one():
    net = Changes(lambda x: x)
    x = (np.random.default_rng(0).random((20, 3, 6)) < 0.5).astype(np.int32)
    found = to_nir(net, torch.from_numpy(x[:4]).float(), dt_s=1e-3)
    assert [type(n) for n in found.nodes.values()].count(nir.Delay) == 1
    ours = simulate(lower(found), x, record=("s",))["inner.lif"].s
    assert ours.mean() > 0.05
    np.testing.assert_array_equal(ours, run_torch(net, x)["inner.lif"].s)


def test_another_first_step_is_refused():
    with pytest.raises(UnsupportedNodeError, match="receives something else from step to step"):
        to_nir(Changes(lambda x: 2 * x), torch.zeros(4, 3, 6))
