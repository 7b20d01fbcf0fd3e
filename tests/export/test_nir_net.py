"""Modules of NIR graphs: their inputs, names, gradients of sums, copies, and graphs of many nodes."""

from __future__ import annotations

import pickle
import time
from itertools import pairwise

import nir
import numpy as np
import pytest
import scipy.sparse
import snntorch as snn
import torch

import biril_nm as bnm
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export import to_nir
from biril_nm.export.nir_nodes.fixed_map import DENSE_MAX, FixedMap
from biril_nm.models.nir_net import NirNet
from biril_nm.models.tracing import reset_neurons
from biril_nm.neurons.surrogates import AtanSurrogate, formula, slope
from tests.support.nir_graphs import DT, chain, graph_of, grid, neurons, sink, source


def two_inputs() -> nir.NIRGraph:
    nodes = {"left": source(3), "right": source(3), "n": neurons("IF", (3,)), "out": sink(3)}
    return graph_of(nodes, [("left", "n"), ("right", "n"), ("n", "out")])


def looped() -> NirNet:
    nodes = {
        "in": source(3),
        "n": neurons("IF", (3,)),
        "back": nir.Linear(-np.eye(3)),
        "out": sink(3),
    }
    edges = [("in", "n"), ("n", "back"), ("back", "n"), ("n", "out")]
    return bnm.from_nir(graph_of(nodes, edges), reset="zero")


def linear_pool(padding: tuple[int, int], average: bool = False) -> NirNet:
    kind = nir.AvgPool2d if average else nir.SumPool2d
    pool = kind(np.array([2, 2]), np.array([2, 2]), np.array(padding))
    size = [(4 + 2 * p - 2) // 2 + 1 for p in padding]
    graph = graph_of({"in": source(2, 4, 4), "pool": pool, "out": sink(2, *size)})
    return bnm.from_nir(graph, double=True)


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 0)])
def test_sums_over_windows_have_the_gradient_of_a_sum_and_no_weights(padding):
    net = linear_pool(padding)
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    net(x).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    assert not list(net.parameters())
    ones = torch.ones_like(x)
    assert torch.equal(net(ones), 4 * linear_pool(padding, average=True)(ones))
    assert net(ones).sum() == 32


@pytest.mark.parametrize("padding", [(0, 0), (1, 1)])
def test_sums_over_windows_come_back(padding):
    pool = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array(padding))
    side = 2 + padding[0]
    nodes = {"in": source(2, 4, 4), "pool": pool, "n": neurons("IF", (2, side, side))}
    net = bnm.from_nir(graph_of({**nodes, "out": sink(2, side, side)}), reset="zero")
    again = to_nir(net, torch.zeros(1, 2, 4, 4), dt_s=DT).nodes["pool"]
    assert isinstance(again, nir.SumPool2d)
    assert tuple(again.padding) == padding


@pytest.mark.parametrize(
    "name",
    ["training", "_modules", "forward", "run", "before", "T_destination", "fc_gain", "n_drive"],
)
def test_nodes_may_have_the_names_of_attributes(name):
    first = nir.Scale(np.full(6, 2.0))
    nodes = {
        "in": source(6),
        name: first,
        "fc": nir.Scale(np.full(6, 3.0)),
        "n": neurons("I", (6,)),
    }
    net = bnm.from_nir(graph_of({**nodes, "out": sink(6)}), if_integration="per_step")
    assert net.run(torch.ones(1, 1, 6)).unique().tolist() == [6.0]


def test_the_layers_of_one_node_keep_the_names_of_others():
    fixed = FixedMap.of(scipy.sparse.eye(4), None, (2, 2), (4,))
    nodes = {
        "in": source(2, 2),
        "a": fixed,
        "a_flatten": nir.Scale(np.full(4, 3.0)),
        "out": sink(4),
    }
    net = bnm.from_nir(graph_of(nodes))
    assert net(torch.ones(1, 2, 2)).unique().tolist() == [3.0]


