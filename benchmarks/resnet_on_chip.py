"""BIRIL's residual networks on the chip: cores, synaptic operations and modelled energy of a picture.

    python benchmarks/resnet_on_chip.py                    # biril_xs, on one chip
    python benchmarks/resnet_on_chip.py --model biril --chips 64

The weights are untrained, BatchNorm has seen random pictures. So the size and the mapping are those of a
trained network, spikes and energy those of this one.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from biril_nm import ModelConfig, build_model
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import estimate_energy, map_to_chip, simulate
from biril_nm.models import BirilNet

SHAPE = (3, 32, 32)
N_PICTURES = 2


def network(name: str, shape: tuple[int, int, int] = SHAPE) -> tuple[BirilNet, np.ndarray]:
    """The network with statistics of random pictures, and the pictures."""
    net = build_model(name, ModelConfig(input_shape=shape))
    values = np.random.default_rng(0).random((N_PICTURES, *shape)).astype(np.float32)
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the statistics of what it has seen, not of its start
    net.train()
    with torch.no_grad():
        net(net.encode(values))
    return net.eval(), values


def main() -> None:
    """Lower, place, simulate, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="biril_xs", choices=("biril_xs", "biril"))
    parser.add_argument("--chips", type=int, default=1)
    options = parser.parse_args()
    net, values = network(options.model)
    graph = lower(to_nir(net))
    neurons = sum(node.size for node in graph.neurons.values())
    weights = sum(p.numel() for p in net.parameters())
    print(f"{options.model}: {weights:,} parameters, {neurons:,} neurons on the chip")
    placement = map_to_chip(graph, n_chips=options.chips)
    print(placement.summary())
    spikes = net.config.coding.encode(values[:1])
    recording = simulate(graph, spikes, record=("s",))
    print(estimate_energy(graph, recording, placement, chip="loihi2", inputs=spikes).summary())


if __name__ == "__main__":
    main()
