"""Sparse connections in blocks of targets, and threads that share the blocks of one sample."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_array_equal

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hardware_sim.engine import teams
from biril_nm.hardware_sim.engine.paths import Paths
from biril_nm.hardware_sim.engine.program import compile_graph
from biril_nm.hardware_sim.engine.sparse_tables import sparse_tables
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.loihi import WEIGHT_SHIFT

PARTS = Paths(targets="parts")


def matrix(n_post, n_pre, density, seed=0):
    random = np.random.default_rng(seed)
    found = scipy.sparse.random(n_post, n_pre, density, "csr", random_state=seed)
    found.data = 2 * random.integers(-60, 61, found.nnz)
    return found.astype(np.int16)


def network(seed=0):
    """Sparse connections alone, in a loop, with a delay, with a negative exponent, two at one node."""
    nodes = {
        "in": Input((30,)), "first": Sparse(matrix(50, 30, 0.5, seed)), "n": Neurons((50,), vth=80, dv=100),
        "loop": Sparse(matrix(50, 50, 0.3, seed + 1), weight_exp=-3, delay=2),
        "second": Sparse(matrix(40, 50, 0.5, seed + 2)), "more": Dense(np.full((40, 50), 2)),
        "m": Neurons((40,), vth=90, du=500, dv=20), "out": Output(),
    }  # fmt: skip
    edges = (
        ("in", "first"), ("first", "n"), ("n", "loop"), ("loop", "n"), ("n", "second"), ("second", "m"),
        ("n", "more"), ("more", "m"), ("m", "out"),
    )  # fmt: skip
    return LoihiGraph(nodes, edges)


def spikes(batch, n_steps=12, n=30, seed=3):
    return np.random.default_rng(seed).integers(0, 2, (n_steps, batch, n))


@pytest.fixture
def handed(monkeypatch):
    """How often a share was handed to another thread."""
    calls = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *arguments):
            calls.append(arguments)
            return super().submit(*arguments)

    monkeypatch.setattr(teams, "ThreadPoolExecutor", Pool)
    return calls


def assert_equal(found, wanted):
    for name in ("n", "m"):
        for variable, array in wanted[name].variables().items():
            assert_array_equal(np.asarray(getattr(found[name], variable)), np.asarray(array))


@pytest.mark.parametrize(("batch", "n_threads"), [(1, 2), (1, 3), (1, 16), (2, 4), (3, 7)])
def test_threads_that_share_a_sample_give_the_same_integers(handed, batch, n_threads):
    graph, x = network(), spikes(batch)
    wanted = simulate(graph, x, record="s,u,v", n_threads=1)
    assert sum(wanted.n_spikes.values()) > 100 and not handed
    shared = replace(graph)
    compile_graph(shared, PARTS)
    assert_equal(simulate(shared, x, record="s,u,v", n_threads=n_threads), wanted)
    assert handed


def test_a_wrong_share_is_found(handed):
    """Negative twin: the last target alone."""
    graph, x = network(), spikes(1)
    wanted = simulate(graph, x, record="s,v", n_threads=1)
    shared = replace(graph)
    for link in compile_graph(shared, PARTS).incoming["m"]:
        if link.n_parts > 1:
            link.weights.total[-1] += 1
            link.weights.values[link.weights.pointers[-2] :] += 1
            link.weights.values[link.weights.pointers[-30] :] += 1
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_equal(simulate(shared, x, record="s,v", n_threads=2), wanted)


def test_instances_of_a_session_share_threads(handed):
    graph, x = network(), spikes(1)
    wanted = Simulator(graph).run(x, "s,v")
    shared = replace(graph)
    compile_graph(shared, PARTS)
    session = Simulator(shared)
    parts = [session.run(x[a:b], "s,v", n_threads=2) for a, b in ((0, 5), (5, 12))]
    assert handed
    for name in ("n", "m"):
        v = np.concatenate([np.asarray(part[name].v) for part in parts])
        assert_array_equal(v, np.asarray(wanted[name].v))


def test_one_image_for_all_steps_is_summed_once(handed):
    nodes = {
        "in": Input((30,)), "c": Sparse(matrix(50, 30, 0.5)), "n": Neurons((50,), vth=80), "out": Output(),
    }  # fmt: skip
    graph = LoihiGraph(nodes, (("in", "c"), ("c", "n"), ("n", "out")))
    compile_graph(graph, PARTS)
    x = np.broadcast_to(spikes(1, 1), (9, 1, 30))
    assert simulate(graph, x, n_threads=2).n_spikes["n"] > 20 and not handed
    assert simulate(graph, np.array(x), n_threads=2).n_spikes["n"] > 20 and handed


def test_a_small_network_is_not_shared(handed):
    simulate(network(), spikes(1), n_threads=8)
    assert not handed


@pytest.mark.parametrize("targets", [None, "whole", "parts"])
@pytest.mark.parametrize(
    "shape", [(7, 5, 0.5), (300, 40, 0.2), (70_000, 20, 0.3), (70_000, 9, 2e-5)]
)
def test_tables_hold_the_matrix(shape, targets):
    rows = matrix(*shape)
    weights, n_parts = sparse_tables(rows, np.int32, False, Paths(targets=targets))
    n_post, n_pre = rows.shape
    pointers = weights.pointers.reshape(-1, n_pre + 1)
    wide = targets == "whole" or (shape[2] < 1e-3 and targets is None)
    assert weights.targets.dtype == (np.int32 if wide else np.uint16)
    assert (len(pointers) - 1) * weights.size < n_post <= len(pointers) * weights.size
    assert n_parts == (len(pointers) if targets == "parts" else 1)
    assert weights.size <= 1 << 16 or wide
    counts = np.diff(pointers, axis=1)
    sources = np.concatenate([np.repeat(np.arange(n_pre), each) for each in counts])
    first = np.repeat(np.arange(len(pointers)) * weights.size, counts.sum(axis=1))
    placed = (weights.values, (first + weights.targets, sources))
    assert (scipy.sparse.csr_matrix(placed, rows.shape) != rows).nnz == 0
    assert_array_equal(weights.total, np.asarray(rows.sum(axis=1)).ravel())
    assert_array_equal(weights.degrees, np.diff(rows.tocsc().indptr))


@pytest.mark.parametrize("sparse", [None, "active", "silent"])
@pytest.mark.parametrize("activity", [0.0, 0.1, 0.9, 1.0])
def test_many_targets_equal_products_of_scipy(sparse, activity):
    rows = matrix(70_000, 20, 0.3)
    nodes = {"in": Input((20,)), "c": Sparse(rows), "n": Neurons((70_000,), vth=131071, dv=4096)}
    graph = LoihiGraph(nodes, (("in", "c"), ("c", "n")))
    compile_graph(graph, Paths(sparse=sparse))
    x = (np.random.default_rng(1).random((3, 1, 20)) < activity).astype(np.uint8)
    v = np.asarray(simulate(graph, x, record="v", n_threads=2)["n"].v)
    for t in range(3):
        assert_array_equal(v[t, 0], (rows.astype(np.int64) @ x[t, 0]) << WEIGHT_SHIFT)
