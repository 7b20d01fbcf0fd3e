"""What changes a network where no layer shows it is refused: values, data, settings, some steps only."""

from __future__ import annotations

import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.nir_files.files import read_nir, write_nir
from tests.support.torch_nets import HIDDEN, Between

READS = {
    "equal": lambda s: s if torch.equal(s, torch.zeros_like(s)) else 2 * s,
    "allclose": lambda s: s if torch.allclose(s, torch.zeros_like(s)) else 2 * s,
    "is_nonzero": lambda s: s if torch.is_nonzero(s.sum()) else 2 * s,
    "nonzero": lambda s: s if len(s.nonzero()) > 3 else 2 * s,
    "where": lambda s: s if len(torch.where(s > 0)[0]) > 3 else 2 * s,
    "argwhere": lambda s: s if len(torch.argwhere(s)) > 3 else 2 * s,
    "__getitem__": lambda s: s if s[s > 0].numel() > 3 else 2 * s,
    "masked_select": lambda s: s if s.masked_select(s > 0).numel() > 3 else 2 * s,
    "unique": lambda s: s if s.unique().numel() > 1 else 2 * s,
    "__contains__": lambda s: s if 1.0 in s else 2 * s,
    "untyped_storage": lambda s: s if sum(s.untyped_storage()) else 2 * s,
}


@pytest.mark.parametrize("name", READS)
def test_values_that_python_sees_are_refused(name):
    with pytest.raises(UnsupportedNodeError, match=rf"reads values of a signal \('{name}'\)"):
        to_nir(Between(READS[name]), torch.zeros(2, 4))


class Loop(nn.Module):
    """Two layers, with a change at each step and a readout behind the loop."""

    def __init__(self, change=lambda net, step, mem: mem, read=torch.stack) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(4, 5), snn.Leaky(beta=0.9)
        self.change, self.read = change, read

    def forward(self, x):
        mem, spikes = self.lif.init_leaky(), []
        beta, weight = self.lif.beta, self.fc.weight.data
        for step, value in enumerate(x):
            spk, mem = self.lif(self.fc(value), mem)
            mem = self.change(self, step, mem)
            spikes.append(spk)
        self.lif.beta, self.fc.weight.data = beta, weight
        return self.read(spikes)


def _other_beta(net, step, mem):
    net.lif.beta = torch.tensor(0.5 if step % 2 else 0.9)
    return mem


def _other_weight(net, step, mem):
    net.fc.weight.data = net.fc.weight.data * 0.9
    return mem


def _other_reset(net, step, mem):
    net.lif.reset_delay = bool(step % 2)
    return mem


def _data(net, step, mem):
    mem.data = mem.data.clamp(min=0)
    return mem


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_beta, "weights change from step to step.*'lif.beta'"),
        (_other_weight, "weights change from step to step.*'fc.weight'"),
        (_other_reset, "weights change from step to step.*'lif.reset_delay'"),
        (_data, "'lif' is given 'clamp'; expected its own last state"),
    ],
)
def test_changes_that_are_undone_at_the_end_are_refused(change, message):
    with pytest.raises(UnsupportedNodeError, match=f"(?s){message}"):
        to_nir(Loop(change), torch.zeros(4, 2, 4))


