"""Leaky integrators between layers become the synaptic current of the neurons behind them."""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from torch import nn

from biril_nm.errors import UnsupportedNodeError
from biril_nm.export import lower, to_nir
from biril_nm.export.lowering.passes.float_net import float_net
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.hardware_sim import simulate
from tests.support.float_runs import run_float_net
from tests.support.nir_graphs import DT, graph_of, neurons, sink, source, spikes
from tests.support.nir_interpreter import NirInterpreter

R = np.random.default_rng


def lif(n, **changes):
    one = np.ones(n)
    fields = {"tau": 20 * DT * one, "r": one, "v_leak": 0 * one, "v_threshold": one}
    return nir.LIF(**{**fields, **changes})


def li(n, steps=8.0, **changes):
    one = np.ones(n)
    return nir.LI(**{"tau": steps * DT * one, "r": one, "v_leak": 0 * one, **changes})


def network(filter_node, target=None, behind=None, **more):
    """Spikes -> neurons -> decoder -> filter -> encoder -> neurons."""
    r, n = R(5), 12
    nodes = {
        "in": source(6), "e1": nir.Linear(r.normal(0, 8, (n, 6))), "l1": lif(n),
        "dec": nir.Affine(r.normal(0, 1.2, (2, n)), np.array([0.3, -0.2])), "syn": filter_node,
        "e2": behind or nir.Affine(r.normal(0, 5, (n, 2)), r.uniform(0, 1.4, n)), "l2": target or lif(n),
        "out": sink(n),
    }  # fmt: skip
    names = list(nodes)
    edges = [*pairwise(names), *more.pop("edges", ())]
    return graph_of({**nodes, **more}, edges)


def compare(graph, x):
    """The float network spikes as NIR's equations do, and the integers nearly so; returns the integers."""
    want = NirInterpreter(plain_graph(graph), DT).run(x)["l2"]
    assert 0.01 < want.mean() < 0.9
    got = run_float_net(float_net(plain_graph(graph), DT), x)["l2"]
    np.testing.assert_array_equal(got, want)
    lowered = lower(graph, reset="zero")
    assert (simulate(lowered, x, record=("s",))["l2"].s == want).mean() > 0.85
    return lowered


@pytest.mark.parametrize(
    "target",
    [
        lif(12),
        lif(12, v_leak=np.full(12, 0.3)),
        nir.IF(r=np.full(12, 0.1), v_threshold=np.ones(12), metadata={"if_integration": "per_step"}),
        nir.Threshold(threshold=np.full(12, 0.8)),
        nir.CubaLIF(
            tau_syn=np.full(12, DT), tau_mem=np.full(12, 9 * DT), r=np.ones(12), v_leak=np.zeros(12),
            v_threshold=np.ones(12), w_in=np.ones(12),
        ),
    ],
    ids=["LIF", "LIF with leak", "IF", "Threshold", "CubaLIF of one step"],
)  # fmt: skip
def test_spikes_are_those_of_the_float_network(target):
    """Biases in front of the filter pass it, biases behind it do not; v_leak drives it."""
    filter_node = li(2, r=np.array([1.5, 0.7]), v_leak=np.array([0.2, -0.1]))
    graph = compare(network(filter_node, target), spikes((6,), 80))
    assert graph.neurons["l2"].registers["du"] == 511  # 4096 / 8 - 1
    assert "the filter of 'syn' is the current u of 'l2'" in graph.metadata["notes"]


def test_the_float_network_holds_the_equations():
    """u <- (1 - a) u + g r a E D s, v <- (1 - g) v + u + g r b, with a of the filter and g of the neurons."""
    graph = network(li(2, steps=4.0, r=np.array([2.0, 3.0])))
    net = float_net(plain_graph(graph), DT)
    (link,) = [link for link in net.links_into("l2") if link.source == "l1"]
    _, dynamics = net.neurons["l2"]
    nodes = graph.nodes
    want = nodes["e2"].weight @ np.diag([2.0, 3.0]) @ nodes["dec"].weight
    np.testing.assert_allclose(link.linear.weight, want)
    np.testing.assert_allclose(dynamics.u_decay, 0.25)
    np.testing.assert_allclose(dynamics.weight_gain, 0.25 / 20)
    np.testing.assert_allclose(dynamics.bias_gain, 1 / 20)
    np.testing.assert_allclose(net.bias["l2"], nodes["e2"].bias)


