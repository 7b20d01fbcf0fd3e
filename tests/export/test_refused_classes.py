"""Every class of torch.nn and snnTorch is known, or is refused with a reason and a way out of its own."""

from __future__ import annotations

import re

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.export.from_torch.kinds import LayerKind
from biril_nm.export.from_torch.refused import REFUSED_LAYERS, REFUSED_NEURONS, refused_classes
from biril_nm.export.from_torch.registry import MODULES, kind_of, refusal_of
from biril_nm.export.supported import policy_table

ZERO = {"reset_mechanism": "zero", "reset_delay": False, "init_hidden": True}
# Containers, wrappers and parts of torch that are no layers, and losses whose class is a base.
NO_LAYERS = {
    "Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container",
    "DataParallel", "Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer", "NLLLoss2d",
}  # fmt: skip
LAYERS = {type(layer).__name__: layer for layer in (
    nn.ReLU(), nn.GELU(), nn.PReLU(), nn.Hardtanh(), nn.Tanh(), nn.Sigmoid(), nn.Softmax(1), nn.LayerNorm(8),
    nn.GroupNorm(2, 8), nn.RNN(8, 8), nn.LSTM(8, 8), nn.GRUCell(8, 8), nn.MultiheadAttention(8, 2),
    nn.Bilinear(8, 8, 8), nn.InstanceNorm1d(8), nn.LocalResponseNorm(2), nn.CrossEntropyLoss(),
    nn.Embedding(4, 8),
)}  # fmt: skip
NEURONS = {
    "Alpha": lambda: snn.Alpha(alpha=0.9, beta=0.8, init_hidden=True),
    "SLSTM": lambda: snn.SLSTM(8, 8, init_hidden=True),
    "LeakyParallel": lambda: snn.LeakyParallel(8, 8),
    "StateLeaky": lambda: snn.StateLeaky(beta=0.9, channels=8),
    "LinearLeaky": lambda: snn.LinearLeaky(0.9, 8, 8),
    "DeltaLeaky": lambda: snn.DeltaLeaky(beta=0.9),
    "AssociativeLeaky": lambda: snn.AssociativeLeaky(8, 2, 2, 4),
}


@pytest.fixture(autouse=True)
def neurons_of_other_tests():
    """snnTorch keeps every neuron that was ever made, and its resets fail on some of these."""
    kept = list(snn.SpikingNeuron.instances)
    yield
    snn.SpikingNeuron.instances[:] = kept


def stopped_by(layer: nn.Module) -> str:
    net = nn.Sequential(nn.Linear(6, 8), layer, nn.Linear(8, 4), snn.Leaky(beta=0.9, **ZERO))
    with pytest.raises(UnsupportedNodeError) as error:
        to_nir(net, torch.zeros(1, 6), dt_s=1e-3)
    return str(error.value)


@pytest.mark.parametrize("name", [*LAYERS, *NEURONS])
def test_the_message_has_reason_and_way_out(name):
    layer = LAYERS[name] if name in LAYERS else NEURONS[name]()
    refusal = refusal_of(layer)
    line = next(line for line in stopped_by(layer).splitlines() if "layer '1'" in line)
    assert type(layer).__name__ in line
    assert refusal.reason in line and refusal.way_out in line


def test_a_derived_class_has_the_reason_of_its_base():
    class Gate(nn.GRU):
        pass

    assert refusal_of(Gate(4, 4)) is refusal_of(nn.GRU(4, 4))
    assert refusal_of(nn.Linear(2, 2)) is None


def test_a_class_derived_from_a_known_one_keeps_its_own_message():
    class Masked(snn.Leaky):
        def forward(self, x, mem=None):
            return super().forward(2 * x, mem)

    assert refusal_of(Masked(beta=0.9)) is None
    assert "replaces forward of Leaky" in stopped_by(Masked(beta=0.9, **ZERO))


@pytest.mark.parametrize("module", [nn, snn], ids=["torch.nn", "snntorch"])
def test_every_class_is_known_or_refused(module):
    refused = {kind for kind, _ in refused_classes()}
    classes = {
        n: c for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, nn.Module)
    }
    open_questions = {
        name
        for name, kind in classes.items()
        if name not in NO_LAYERS
        and not name.startswith(("_", "Lazy"))
        and kind not in refused
        and kind_of(kind.__new__(kind)) is None
    }
    assert open_questions == set()


def test_reasons_are_their_own_and_stand_in_the_table():
    kinds = (*REFUSED_LAYERS, *REFUSED_NEURONS)
    names = [name for kind in kinds for name in kind.names]
    assert len(names) == len(set(names))
    assert len({(kind.reason, kind.way_out) for kind in kinds}) == len(kinds)
    page = policy_table()
    for kind in kinds:
        assert len(kind.reason) > 12 and re.match("[A-Z]", kind.way_out)
        assert f"| `{kind.name}` | refused | {kind.becomes} |" in page


@pytest.mark.parametrize("layer", [nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)])
def test_dropout_of_any_kind_vanishes(layer):
    net = nn.Sequential(nn.Linear(6, 8), layer, snn.Leaky(beta=0.9, **ZERO))
    plain = nn.Sequential(net[0], net[2])
    with_it, without = (to_nir(n, torch.zeros(1, 6), dt_s=1e-3) for n in (net, plain))
    assert [type(n) for n in with_it.nodes.values()] == [type(n) for n in without.nodes.values()]


def _as_it_is(layer, name, shape):
    return nir.Scale(scale=np.ones(shape))


def test_a_layer_that_is_registered_is_no_longer_refused(monkeypatch):
    assert refusal_of(nn.Softmax(1)) is not None
    kind = LayerKind(nn.Softmax, "Scale", node=_as_it_is, weightless=True)
    monkeypatch.setitem(MODULES, nn.Softmax, kind)
    assert refusal_of(nn.Softmax(1)) is None
    assert refusal_of(nn.Softmin(1)) is not None
    net = nn.Sequential(
        nn.Linear(6, 8), nn.Softmax(1), nn.Linear(8, 4), snn.Leaky(beta=0.9, **ZERO)
    )
    assert "1" in to_nir(net, torch.zeros(1, 6), dt_s=1e-3).nodes
