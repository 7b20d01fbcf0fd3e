"""The large networks of the benchmark: a wide layer, residual and gesture networks, random loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output, Sparse
from biril_nm.loihi import DECAY_UNITY, NO_SYNAPTIC_MEMORY, VTH_SHIFT, WEIGHT_SHIFT

STEP_S = 1e-3
FAN_IN = 108  # of the fruit fly's brain: 139,000 neurons, 15 million connections
WEIGHT_LIMIT = 60  # times two
BIAS_EXP = 6


def layer(n: int = 4096) -> Any:
    """``n`` inputs onto ``n`` LIF neurons, as NIR."""
    import nir

    weight = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32) / 64
    neurons = nir.LIF(*(np.full(n, value) for value in (0.02, 200.0, 0.0, 1.0)))
    return nir.NIRGraph.from_list(nir.Linear(weight), neurons)


def residual(model: str = "biril", side: int = 32) -> Any:
    """BIRIL's residual network, untrained: 12.6 million weights, as ResNet-18 has 11; as NIR."""
    from resnet_on_chip import network

    from biril_nm.export import to_nir

    return to_nir(network(model, (3, side, side))[0], dt_s=STEP_S)


def gesture(side: int = 128, channels: int = 128, hidden: int = 512) -> Any:
    """Five convolutions with pooling, two dense layers: the size of SpikingJelly's DVSGestureNet; as NIR."""
    import snntorch as snn
    import torch
    from torch import nn

    from biril_nm.export import to_nir

    def leaky() -> Any:
        return snn.Leaky(beta=0.5, init_hidden=True, reset_mechanism="zero", reset_delay=False)

    torch.manual_seed(0)
    layers: list[Any] = []
    for n_in in (2, *[channels] * 4):
        layers += [nn.Conv2d(n_in, channels, 3, padding=1, bias=False), leaky(), nn.AvgPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(channels * (side // 32) ** 2, hidden), leaky()]
    net = nn.Sequential(*layers, nn.Linear(hidden, 11), leaky())
    return to_nir(net, torch.zeros(1, 2, side, side), dt_s=STEP_S)


LOWERED: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "4096 x 4096 layer": (layer, (256,)),
    "ResNet-18-sized net": (residual, ("biril_xs", 8)),
    "DVS-Gesture-sized net": (gesture, (32, 8, 32)),
}  # what makes the NIR graph, and its arguments in quick sizes


def lowered(name: str, quick: bool) -> LoihiGraph:
    """One of them as integers."""
    from biril_nm.export import lower

    make, less = LOWERED[name]
    return lower(make(*(less if quick else ())), dt_s=STEP_S, reset="zero")


def random_matrix(n: int, per_neuron: int = FAN_IN) -> Any:
    """Weights (CSR) of ``n`` neurons that each receive from ``per_neuron`` drawn ones."""
    random = np.random.default_rng(0)
    sources = random.integers(0, n, (n, per_neuron), dtype=np.int32)
    sources.sort(axis=1)
    values = 2 * random.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1, sources.size, dtype=np.int16)
    starts = np.arange(n + 1) * per_neuron
    matrix = scipy.sparse.csr_matrix((values, sources.ravel(), starts), shape=(n, n))
    matrix.sum_duplicates()
    return matrix


def random_network(matrix: Any, activity: float = 0.6) -> LoihiGraph:
    """A loop of these weights, whose neurons forget at once; a bias lets ``activity`` of them spike."""
    n = matrix.shape[0]
    spread = (matrix.nnz / n * activity * np.square(matrix.data, dtype=float).mean()) ** 0.5
    shift = {0.6: 0.2533, 0.02: -2.0537}[activity]  # quantiles of the normal distribution
    mean = matrix.nnz / n * activity * matrix.data.mean()
    bias = (shift * spread - mean) * (1 << WEIGHT_SHIFT) + (1 << VTH_SHIFT)
    neurons = Neurons(
        (n,), vth=1, du=NO_SYNAPTIC_MEMORY, dv=DECAY_UNITY,
        bias_mant=round(bias) >> BIAS_EXP, bias_exp=BIAS_EXP,
    )  # fmt: skip
    nodes = {
        "in": Input((1,)), "drive": Dense(np.full((n, 1), 2)), "n": neurons, "loop": Sparse(matrix),
        "out": Output(),
    }  # fmt: skip
    edges = (("in", "drive"), ("drive", "n"), ("n", "loop"), ("loop", "n"), ("n", "out"))
    return LoihiGraph(nodes, edges)
