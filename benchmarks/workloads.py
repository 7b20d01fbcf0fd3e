"""The networks of the benchmark: made from seeds, so that every run and every engine has the same.

``dense``: 784-512-10. ``conv``: the N-MNIST network of the NIR paper (Pedersen et al., Nature
Communications 15, 8122, 2024): conv 5x5/2, conv 3x3, sum pool, conv 3x3, sum pool, dense, dense. Random
even 8-bit weights, thresholds that give firing rates of a few percent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi import DECAY_UNITY, NO_SYNAPTIC_MEMORY

DU, DV = NO_SYNAPTIC_MEMORY, 400
WEIGHT_LIMIT = 127  # times two: even, as MIXED weights are
BETA = 1 - DV / DECAY_UNITY  # the same decay for float engines
POOL = 2


@dataclass(frozen=True)
class Layer:
    """One synapse layer with its neurons; a convolution may sum-pool its input first."""

    weight: NDArray[np.int64]  # (post, pre) or (out, in, kH, kW)
    vth: int
    out_shape: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    pool: bool = False

    @property
    def is_conv(self) -> bool:
        """Whether the weight is a kernel."""
        return self.weight.ndim == 4


@dataclass(frozen=True)
class Workload:
    """A network with the length of its samples."""

    name: str
    in_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    n_steps: int
    density: float  # of the headline figures

    def spikes(self, density: float, n_samples: int, seed: int = 1) -> NDArray[np.uint8]:
        """Bernoulli input, (n_steps, n_samples, *in_shape)."""
        random = np.random.default_rng([seed, int(density * 1e6)])
        shape = (self.n_steps, n_samples, *self.in_shape)
        return (random.random(shape, dtype=np.float32) < density).astype(np.uint8)

    def graph(self) -> LoihiGraph:
        """The LoihiGraph; sum pooling is folded into the weights behind it, which is exact."""
        nodes: dict[str, object] = {"input": Input(self.in_shape)}
        edges, last, shape = [], "input", self.in_shape
        for i, layer in enumerate(self.layers, start=1):
            link, name = f"w{i}", f"n{i}"
            nodes[link] = _connection(layer, shape)
            nodes[name] = Neurons(layer.out_shape, vth=layer.vth, du=DU, dv=DV)
            edges += [(last, link), (link, name)]
            last, shape = name, layer.out_shape
        nodes["output"] = Output()
        return LoihiGraph(nodes, (*edges, (last, "output")))  # type: ignore[arg-type]


def _connection(layer: Layer, shape: tuple[int, ...]) -> Conv | Dense:
    kernel = layer.weight
    if layer.is_conv:
        if not layer.pool:
            return Conv(kernel, stride=layer.stride, padding=layer.padding)
        folded = kernel.repeat(POOL, axis=2).repeat(POOL, axis=3)
        return Conv(folded, stride=POOL * layer.stride, padding=POOL * layer.padding)
    if layer.pool:
        channels, height, width = shape
        pooled = kernel.reshape(-1, channels, height // POOL, width // POOL)
        kernel = pooled.repeat(POOL, axis=2).repeat(POOL, axis=3).reshape(len(kernel), -1)
    return Dense(kernel)


def _weights(
    random: np.random.Generator, shape: tuple[int, ...], spread: float, mean: float = 0.0
) -> NDArray[np.int64]:
    drawn = np.rint(random.normal(mean, spread, shape))
    return 2 * np.clip(drawn, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int64)


def dense(n_steps: int = 32) -> Workload:
    """784-512-10."""
    random = np.random.default_rng(21)
    layers = (
        Layer(_weights(random, (512, 784), 12), 600, (512,)),
        Layer(_weights(random, (10, 512), 12), 300, (10,)),
    )
    return Workload("dense", (784,), layers, n_steps, 0.10)


def conv(n_steps: int = 100) -> Workload:
    """The N-MNIST network of the NIR paper, 2 x 34 x 34 input."""
    random = np.random.default_rng(22)
    layers = (
        Layer(_weights(random, (16, 2, 5, 5), 20, 4), 150, (16, 16, 16), stride=2, padding=1),
        Layer(_weights(random, (16, 16, 3, 3), 20, 3), 300, (16, 16, 16), padding=1),
        Layer(_weights(random, (8, 16, 3, 3), 20, 1), 600, (8, 8, 8), padding=1, pool=True),
        Layer(_weights(random, (256, 128), 20), 600, (256,), pool=True),
        Layer(_weights(random, (10, 256), 20), 600, (10,)),
    )
    return Workload("conv", (2, 34, 34), layers, n_steps, 0.02)


def chain(n_layers: int, width: int = 256, n_steps: int = 32) -> Workload:
    """``n_layers`` dense layers of equal width, for cost against layers and neurons."""
    random = np.random.default_rng(23)
    layers = tuple(
        Layer(_weights(random, (width, width), 12, 0.6), round(25 * width**0.5), (width,))
        for _ in range(n_layers)
    )
    return Workload(f"chain{n_layers}x{width}", (width,), layers, n_steps, 0.10)


WORKLOADS = {"dense": dense, "conv": conv}
