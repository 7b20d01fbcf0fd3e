"""The table of a graph shows the weights and registers that it has, not those that it once had."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import snntorch as snn
import torch
from torch import nn

from biril_nm.engines.torch_net import run_torch
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Sparse
from biril_nm.hw_graph.digest import DIGEST
from biril_nm.hw_graph.table import CONNECTION_HEADER, connection_rows, neuron_table

LOWERED = ("worst neuron", "clipped", "rel. error")  # columns that only the lowering knows
SCALES = ("scale", "bound on u", "tightest limit")


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)

    def lif():
        return snn.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    return lower(
        to_nir(nn.Sequential(nn.Linear(8, 16), lif(), nn.Linear(16, 4), lif()), torch.zeros(1, 8))
    )


def rows(graph):
    """Name of the node -> column -> cell, of both tables."""
    header, neurons = neuron_table(graph)
    both = [(CONNECTION_HEADER, row) for row in connection_rows(graph)]
    both += [(header, row) for row in neurons]
    return {row[0]: dict(zip(header, row)) for header, row in both}


def test_the_table_of_a_lowered_graph_is_full(graph):
    found = rows(graph)
    assert all(found[name][column] != "-" for name in ("0", "2") for column in LOWERED)
    assert all(found[name][column] != "-" for name in ("1", "3") for column in SCALES)
    assert "have changed" not in graph.summary()
    for name, node in graph.connections.items():
        facts = graph.metadata["quantisation"][name]
        assert found[name]["zeros"] == str(np.count_nonzero(node.weight == 0))
        assert found[name]["bits used"] == str(facts["bits_used"])


def test_edited_weights_are_counted_and_old_facts_are_gone(graph):
    zeros = np.zeros_like(graph.nodes["0"].weight)
    edited = graph.with_node("0", weight=zeros)
    found = rows(edited)
    assert found["0"]["zeros"] == str(zeros.size) != rows(graph)["0"]["zeros"]
    assert found["0"]["bits used"] == "0"
    assert {found["0"][column] for column in LOWERED} == {"-"}
    assert {found["1"][column] for column in SCALES} == {"-"}
    assert found["2"] == rows(graph)["2"] and found["3"] == rows(graph)["3"]
    assert "note: weights of 0 have changed since the lowering" in edited.summary()


@pytest.mark.parametrize("change", [{"vth": 7}, {"bias_mant": 5}, {"dv": 9}])
def test_edited_registers_take_their_scale_along(graph, change):
    edited = graph.with_node("1", **change)
    assert {rows(edited)["1"][column] for column in SCALES} == {"-"}
    assert rows(edited)["0"] == rows(graph)["0"]
    assert "registers or weights of 1 have changed" in edited.summary()


def test_files_keep_what_is_known(graph, tmp_path):
    graph.save(tmp_path / "x.loihi.npz")
    again = LoihiGraph.load(tmp_path / "x.loihi.npz")
    assert rows(again) == rows(graph) and again.summary() == graph.report()


def test_facts_of_old_files_count_while_their_zeros_agree(graph):
    old = {
        key: {n: {k: v for k, v in facts.items() if k != DIGEST} for n, facts in table.items()}
        for key, table in graph.metadata.items()
        if key in ("quantisation", "neurons")
    }
    before = graph.with_metadata(**old)
    assert rows(before) == rows(graph)
    edited = before.with_node("0", weight=np.zeros_like(graph.nodes["0"].weight))
    assert {rows(edited)["0"][column] for column in LOWERED} == {"-"}


def test_a_graph_made_by_hand_has_bits_and_zeros():
    matrix = scipy.sparse.csr_matrix(np.array([[0, 12], [130, 0]]))
    nodes = {
        "in": Input((2,)),
        "d": Dense([[0, 254], [0, 2]]),
        "s": Sparse(matrix),
        "n": Neurons((2,), vth=9),
    }
    graph = LoihiGraph(nodes, (("in", "d"), ("d", "n"), ("in", "s"), ("s", "n")))
    found = rows(graph)
    assert (found["d"]["bits used"], found["d"]["zeros"], found["d"]["weights"]) == ("7", "2", "4")
    assert (found["s"]["bits used"], found["s"]["zeros"], found["s"]["weights"]) == ("7", "0", "2")
    assert {found["d"][column] for column in LOWERED} == {"-"}
    assert "have changed" not in graph.summary()


def test_scale_is_in_weight_units_per_threshold():
    """The formula of docs/graphs.md gives the membrane of torch in volts."""
    lif = snn.Leaky(
        beta=0.9, threshold=0.7, init_hidden=True, reset_mechanism="zero", reset_delay=False
    )
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(8, 16), lif)
    for parameter in net[0].parameters():
        parameter.data *= 0.15
    lowered = lower(to_nir(net, torch.zeros(1, 8)))
    spikes = (np.random.default_rng(0).random((6, 20, 8)) < 0.4).astype(np.int32)
    run, floats = simulate(lowered, spikes, record=()), run_torch(net, spikes)
    assert not floats.n_spikes["1"] and not run.n_spikes["1"]
    scale, vth = lowered.metadata["neurons"]["1"]["scale"], lowered.neurons["1"].vth
    assert abs(scale - vth) <= 0.5
    volts = run.v_last["1"] / 64 / vth * 0.7
    membrane = lif.mem.detach().numpy()
    assert np.abs(membrane).max() > 0.1
    np.testing.assert_allclose(volts, membrane, atol=0.02)
