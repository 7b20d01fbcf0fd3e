"""Kernels that train on the integers: equal to torch in every form; blocks of which only sums are sent."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from biril_nm.compartments import CUBA_LIF, RESET_MODELS
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.neurons.surrogates import SURROGATES
from biril_nm.training.integers import QuantizedNet, connections, pooling
from biril_nm.training.integers.records import SLOPES
from tests.support.quantized import assert_equal


def pooled_graph(registers, model=CUBA_LIF.name, block=2):
    """Sums over blocks behind two populations, before a kernel and before a matrix."""
    r = np.random.default_rng(9)
    kernel = 2 * r.integers(-20, 60, (3, 1, 3, 3))
    second = 32 * r.integers(-3, 5, (4, 3, 3, 3))
    matrix = 64 * r.integers(-2, 3, (5, 4, 12 // block // 2, 12 // block // 2))
    nodes = {
        "in": Input((1, 12, 12), 8),
        "c1": Conv(kernel, padding=1),
        "n1": Neurons((3, 12, 12), model=model, registers=registers(40 * 255)),
        "c2": Conv(second.repeat(block, 2).repeat(block, 3), block, block, weight_bits=4),
        "n2": Neurons((4, 12 // block, 12 // block), model=model, registers=registers(200)),
        "fc": Dense(matrix.repeat(2, 2).repeat(2, 3).reshape(5, -1), weight_bits=3, weight_exp=-1),
        "out": Neurons((5,), model=model, registers=registers(150)),
        "end": Output(),
    }
    names = list(nodes)
    return LoihiGraph(nodes, tuple(pairwise(names)), {"decision": "score"})


def memoryless(vth, **others):
    return {"vth": vth, "bias_mant": 560, **others}


FORMS = {
    "if": (CUBA_LIF, {}),
    "lif": (CUBA_LIF, {"dv": 400}),
    "cuba": (CUBA_LIF, {"dv": 300, "du": 2000}),
    **{model.name: (model, {"dv": 300, "du": 2500}) for model in RESET_MODELS},
}


def assert_close(grads, expected, net):
    """Gradients within rounding; those of scales are what weights, bias and threshold leave of each other."""
    for name, wanted in expected.items():
        largest = float(wanted.abs().max())
        if name.endswith("log_scale"):
            largest = max(float((p.detach() * p.grad).abs().sum()) for p in net.parameters())
        assert largest > 0 and (grads[name] - wanted).abs().max() < 2e-5 * largest, name


@pytest.mark.parametrize(
    ("form", "surrogate"),
    [(form, "sigmoid") for form in FORMS]
    + [("lif", name) for name in SURROGATES if name not in ("sigmoid", "learned_atan")],
)
def test_kernels_and_torch_have_equal_integers_and_gradients(form, surrogate, monkeypatch):
    """Every form of the step, and every way to sum: float32 and float64, with and without blocks."""
    model, more = FORMS[form]
    graph = pooled_graph(lambda vth: memoryless(vth, **more), model.name)
    values = np.random.default_rng(2).integers(0, 256, (1, 3, 1, 12, 12))
    x = torch.as_tensor(values).expand(4, *values.shape[1:])
    found = []
    for limit, compiled in ((1 << 24, True), (0, True), (0, False)):
        monkeypatch.setattr(connections, "EXACT", limit)
        net = QuantizedNet(graph, surrogate)
        net.compiled = compiled
        assert (net.slope is None) == (surrogate not in SLOPES)
        assert net.connection("c2").pool == (2, 2) == net.pool_behind("n1") == net.pool_behind("n2")
        assert net.connection("c2").weight.shape == (4, 3, 3, 3)
        assert net.graph().connections == graph.connections
        assert assert_equal(net, x.numpy()) > 200
        scores = net(x).scores
        nn.functional.cross_entropy(scores, torch.tensor([0, 3, 1])).backward()
        found.append((scores, {name: p.grad for name, p in net.named_parameters()}))
    for scores, grads in found[:2]:
        torch.testing.assert_close(scores, found[2][0].to(scores.dtype), rtol=1e-6, atol=1e-6)
        assert_close(grads, found[2][1], net)


@pytest.mark.parametrize(
    ("source", "block", "stride"),
    [((2, 8, 8), (2, 2), None), ((3, 7, 7), (2, 2), None), ((2, 9, 6), (3, 2), None),
     ((1, 5, 4), (5, 4), None), ((2, 6, 8), (1, 4), None), ((2, 12, 12), (2, 2), 1),
     ((2, 12, 12), (3, 2), 2), ((2, 5, 7), (1, 1), None)],
)  # fmt: skip
def test_repeated_weights_are_found_and_come_back(source, block, stride):
    r = np.random.default_rng(1)
    sizes = [n // b for n, b in zip(source[1:], block)]
    if stride is None:
        small = r.integers(-9, 10, (3, source[0], *sizes)).astype(float)
        node = Dense(np.zeros((3, int(np.prod(source))), int))
        wanted = small.reshape(3, -1)
    else:
        wanted = r.integers(-9, 10, (3, source[0], 3, 3)).astype(float)
        step = tuple(stride * b for b in block)
        kernel = np.zeros((3, source[0], 3 * block[0], 3 * block[1]), int)
        node = Conv(kernel, step, block)
    whole = pooling.repeated(wanted, block, source)
    assert whole.shape == node.weight.shape
    assert pooling.find_pool(node, whole, source) == block
    np.testing.assert_array_equal(pooling.folded(whole, block, source), wanted)


def test_blocks_that_leave_a_rest_compute_the_same():
    """7 x 7 neurons in blocks of 2 x 2: the last row and column reach nothing."""
    r = np.random.default_rng(5)
    small = 64 * r.integers(-2, 3, (4, 2 * 3 * 3))
    nodes = {
        "in": Input((1, 7, 7), 8),
        "c": Conv(2 * r.integers(-20, 60, (2, 1, 3, 3)), padding=1),
        "n": Neurons((2, 7, 7), vth=40 * 255),
        "fc": Dense(pooling.repeated(small, (2, 2), (2, 7, 7)), weight_bits=3),
        "out": Neurons((4,), vth=150),
        "end": Output(),
    }
    graph = LoihiGraph(nodes, tuple(pairwise(nodes)), {"decision": "score"})
    x = torch.as_tensor(r.integers(0, 256, (3, 2, 1, 7, 7)))
    found = []
    for compiled in (True, False):
        net = QuantizedNet(graph)
        net.compiled = compiled
        assert net.pool_behind("n") == (2, 2) and net.graph().connections == graph.connections
        assert assert_equal(net, x.numpy()) > 50
        net(x).scores.square().sum().backward()
        found.append({name: p.grad for name, p in net.named_parameters()})
    assert_close(*found, net)
