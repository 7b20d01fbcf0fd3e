"""Engine torch: what it runs, in which order of dimensions, what it records, and that it leaves no mark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.errors import ConfigError
from biril_nm.export import lower, to_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from biril_nm.parity import check_parity
from biril_nm.recording.readout import readout_node
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


class Ordered(nn.Module):
    """A loop over time whose input has its dimensions in some order."""

    def __init__(self, order) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(8, 6), snn.Leaky(0.9, **NOW)
        self.fc.weight.data *= 4
        self.order = order

    def forward(self, x):
        mem, sent, axis = self.lif.init_leaky(), [], self.order.index("time")
        for step in range(x.shape[axis]):
            spk, mem = self.lif(self.fc(x.select(axis, step)), mem)
            sent.append(spk)
        return torch.stack(sent)


ORDERS = (("time", "batch", "values"), ("batch", "time", "values"), ("batch", "values", "time"))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("n_steps", "batch"), [(1, 1), (5, 1), (1, 3), (2, 2), (3, 3), (8, 3)])
def test_all_orders_and_numbers_of_steps_and_samples(order, n_steps, batch):
    x = (np.random.default_rng(1).random((n_steps, batch, 8)) < 0.5).astype(np.int32)
    found = run_torch(Ordered(order), x)["lif"].s
    assert found.shape == (n_steps, batch, 6)
    more = run_torch(Ordered(ORDERS[0]), np.tile(x, (1, 5, 1)))["lif"].s
    np.testing.assert_array_equal(found, more[:, :batch])


@pytest.mark.parametrize("order", ORDERS)
def test_the_test_suite_of_a_user_takes_all_orders(order):
    assert_parity(Ordered(order), spikes(), against=("torch", "sim"), dt_s=1e-3)


class Fails(Ordered):
    def forward(self, x):
        return super().forward(x.reshape(-1, 3, 5))


def test_a_forward_that_takes_no_order_is_named():
    with pytest.raises(
        ConfigError, match=r"forward of Fails does not take an input of shape \(12, 3, 8\)"
    ):
        run_torch(Fails(ORDERS[0]), spikes())


class Heads(nn.Module):
    """Returns spikes of the output first, then those of the hidden layer, of which there are more."""

    def __init__(self, first) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.z = nn.Linear(8, 12), snn.Leaky(0.9, **HIDDEN, **NOW)
        self.fc2, self.a = nn.Linear(12, 6), snn.Leaky(0.9, **HIDDEN, **NOW)
        self.fc3, self.b = nn.Linear(12, 4), snn.Leaky(0.9, **HIDDEN, **NOW)
        for layer in (self.fc1, self.fc2, self.fc3):
            layer.weight.data *= 4
        self.first = first

    def forward(self, x):
        sent = {"z": self.z(self.fc1(x))}
        sent["a"], sent["b"] = self.a(self.fc2(sent["z"])), self.b(self.fc3(sent["z"]))
        return sent.pop(self.first), *sent.values()


@pytest.mark.parametrize("first", ["z", "a", "b"])
def test_of_several_outputs_the_first_one_classifies(first, tmp_path):
    net = Heads(first)
    write_nir(tmp_path / "net.nir", to_nir(net, torch.zeros(2, 8), dt_s=1e-3))
    graph = lower(read_nir(tmp_path / "net.nir"), calibration=spikes())
    assert readout_node(graph) == first
    report = check_parity(graph, spikes(), against=("torch", "sim"), net=net)
    assert report.agreements[0].same_predictions == report.n_samples == 3


@dataclass
class Sent:
    spikes: torch.Tensor
    n: int


def test_a_record_that_a_forward_returns_is_read():
    class Recorded(Named):
        def forward(self, x):
            found = super().forward(x)
            return Sent(found["spikes"], found["steps"])

    assert list(to_nir(Recorded(), torch.zeros(4, 2, 8)).nodes)[-1] == "output"