def test_runs_take_what_the_inputs_are():
    net = bnm.from_nir(two_inputs(), reset="zero")
    x = torch.ones(2, 1, 3)
    assert net.run({"left": x, "right": x}).shape == (2, 1, 3)
    for given, message in [
        (x, "inputs of this run are left; expected left, right"),
        ({"left": x}, "inputs of this run are left; expected left, right"),
        ({"left": x, "right": x, "up": x}, "left, right, up; expected left, right"),
        ({"left": x, "right": x[:1]}, "expected the same for all"),
        ({"left": x[:0], "right": x[:0]}, "'left' is of shape .0, 1, 3.; expected a tensor"),
        ({"left": x, "right": x[..., :2]}, "'right' is of shape .2, 1, 2.; .*n_steps, batch, 3"),
        ({"left": x, "right": x.numpy()}, "'right' is a ndarray; expected a tensor"),
    ]:
        with pytest.raises(ConfigError, match=message):
            net.run(given)
    with pytest.raises(ConfigError, match="a step has 3 tensors; expected 2, for left, right"):
        net(x[0], x[0], x[0])


@pytest.mark.parametrize("several", [False, True])
def test_modules_can_be_pickled(several):
    one = chain((3,), ("fc", nir.Linear(grid((4, 3)))), ("n", neurons("LIF", (4,))))
    net = bnm.from_nir(two_inputs() if several else one, reset="zero")
    x = dict.fromkeys(net.inputs, 3 * torch.ones(4, 1, 3))
    expected = net.run(x)
    assert expected.any()
    assert torch.equal(pickle.loads(pickle.dumps(net)).run(x), expected)
    if several:
        graph = to_nir(net, (torch.zeros(1, 3), torch.zeros(1, 3)), dt_s=DT)
        assert {"left", "right"} <= set(graph.nodes)


def test_its_surrogate_is_the_default_of_snntorch():
    x = torch.linspace(-2, 2, 9)
    ours, theirs = AtanSurrogate(), snn.Leaky(0.9).spike_grad
    assert formula(ours) == formula(theirs)
    torch.testing.assert_close(slope(ours, x), slope(theirs, x))
    assert torch.equal(ours(x), theirs(x))
    assert not torch.allclose(slope(AtanSurrogate(3.0), x), slope(theirs, x))


def test_a_loop_refuses_another_batch_until_it_is_reset():
    net = looped()
    net(torch.ones(2, 3))
    with pytest.raises(ConfigError, match=r"batch of this step is 1; expected 2.*Call reset\(\)"):
        net(torch.ones(1, 3))
    net.reset()
    net(torch.ones(1, 3))
    reset_neurons(net)
    net(torch.ones(2, 3))
    assert "back" in to_nir(net, torch.zeros(1, 3), dt_s=DT).nodes  # from rest
    assert net.before["n"].shape == (2, 3)


def test_matrices_that_torch_would_fill_with_zeros_are_refused():
    n = int(DENSE_MAX**0.5) + 1
    fixed = FixedMap.of(scipy.sparse.eye(n), None, (n,), (n,))
    with pytest.raises(UnsupportedNodeError, match=f"'big' is a matrix of {n} x {n} .* at most"):
        bnm.from_nir(graph_of({"in": source(n), "big": fixed, "out": sink(n)}))


@pytest.mark.parametrize("loops", [False, True])
def test_many_nodes_take_time_by_their_number(loops):
    n = 1500
    names = ["in", *(f"n{i}" for i in range(n)), "out"]
    nodes = {name: neurons("IF", (1,), metadata={"reset": "zero"}) for name in names}
    nodes |= {"in": source(1), "out": sink(1)}
    edges = list(pairwise(names))
    if loops:
        edges += [(name, name) for name in names[1:-1]]
    graph = graph_of(nodes, edges)
    began = time.process_time()
    net = bnm.from_nir(graph)
    assert time.process_time() - began < 5
    assert len(net.parts) == n + 2
    assert sum(bool(part.late) for part in net.parts) == (n if loops else 0)
