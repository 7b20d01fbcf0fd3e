"""Random LoihiGraphs and inputs for property tests: every connection, register and wiring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse

from biril_nm.compartments import RESET_MODELS
from biril_nm.hw_graph import (
    Conv,
    Dense,
    Input,
    LoihiGraph,
    Neurons,
    Output,
    Sparse,
    conv_output_shape,
)


def registers(shape, r):
    """Registers, some shared and some per neuron."""

    def draw(low, high):
        return r.integers(low, high, shape) if r.random() < 0.4 else int(r.integers(low, high))

    return {
        "du": draw(0, 4096) if r.random() < 0.7 else 4095,
        "dv": draw(0, 4096),
        "vth": draw(1, 200),
        "bias_mant": draw(-60, 60),
        "bias_exp": int(r.integers(-2, 7)),
    }


def matrix(pre, post, r):
    """Dense or Sparse with any exponent, sign mode, weight bits and delay."""
    weight = r.integers(-300, 300, (int(np.prod(post)), int(np.prod(pre))))
    fields = {
        "weight_exp": int(r.integers(-3, 4)),
        "weight_bits": int(r.integers(1, 9)),
        "sign_mode": r.choice(["mixed", "excitatory", "inhibitory"], p=[0.6, 0.3, 0.1]),
        "delay": int(r.integers(0, 4)) if r.random() < 0.5 else 0,
    }
    if r.random() < 0.5:
        return Dense(weight, **fields)
    return Sparse(scipy.sparse.csr_matrix(weight * (r.random(weight.shape) < 0.4)), **fields)


def convolution(r):
    """Source shape, Conv with any geometry, target shape."""
    while True:
        groups = int(r.integers(1, 3))
        group_in = int(r.integers(1, 4))
        shape = (groups * group_in, int(r.integers(3, 8)), int(r.integers(3, 8)))
        kernel = (groups * int(r.integers(1, 3)), group_in, *(int(n) for n in r.integers(1, 4, 2)))
        node = Conv(
            r.integers(-100, 100, kernel),
            stride=r.integers(1, 4, 2),
            padding=r.integers(0, 3, 2),
            dilation=r.integers(1, 3, 2),
            groups=groups,
            weight_exp=int(r.integers(0, 3)),
            delay=int(r.integers(0, 3)),
        )
        if min(conv_output_shape(node, shape)) >= 1:
            return shape, node, conv_output_shape(node, shape)


def graded_or_binary(shape, message_bits, seed):
    """An Input; every second graded one has a sign."""
    return Input(shape, message_bits, signed=bool(message_bits) and int(np.sum(seed)) % 2 == 1)


def random_graph(seed, wiring=None):
    """A graph of two or three layers.

    ``wiring``: "plain", "residual", "self" (recurrent layer), "loop" (feedback) or "inputs" (two inputs).
    """
    r = np.random.default_rng(seed)
    wiring = wiring or r.choice(["plain", "residual", "self", "loop", "inputs"])
    if r.random() < 0.6:
        shape0, first, shape1 = convolution(r)
    else:
        shape0, shape1 = (int(r.integers(1, 9)),), (int(r.integers(1, 9)),)
        first = matrix(shape0, shape1, r)
    shape2 = (int(r.integers(1, 7)),)
    nodes = {
        "in": graded_or_binary(shape0, int(r.choice([0, 4])), seed),
        "c1": first,
        "n1": Neurons(shape1, **registers(shape1, r)),
        "c2": matrix(shape1, shape2, r),
        "n2": Neurons(shape2, **registers(shape2, r)),
        "out": Output(),
    }
    edges = [("in", "c1"), ("c1", "n1"), ("n1", "c2"), ("c2", "n2"), ("n2", "out")]
    extra = {
        "residual": ("in", shape0, "n2", shape2),
        "self": ("n2", shape2, "n2", shape2),
        "loop": ("n2", shape2, "n1", shape1),
        "inputs": ("in2", (3,), "n1", shape1),
    }.get(str(wiring))
    if extra:
        source, pre, target, post = extra
        if wiring == "inputs":
            nodes["in2"] = Input((3,))
        nodes["c3"] = matrix(pre, post, r)
        edges += [(source, "c3"), ("c3", target)]
    return LoihiGraph(nodes, tuple(edges))


def random_spikes(graph, n_steps, batch, seed):
    """Input for :func:`random_graph`; now and then one image that is repeated."""
    r = np.random.default_rng(seed)
    arrays = {}
    for name, node in graph.inputs.items():
        values = r.integers(node.low, node.high + 1, (n_steps, batch, *node.shape))
        values *= r.random(values.shape) < 0.5
        if r.random() < 0.2:
            values = np.broadcast_to(values[0], values.shape)
        arrays[name] = values
    return arrays if len(arrays) > 1 else arrays["in"]


def with_ternary_neurons(graph, seed):
    """The same with two thresholds in most populations; the first one always has them."""
    r = np.random.default_rng([*np.ravel(seed), 13])
    drawn = {}
    for name, node in graph.neurons.items():
        if not drawn or r.random() < 0.7:
            own = {key: value for key, value in node.registers.items() if key != "vth"}
            low = -r.integers(1, 120, node.shape) if r.random() < 0.5 else -int(r.integers(1, 120))
            drawn[name] = Neurons(
                node.shape, model="ternary_lif", vth_hi=node.vth, vth_lo=low, registers=own
            )
    return replace(graph, nodes={**graph.nodes, **drawn})


def with_programs(graph, seed):
    """The same with a random reset in each population."""
    r = np.random.default_rng([*np.ravel(seed), 11])
    models = ["cuba_lif", *(model.name for model in RESET_MODELS)]
    drawn = {
        name: Neurons(node.shape, model=str(r.choice(models)), registers=node.registers)
        for name, node in graph.neurons.items()
    }
    return replace(graph, nodes={**graph.nodes, **drawn})
