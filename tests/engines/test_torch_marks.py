"""Engine torch leaves no mark on the module, and records what neurons sent, not what became of it."""

from __future__ import annotations

import numpy as np
import snntorch as snn
import torch
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.testing import assert_parity
from tests.support.torch_nets import HIDDEN

NOW = {"reset_mechanism": "zero", "reset_delay": False}


def spikes(n_steps=12):
    return (np.random.default_rng(0).random((n_steps, 3, 8)) < 0.5).astype(np.int32)


class Kept(nn.Module):
    """States in attributes of the module, made at the first step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif, self.mem = nn.Linear(8, 6), snn.Leaky(0.9, **NOW), None
        self.fc.weight.data *= 4

    def forward(self, x):
        if self.mem is None:
            self.mem = self.lif.init_leaky()
        spk, self.mem = self.lif(self.fc(x), self.mem)
        return spk


def test_states_in_attributes_are_put_back():
    net = Kept()
    first = run_torch(net, spikes())["lif"].s
    assert net.mem is None and first.any()
    np.testing.assert_array_equal(run_torch(net, spikes())["lif"].s, first)
    for _ in range(2):
        assert_parity(net, spikes(), against=("torch", "sim"), dt_s=1e-3)


class InPlace(nn.Module):
    """A residual sum that is written into the spikes of the first layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.lif1 = nn.Linear(8, 8), snn.Leaky(0.9, **HIDDEN, **NOW)
        self.fc2, self.lif2 = nn.Linear(8, 6), snn.Leaky(0.9, **HIDDEN, **NOW)
        self.fc1.weight.data *= 4

    def forward(self, x):
        out = self.lif1(self.fc1(x))
        out += x
        return self.lif2(self.fc2(out))


def test_sums_written_into_spikes_are_not_recorded_as_spikes():
    recording = run_torch(InPlace(), spikes())
    assert set(np.unique(recording["lif1"].s)) == {0, 1}
    assert_parity(InPlace(), spikes(), against=("torch", "sim"), dt_s=1e-3)


class Named(nn.Module):
    """A loop over time that returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(8, 6), snn.Leaky(0.9, **NOW)
        self.fc.weight.data *= 4

    def forward(self, x):
        mem, sent = self.lif.init_leaky(), []
        for step in x:
            spk, mem = self.lif(self.fc(step), mem)
            sent.append(spk)
        return {"spikes": torch.stack(sent), "steps": len(sent)}


def test_a_loop_that_returns_a_dict_is_found():
    assert_parity(Named(), spikes(), against=("torch", "sim"), dt_s=1e-3)