def test_a_loop_through_a_filter():
    """An ensemble that feeds itself; everything it receives has one time constant."""
    r = R(1)
    back = nir.Linear(r.normal(0, 0.8, (12, 2)))
    more = {"dec2": nir.Linear(r.normal(0, 0.6, (2, 12))), "syn2": li(2), "e3": back}
    edges = [("l2", "dec2"), ("dec2", "syn2"), ("syn2", "e3"), ("e3", "l2")]
    graph = network(li(2), edges=edges, **more)
    graph.nodes["dec2"].metadata = {"lag": 1}
    compare(graph, spikes((6,), 60))


def test_a_filter_may_be_read_as_well():
    graph = network(li(2), edges=[("syn", "probe")], probe=sink(2))
    lowered = compare(graph, spikes((6,), 60))
    assert lowered.outputs["probe"] == "syn"
    x = spikes((6,), 60)
    v = simulate(lowered, x, record=("v",))["syn"].v / (
        64 * lowered.metadata["neurons"]["syn"]["scale"]
    )
    want = NirInterpreter(plain_graph(graph), DT).run(x)["syn"]
    assert np.abs(v - want).mean() < 0.02 * np.abs(want).max()


def test_neurons_of_one_population_may_have_filters_of_their_own():
    """A filter for each half of the neurons, as long as no neuron sees two time constants."""
    behind = nir.Linear(np.kron(np.eye(2), R(2).uniform(12, 40, (6, 1))))
    taus = li(2, tau=np.array([4.0, 16.0]) * DT)
    graph = compare(network(taus, behind=behind), spikes((6,), 60))
    np.testing.assert_array_equal(graph.neurons["l2"].registers["du"], np.repeat([1023, 255], 6))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (
            lambda: network(li(2, tau=np.array([4.0, 16.0]) * DT)),
            "'l2' receive signals with time constants of 4 and 16 steps.*Give all of them the same filter",
        ),
        (
            lambda: network(
                li(2), edges=[("l1", "skip"), ("skip", "l2")], skip=nir.Linear(np.ones((12, 12)))
            ),
            r"'l2' receive signals with time constants of 1 and 8 steps \(1: without a filter\)",
        ),
        (
            lambda: network(li(2), neurons("CubaLIF", (12,))),
            "'l2' have a synaptic time constant of their own behind a filter.*Use LIF in place of CubaLIF",
        ),
        (
            lambda: network(neurons("CubaLI", (2,))),
            r"'syn' \(CubaLI\) filters twice, by tau_syn and tau_mem; expected one time constant",
        ),
        (
            lambda: network(nir.I(r=np.ones(2), metadata={"if_integration": "per_step"})),
            r"'syn' \(I\) adds up for ever; expected a time constant.*Use LI, or let it be the last layer",
        ),
        (
            lambda: network(li(2), behind=nir.NIRGraph.from_list(
                nir.Linear(np.eye(2)), li(2), nir.Linear(np.ones((12, 2))))),
            "'l2' receive a signal through two filters, one behind the other; expected one",
        ),
    ],
)  # fmt: skip
def test_what_one_current_cannot_do_is_refused_with_the_reason(graph, message):
    with pytest.raises(UnsupportedNodeError, match=message):
        lower(graph(), reset="zero")


def test_a_membrane_of_snntorch_may_feed_the_next_layer():
    """Leaky without reset, of which mem goes on, is such a filter."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            zero = {"reset_mechanism": "zero", "reset_delay": False}
            self.fc, self.lif = nn.Linear(6, 16), snn.Leaky(0.9, **zero)
            self.dec = nn.Linear(16, 2)
            self.filter = snn.Leaky(0.8, reset_mechanism="none")
            self.enc, self.lif2 = nn.Linear(2, 8), snn.Leaky(0.9, **zero)

        def forward(self, x):
            mem, low, mem2 = self.lif.init_leaky(), self.filter.init_leaky(), self.lif2.init_leaky()
            out = []
            for value in x:
                spk, mem = self.lif(self.fc(value), mem)
                _, low = self.filter(self.dec(spk), low)
                spk, mem2 = self.lif2(self.enc(low), mem2)
                out.append(spk)
            return torch.stack(out)

    torch.manual_seed(0)
    net = Net()
    for layer in (net.fc, net.dec, net.enc):
        layer.weight.data *= 3
    x = torch.from_numpy(spikes((6,), 60)).float()
    graph = lower(to_nir(net, x[:2], dt_s=DT))
    want = net(x).detach().numpy()
    got = simulate(graph, x.int().numpy(), record=("s",))["lif2"].s
    assert 0.02 < want.mean() < 0.9
    assert (got == want).mean() > 0.95
