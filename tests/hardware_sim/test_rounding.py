"""Rounding by a random number of each synapse: exact, without bias, and never taken for Lava's."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from biril_nm.errors import ConfigError, FileFormatError, RangeError
from biril_nm.export.lava import run_lava
from biril_nm.export.lava.backend import write
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Sparse
from biril_nm.learning.rule import LearningRule, Term
from biril_nm.parity import check_parity
from tests.support.learning_checks import check_against_reference
from tests.support.random_learning import random_input, random_network

# Each step adds a quarter of a weight unit to every synapse.
QUARTER = LearningRule("quarter", (Term(1, -3, ("u",)), Term(1, -3, ("u",))))
N_PRE, N_POST, STEPS = 60, 50, 40


def drifting(kind=Dense, rounding="synapse", rule=QUARTER):
    nodes = {
        "in": Input((N_PRE,)),
        "fc": kind(np.full((N_POST, N_PRE), 2), rule=rule),
        "n": Neurons((N_POST,), vth=1 << 16),
    }
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "n")), {"rounding": rounding})


def learned(graph, steps=STEPS):
    run = simulate(graph, np.zeros((steps, 1, N_PRE), np.uint8), record="w", learn=True)
    return run.connections["fc"].w.reshape(-1, N_POST * N_PRE).astype(int)


@pytest.mark.parametrize("kind", ["dense", "sparse", "loop"])
@pytest.mark.parametrize("three_factor", [False, True])
def test_every_integer_equals_the_scalar_reference(kind, three_factor):
    compared = changed = 0
    for seed in range(4):
        graph = random_network([seed, len(kind)], kind, three_factor, legal=seed % 2 == 0)
        own = graph.with_metadata(rounding="synapse")
        both = check_against_reference(own, random_input(own, 11, 2, seed))
        compared, changed = compared + both[0], changed + both[1]
    assert compared > 5000
    assert changed > 0


def test_synapses_are_rounded_one_by_one_and_without_bias():
    shared, own = learned(drifting(rounding="connection")), learned(drifting())
    assert (shared == shared[:, :1]).all()  # one number for all: they go up together
    steps = np.diff(own, axis=0)
    assert set(np.unique(steps)) == {0, 1}
    for axis in (0, 1):  # in each phase, and of each synapse
        share, n = steps.mean(axis), steps.shape[axis]
        assert np.abs(share - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / n)
    assert abs(np.corrcoef(steps[:-1].ravel(), steps[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(steps[:, :-1].ravel(), steps[:, 1:].ravel())[0, 1]) < 0.02


def test_dense_and_full_sparse_learn_the_same():
    by_source = learned(drifting(Sparse)).reshape(-1, N_POST, N_PRE)
    assert_array_equal(by_source, learned(drifting()).reshape(-1, N_POST, N_PRE))


def test_a_session_that_is_cut_equals_one_run():
    graph = random_network(7, "loop", True).with_metadata(rounding="synapse")
    spikes = random_input(graph, 12, 1, 3)
    whole, parts = Simulator(graph, learn=True), Simulator(graph, learn=True)
    whole.run(spikes)
    parts.run({name: values[:5] for name, values in spikes.items()})
    later = Simulator(graph, learn=True)
    later.load_state(parts.state)
    later.run({name: values[5:] for name, values in spikes.items()})
    assert later.graph == whole.graph
    other = Simulator(graph.with_metadata(rounding="connection"), learn=True)
    with pytest.raises(ConfigError, match="random numbers or impulses are damaged"):
        other.load_state(parts.state)


def test_lava_is_never_compared_with_it(tmp_path):
    graph, spikes = drifting(), np.zeros((3, 1, N_PRE), np.uint8)
    message = r"'lava' rounds weights by one .* of each connection, .* one of each synapse"
    with pytest.raises(ConfigError, match=message):
        check_parity(graph, spikes, ("sim", "lava"), learn=True)
    with pytest.raises(RangeError, match="'fc': weights rounded by .* each synapse; .* each conn"):
        run_lava(graph, spikes, learn=True)
    with pytest.raises(RangeError, match="'fc': weights rounded by .* each synapse; .* each conn"):
        write(graph, tmp_path / "bundle")  # which learns with --learn


def test_other_roundings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="rounding is 'row'; needed: one of connection, synapse"):
        simulate(drifting(rounding="row"), np.zeros((3, 1, N_PRE), np.uint8), learn=True)
    path = tmp_path / "x.loihi.npz"
    drifting().save(path)
    assert LoihiGraph.load(path).metadata["rounding"] == "synapse"
    drifting(rounding=json.loads("[1]")).save(path, force=True)
    with pytest.raises(FileFormatError, match=r"rounding is \[1\]; needed: one of"):
        LoihiGraph.load(path)
