"""Your own snnTorch module to the chip: export, lower, simulate, verify against torch and Lava.

    python examples/own_module.py [--quick]

The module's forward computes one time step; the neurons keep their state (init_hidden=True) and
reset to zero without delay, which is what the chip does.
"""

from __future__ import annotations

import argparse

import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate

NEURON = {"init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}


class Net(nn.Module):
    """Two convolutions with a residual connection, and a spiking readout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 8, 3, padding=1)
        self.lif1 = snn.Leaky(beta=0.9, threshold=0.5, **NEURON)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.lif2 = snn.Leaky(beta=0.9, threshold=0.5, **NEURON)
        self.pool = nn.AvgPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(8 * 8 * 8, 10)
        self.out = snn.Leaky(beta=0.9, threshold=0.1, **NEURON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.lif1(self.conv1(x))
        second = self.lif2(self.conv2(first)) + first
        return self.out(self.fc(self.flatten(self.pool(second))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    n_steps, batch = (8, 2) if parser.parse_args().quick else (50, 16)

    torch.manual_seed(0)
    net = Net()
    spikes = (torch.rand(n_steps, batch, 2, 16, 16) < 0.3).int()

    nir_graph = to_nir(net, sample_input=torch.zeros(1, 2, 16, 16), dt_s=1e-3)
    graph = lower(nir_graph)
    print(graph.summary())
    trace = simulate(graph, spikes.numpy(), record=("s", "v"))
    print(f"\nreadout spikes: {trace['out'].s.sum()}, shape {trace['out'].s.shape}")

    report = bnm.testing.assert_parity(net, spikes, dt_s=1e-3, min_agreement=0.7)
    print(report.summary())


if __name__ == "__main__":
    main()
