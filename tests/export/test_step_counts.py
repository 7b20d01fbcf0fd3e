"""Forwards that are told their number of steps, ``forward(x, num_steps)``: followed, run and refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir

N_STEPS, BATCH, N_IN = 8, 4, 9


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1 = nn.Linear(N_IN, 7), snn.Leaky(beta=0.9, threshold=0.3)
        self.fc2, self.lif2 = nn.Linear(7, 3), snn.Leaky(beta=0.8, threshold=0.3)

    def loop(self, steps: Any) -> Tensor:
        mem1, mem2, found = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in steps:
            spk, mem1 = self.lif1(self.fc1(step), mem1)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            found.append(spk)
        return torch.stack(found)


class Image(Net):
    def forward(self, x: Tensor, num_steps: int) -> Tensor:
        return self.loop(x for _ in range(num_steps))


class Steps(Net):
    def forward(self, data: Tensor, timestep: int) -> Tensor:
        return self.loop(data[n] for n in range(timestep))


class SamplesFirst(Net):
    def forward(self, x: Tensor, T: int) -> Tensor:
        return self.loop(x[:, n] for n in range(T)).sum(0) / T


class Plain(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.loop(x)


X = (np.random.default_rng(0).random((N_STEPS, BATCH, N_IN)) < 0.4).astype(np.int32)


@pytest.mark.parametrize("n_steps", [2, 5])
@pytest.mark.parametrize("kind", [Image, Steps, SamplesFirst])
def test_they_are_followed_and_run_as_the_same_without_it(kind: type[Net], n_steps: int) -> None:
    x = np.repeat(X[:1], N_STEPS, axis=0) if kind is Image else X
    values = torch.from_numpy(x[:n_steps]).float()
    samples = {Image: values[0], Steps: values, SamplesFirst: values.transpose(0, 1)}[kind]
    net, plain = kind(), Plain()
    found, expected = to_nir(net, samples, dt_s=1e-3), to_nir(plain, values, dt_s=1e-3)
    assert list(found.nodes) == list(expected.nodes) and found.edges == expected.edges
    assert "forward" not in vars(net)
    run, same = run_torch(net, x), run_torch(plain, x)
    assert np.array_equal(run["lif2"].s, same["lif2"].s) and same["lif2"].s.any()
    assert np.array_equal(run["lif1"].s, same["lif1"].s)
    bnm.testing.assert_parity(net, x, against=("torch", "sim"), dt_s=1e-3, min_agreement=0.5)


class Scaled(Net):
    """Its argument is a factor."""

    def forward(self, x: Tensor, gain: float) -> Tensor:
        return self.loop(step * gain for step in x)


class Ones(Net):
    """Its argument is the number of samples."""

    def forward(self, x: Tensor, batch_size: int) -> Tensor:
        return self.loop(step * torch.ones(batch_size, N_IN) for step in x)


@pytest.mark.parametrize("batch", [2, 3, N_STEPS])
@pytest.mark.parametrize("kind", [Scaled, Ones])
def test_other_arguments_are_refused(kind: type[Net], batch: int) -> None:
    sample = torch.rand(N_STEPS, batch, N_IN)
    with pytest.raises(ConfigError, match="with the number of steps if there is one: give others"):
        to_nir(kind(), sample, dt_s=1e-3)


def test_a_network_that_depends_on_it_is_refused() -> None:
    class Divided(Net):
        def forward(self, x: Tensor, num_steps: int) -> Tensor:
            return self.loop(x / num_steps for _ in range(num_steps))

    with pytest.raises(UnsupportedNodeError, match="where 'num_steps' is 2 than where it is 3"):
        to_nir(Divided(), torch.rand(2, N_IN), dt_s=1e-3)
    with pytest.raises(ConfigError, match="holds 25; .* Leave the number of steps out"):
        to_nir(Image(), (torch.rand(2, N_IN), 25), dt_s=1e-3)


def test_an_image_is_not_one_of_several_steps() -> None:
    with pytest.raises(ConfigError, match="takes one image for all steps, and the input differs"):
        run_torch(Image(), X, Coding("spikes", N_STEPS))


class Lenient(Net):
    """All steps; one step as well, for which it starts from rest."""

    def forward(self, x: Tensor) -> Tensor:
        return self.loop(x if x.dim() > 2 else x[None])


def test_a_loop_that_takes_one_step_as_well_is_given_all() -> None:
    net, plain = Lenient(), Plain()
    run, same = run_torch(net, X), run_torch(plain, X)
    assert all(np.array_equal(run[name].s, same[name].s) for name in ("lif1", "lif2"))
    bnm.testing.assert_parity(net, X, against=("torch", "sim"), dt_s=1e-3, min_agreement=0.5)
