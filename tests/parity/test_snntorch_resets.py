"""snnTorch's neurons with every reset: its own spikes equal the integers where the numbers are exact.

snnTorch runs the float network, not we. Weights and thresholds are whole and nothing decays, so that every
membrane is a whole number in float32 too, and each spike of 1,000 steps must be the same. Where membranes
decay, weights are rounded to 8 bits, and most spikes are.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import snntorch as snn
import torch
from numpy.testing import assert_array_equal
from torch import nn

from biril_nm.export import lower, to_nir
from biril_nm.export.nir_files import read_nir, write_nir
from biril_nm.hardware_sim import simulate
from biril_nm.parity import check_parity

DT = 1e-3
BATCH, N_IN, N, N_OUT = 2, 6, 8, 4
RESETS = ("subtract", "zero", "none")
# A neuron without reset walks at random around 0, so that v does not reach the ends of its 24 bits.
MEAN = {"subtract": 3, "zero": 3, "none": 0}


def whole(shape, mean, seed):
    """Even weights, so that no weight loses its lowest bit on the chip; balanced rows for a mean of 0."""
    weight = np.random.default_rng(seed).integers(-9, 10, shape) + mean
    if mean == 0:
        weight[:, shape[1] // 2 :] = -weight[:, : shape[1] // 2]
    return nn.Parameter(torch.from_numpy(2.0 * weight).float())


def neuron(kind, reset, delayed, n):
    """A neuron that forgets nothing (Lapicque: all), with a threshold that needs a few spikes."""
    common = {"threshold": 30.0, "init_hidden": True, "reset_mechanism": reset}
    late = {} if kind in ("Lapicque", "RSynaptic") else {"reset_delay": delayed}
    if kind == "Leaky":
        return snn.Leaky(beta=1.0, **common, **late)
    if kind == "Synaptic":
        return snn.Synaptic(alpha=0.0, beta=1.0, **common, **late)
    if kind == "Lapicque":  # forgets all: no share of a whole number is whole for 1,000 steps
        return snn.Lapicque(R=1.0, C=1.0, time_step=1.0, **common)
    made = (
        snn.RLeaky(beta=1.0, linear_features=n, **common, **late)
        if kind == "RLeaky"
        else snn.RSynaptic(alpha=0.0, beta=1.0, linear_features=n, **common)
    )
    made.recurrent.weight = whole((n, n), 0 if reset == "none" else -1, 7)
    made.recurrent.bias = None
    return made


def network(kind, reset, delayed):
    """Two layers; one without reset, since the second would walk away from 0."""
    layers = []
    for n_in, n, seed in ((N_IN, N, 1), (N, N_OUT, 2))[: 1 if reset == "none" else 2]:
        linear = nn.Linear(n_in, n, bias=False)
        linear.weight = whole((n, n_in), 3 if kind == "Lapicque" else MEAN[reset], seed)
        layers += [linear, neuron(kind, reset, delayed, n)]
    return nn.Sequential(*layers)


def torch_spikes(net, x):
    """Spikes of each neuron layer by name, in the order of calls."""
    found = {name: [] for name, layer in net.named_children() if not isinstance(layer, nn.Linear)}
    for name, steps in found.items():
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, to=steps: to.append(out))
    with torch.no_grad():
        for step in x:
            net(torch.from_numpy(step).float())
    return {name: torch.stack(steps).numpy() for name, steps in found.items()}


CASES = [
    *itertools.product(("Leaky", "RLeaky"), RESETS, (True, False)),
    *itertools.product(("Synaptic",), RESETS, (True, False)),
    *itertools.product(("RSynaptic", "Lapicque"), RESETS, (True,)),
]


def assert_every_spike_is_the_same(kind, reset, delayed, n_steps):
    net = network(kind, reset, delayed)
    x = (np.random.default_rng(3).random((n_steps, BATCH, N_IN)) < 0.4).astype(np.int32)
    graph = lower(to_nir(net, torch.zeros(1, N_IN), dt_s=DT))
    trace = simulate(graph, x, record=("s",))
    for name, want in torch_spikes(net, x).items():
        assert_array_equal(trace[name].s, want, name)
        assert 0.02 < want.mean() < 0.98


@pytest.mark.parametrize(("kind", "reset", "delayed"), CASES)
def test_every_spike_of_snntorch_is_a_spike_of_the_simulator(kind, reset, delayed):
    assert_every_spike_is_the_same(kind, reset, delayed, 120)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reset", "delayed"), CASES)
def test_every_spike_of_1000_steps_is_the_same(kind, reset, delayed):
    assert_every_spike_is_the_same(kind, reset, delayed, 1000)


def test_a_weight_that_is_off_by_one_is_seen():
    net = network("Leaky", "subtract", True)
    graph = lower(to_nir(net, torch.zeros(1, N_IN), dt_s=DT))
    net[0].weight.data[0, 0] += 1
    x = (np.random.default_rng(3).random((120, BATCH, N_IN)) < 0.4).astype(np.int32)
    assert (simulate(graph, x, record=("s",))["1"].s != torch_spikes(net, x)["1"]).any()


@pytest.mark.parametrize(("reset", "delayed"), [("zero", True), ("subtract", True), ("none", True)])
def test_predictions_are_those_of_torch(reset, delayed):
    """Also where the last step spikes, whose reset is still to come in snnTorch."""
    net = network("Leaky", reset, delayed)
    x = (np.random.default_rng(5).random((9, 40, N_IN)) < 0.4).astype(np.int32)
    graph = lower(to_nir(net, torch.zeros(1, N_IN), dt_s=DT))
    report = check_parity(graph, x, against=("torch", "sim"), net=net)
    assert report.floats.same_predictions == 40
    assert torch_spikes(net, x)[next(iter(graph.outputs.values()))][-1].any()


def decaying(kind, **options):
    """A network of 8-bit weights whose membranes decay, as people train it."""
    torch.manual_seed(1)
    layers = []
    for n_in, n in ((16, 40), (40, 12)):
        linear = nn.Linear(n_in, n)
        linear.weight.data *= 3
        own = {"linear_features": n} if kind in (snn.RLeaky, snn.RSynaptic) else {}
        layers += [linear, kind(**options, **own, init_hidden=True)]
        if own:
            layers[-1].recurrent.weight.data *= 0.3
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("kind", "options", "model"),
    [
        (snn.Leaky, {"beta": 0.9}, "cuba_lif_subtract_delayed"),
        (snn.Leaky, {"beta": 0.9, "reset_delay": False}, "cuba_lif_subtract_guarded"),
        (snn.Synaptic, {"alpha": 0.5, "beta": 0.8}, "cuba_lif_subtract_delayed"),
        (snn.RLeaky, {"beta": 0.9}, "cuba_lif_subtract_delayed"),
        (
            snn.RSynaptic,
            {"alpha": 0.5, "beta": 0.8, "reset_mechanism": "zero"},
            "cuba_lif_zero_delayed_lossy",
        ),
        (snn.Lapicque, {"R": 5.0, "C": 2.0, "time_step": 1.0}, "cuba_lif_subtract_delayed"),
        (snn.Leaky, {"beta": 0.8, "reset_mechanism": "none"}, "cuba_lif_none"),
    ],
)
def test_networks_that_decay_keep_most_spikes(kind, options, model, tmp_path):
    net = decaying(kind, **options)
    x = (np.random.default_rng(6).random((60, 4, 16)) < 0.3).astype(np.int32)
    file = to_nir(net, torch.zeros(1, 16), dt_s=DT)
    write_nir(tmp_path / "x.nir", file)
    graph, forced = lower(read_nir(tmp_path / "x.nir")), lower(file, reset="force-zero")
    assert graph == lower(file)
    assert {node.model for name, node in graph.neurons.items() if name in "13"} == {model}
    want = torch_spikes(net, x)["3"]
    same, other = (
        (simulate(each, x, record=("s",))["3"].s == want).mean() for each in (graph, forced)
    )
    assert same > 0.9, same
    assert other < same - 0.02, (other, same)
    assert 0.03 < want.mean() < 0.97