PARTS = r"forward returns steps {} of 6; expected all steps in their order.*choose outside"
ANOTHER = (
    "multiplies what it sums up over the steps by negative or several numbers.*one positive number"
)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda s: torch.stack(s[2:]), PARTS.format("2, 3, 4, 5")),
        (lambda s: torch.stack(s[::2]), PARTS.format("0, 2, 4")),
        (lambda s: torch.stack(s[::-1]), PARTS.format("5, 4, 3, 2, 1, 0")),
        (lambda s: torch.stack(s[3:]).sum(0), PARTS.format("3, 4, 5")),
        (lambda s: sum(s[:4]), PARTS.format("0, 1, 2, 3")),
        (lambda s: s[0], PARTS.format("0")),
        (lambda s: torch.stack(s)[2], PARTS.format("2")),
        (lambda s: -torch.stack(s).sum(0), ANOTHER),
        (lambda s: sum(s) * torch.arange(5.0), ANOTHER),
        (lambda s: s[-1] - s[0], "different layers at different steps"),
    ],
)
def test_readouts_of_some_steps_or_against_them_are_refused(read, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        to_nir(Loop(read=read), torch.zeros(6, 2, 4))


@pytest.mark.parametrize(
    ("read", "how"),
    [
        (torch.stack, "stack"),
        (sum, "sum"),
        (lambda s: sum(s) / len(s), "mean"),
        (lambda s: s[-1], "last"),
        (lambda s: torch.stack(s)[-1], "last"),
    ],
)
def test_readouts_of_all_steps_are_noted(read, how):
    graph = to_nir(Loop(read=read), torch.zeros(12, 2, 4))
    assert graph.nodes["output"].metadata["readout"] == how


def test_a_function_that_draws_is_named_and_not_run_on_values_that_it_does_not_take():
    with pytest.raises(
        UnsupportedNodeError, match="'bernoulli' in front of layer.*Encode the input"
    ):
        to_nir(Between(torch.bernoulli), torch.zeros(2, 4))


def test_a_neuron_written_by_hand_is_sent_to_those_of_snntorch():
    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2, self.lif = (
                nn.Linear(4, 5),
                nn.Linear(5, 3),
                snn.Leaky(0.9, **HIDDEN),
            )
            self.mem = 0.0

        def forward(self, x):
            self.mem = 0.9 * self.mem + self.fc1(x)
            return self.lif(self.fc2((self.mem > 1).float()))

    with pytest.raises(UnsupportedNodeError) as refusal:
        to_nir(Hand(), torch.zeros(2, 4))
    assert "'gt' in front of layer 'fc2'" in str(refusal.value)
    assert "layers of snnTorch (snntorch.Leaky)" in str(refusal.value)
    assert "from step to step" not in str(refusal.value)


class Membranes(Loop):
    def __init__(self, read) -> None:
        super().__init__(read=read)
        self.lif = snn.Leaky(beta=0.9, reset_mechanism="none")

    def forward(self, x):
        mem, found = self.lif.init_leaky(), []
        for value in x:
            _, mem = self.lif(self.fc(value), mem)
            found.append(mem)
        return self.read(found)


@pytest.mark.parametrize(
    ("net", "note"),
    [
        (Membranes(lambda v: torch.stack(v).sum(0)), "the sum of v over the steps at 'output'"),
        (Membranes(lambda v: torch.stack(v).mean(0)), "the mean of v over the steps at 'output'"),
        (Loop(read=lambda s: s[-1]), "the last step alone at 'output'"),
        (Membranes(lambda v: v[-1]), None),
        (Membranes(torch.stack), None),
        (Loop(), None),
    ],
)
def test_a_readout_that_decides_otherwise_is_noted(net, note, tmp_path):
    write_nir(tmp_path / "net.nir", to_nir(net, torch.zeros(6, 2, 4), dt_s=1e-3))
    notes = lower(read_nir(tmp_path / "net.nir")).metadata["notes"]
    assert [text.startswith(f"forward returns {note}") for text in notes] == [True] * bool(note)


class Late(nn.Module):
    """The second layer receives what the first one sent a step before."""

    def __init__(self, bias) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(4, 5), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(5, 3, bias=bias), snn.Leaky(beta=0.9)

    def forward(self, x):
        mem1, mem2, found = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        spk = torch.zeros(x.shape[1], 5)
        for value in x:
            last = spk
            spk, mem1 = self.lif1(self.fc1(value), mem1)
            out, mem2 = self.lif2(self.fc2(last), mem2)
            found.append(out)
        return torch.stack(found)


@pytest.mark.parametrize("bias", [True, False])
def test_neurons_that_begin_later_are_noted(bias):
    (note,) = lower(to_nir(Late(bias), torch.zeros(6, 2, 4), dt_s=1e-3)).metadata["notes"]
    assert note.startswith("all that 'lif2' receives is delayed (steps: 1)")
    assert note.endswith("its bias acts from there on") == bias
