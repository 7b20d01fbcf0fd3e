"""NIR graphs whose integers are exact: parts, chains and the comparison with the float interpreter.

Weights and thresholds are multiples of 1/64 on the 8-bit grid, so that only decay rounding is left
between float and integers; nodes without decay must keep every spike.
"""

from __future__ import annotations

from itertools import pairwise

import nir
import numpy as np

from biril_nm.export import lower
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.hardware_sim import simulate
from tests.support.nir_interpreter import NirInterpreter

DT = 1e-3
UNIT = 64.0


def grid(shape, seed=0, low=-40, high=60):
    """Even integers / 64; the largest magnitude is fixed, so that the scale is 64 2^k."""
    w = 2 * np.random.default_rng(seed).integers(low, high, shape)
    w.flat[0], w.flat[-1] = 254, -254
    return w / UNIT


def neurons(kind, shape, threshold=4.0, **changes):
    one = np.ones(shape)
    tau = {"tau": 20 * DT * one} if "Cuba" not in kind else {}
    cuba = {"tau_syn": 4 * DT * one, "tau_mem": 20 * DT * one, "w_in": 4.0 * one}
    fields = {
        "IF": {"r": one, "v_threshold": threshold * one},
        "I": {"r": one},
        "LIF": {**tau, "r": 20 * one, "v_leak": 0 * one, "v_threshold": threshold * one},
        "LI": {**tau, "r": 20 * one, "v_leak": 0 * one},
        "CubaLIF": {**cuba, "r": 20 * one, "v_leak": 0 * one, "v_threshold": threshold * one},
        "CubaLI": {**cuba, "r": 20 * one, "v_leak": 0 * one},
        "Threshold": {"threshold": threshold * one},
    }[kind]
    return getattr(nir, kind)(**{**fields, **changes})


def chain(shape, *named, **extra):
    nodes = {"input": nir.Input(input_type={"input": np.array(shape)}), **dict(named)}
    names = list(nodes)
    out = named[-1][1].output_type
    nodes["output"] = nir.Output(output_type={"output": out["output"]})
    edges = [*pairwise(names), (names[-1], "output")]
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT}, **extra)


def spikes(shape, n_steps=40, seed=1, p=0.3):
    return (np.random.default_rng(seed).random((n_steps, 3, *shape)) < p).astype(np.int32)


def compare(graph, x, same=1.0, **options):
    """Share of equal spikes of every spiking node is at least ``same``."""
    options = {"reset": "zero", **options}
    lowered = lower(graph, **options)
    trace = simulate(lowered, x, record=("s",))
    graph = plain_graph(graph)
    floats = NirInterpreter(graph, DT).run(x)
    shared = [n for n in lowered.neurons if n in floats and hasattr(graph.nodes[n], "v_threshold")]
    shared += [n for n in lowered.neurons if isinstance(graph.nodes.get(n), nir.Threshold)]
    assert shared
    for name in shared:
        ours = trace[name].s
        assert 0 < ours.mean() < 1, name
        assert (ours == floats[name]).mean() >= same, (name, (ours == floats[name]).mean())
    return lowered


def graph_of(nodes, edges=None, **metadata):
    edges = list(pairwise(nodes)) if edges is None else edges
    return nir.NIRGraph(nodes, edges, metadata={"dt": DT, **metadata}, type_check=False)


def source(*shape, **metadata):
    return nir.Input({"input": np.array(shape)}, metadata=metadata)


def sink(*shape):
    return nir.Output({"output": np.array(shape)})


def small(**changes):
    """Input (6,) -> Linear -> IF (4,) -> Output, with attributes of nodes replaced: ``n__r=...``."""
    nodes = {"in": source(6), "fc": nir.Linear(grid((4, 6))), "n": neurons("IF", (4,))}
    graph = graph_of({**nodes, "out": sink(4)})
    for key, value in changes.items():
        name, field = key.split("__")
        setattr(graph.nodes[name], field, value)
    return graph


def single(node, shape, neuron=None):
    """Input -> node -> neurons with shared parameters."""
    neuron = neuron or nir.IF(r=np.array(1.0), v_threshold=np.array(4.0))
    return graph_of({"in": source(*shape), "x": node, "n": neuron, "out": sink(1)})
