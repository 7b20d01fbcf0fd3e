"""Three networks of snnTorch's tutorials: trained on MNIST, rounded to 8 bits, simulated, compared with Lava.

    python benchmarks/tutorial_networks.py --data-root DATA                 # 15 to 20 minutes on one core
    python benchmarks/tutorial_networks.py --quick                          # digits, seconds

DATA is the folder with MNIST/raw, as torchvision lays it out. The networks are those of the tutorials, with
the default reset (subtraction, one step late); in the convolutional one the pools moved behind the neurons,
since a chip has no maximum of currents. Interrupted? Run it again: training goes on from the checkpoint.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import snntorch as snn
import snntorch.functional as snn_functional
import torch
from numpy.typing import NDArray
from snntorch import surrogate, utils
from torch import Tensor, nn

import biril_nm as bnm
from biril_nm.coding import Coding
from biril_nm.data import Batches, DataSet, Split, load_data
from biril_nm.decision import class_scores
from biril_nm.evaluation.accuracy import predict, single_readout
from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import atomic_file

BATCH_SIZE = 128  # of all three tutorials
TEST_BATCH = 250
SAVE_EVERY = 50  # batches
N_LAVA = 16
Runs = tuple[Tensor, Tensor]  # spikes and membranes, (n_steps, batch, 10)


class Dense(nn.Module):
    """snnTorch's tutorial 5: 784 - 1000 - 10, the picture as a current at every step."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps
        self.fc1, self.lif1 = nn.Linear(784, 1000), snn.Leaky(beta=0.95)
        self.fc2, self.lif2 = nn.Linear(1000, 10), snn.Leaky(beta=0.95)

    def forward(self, x: Tensor) -> Runs:
        """Spikes and membranes of all steps."""
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, membranes = [], []
        for _ in range(self.n_steps):
            spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


class Convolutional(nn.Module):
    """snnTorch's tutorial 6: 12C5 - MP2 - 64C5 - MP2 - 10, with the pools behind the neurons."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps
        neuron = {"beta": 0.5, "spike_grad": surrogate.fast_sigmoid(slope=25), "init_hidden": True}
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, 5),
            snn.Leaky(**neuron),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 64, 5),
            snn.Leaky(**neuron),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 10),
            snn.Leaky(**neuron, output=True),
        )

    def forward(self, x: Tensor) -> Runs:
        """Spikes and membranes of all steps."""
        utils.reset(self.layers)
        spikes, membranes = zip(*(self.layers(x) for _ in range(self.n_steps)))
        return torch.stack(spikes), torch.stack(membranes)


class Recurrent(nn.Module):
    """snnTorch's tutorial "Regression with SNNs: Part II": 784 - 128 - 10, recurrent, all to all."""

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        self.n_steps = n_steps
        self.fc1, self.rlif1 = nn.Linear(784, 128), snn.RLeaky(beta=0.9, linear_features=128)
        self.fc2, self.rlif2 = nn.Linear(128, 10), snn.RLeaky(beta=0.9, linear_features=10)

    def forward(self, x: Tensor) -> Runs:
        """Spikes and membranes of all steps."""
        spk1, mem1 = self.rlif1.init_rleaky()
        spk2, mem2 = self.rlif2.init_rleaky()
        spikes, membranes = [], []
        for _ in range(self.n_steps):
            spk1, mem1 = self.rlif1(self.fc1(x.flatten(1)), spk1, mem1)
            spk2, mem2 = self.rlif2(self.fc2(spk1), spk2, mem2)
            spikes.append(spk2)
            membranes.append(mem2)
        return torch.stack(spikes), torch.stack(membranes)


def membrane_loss(runs: Runs, labels: Tensor) -> Tensor:
    """Cross entropy of the membranes, summed over the steps (tutorial 5)."""
    membranes = runs[1]
    return len(membranes) * nn.functional.cross_entropy(
        membranes.flatten(0, 1), labels.repeat(len(membranes))
    )


def rate_loss(runs: Runs, labels: Tensor) -> Tensor:
    """Cross entropy of the spikes (tutorial 6)."""
    loss: Tensor = snn_functional.ce_rate_loss()(runs[0], labels)
    return loss


def count_loss(runs: Runs, labels: Tensor) -> Tensor:
    """The right class spikes in 80% of the steps, the others in 20% (Regression II)."""
    loss: Tensor = snn_functional.mse_count_loss(correct_rate=0.8, incorrect_rate=0.2)(
        runs[0], labels
    )
    return loss


@dataclass(frozen=True)
class Tutorial:
    """A network with the settings of its tutorial.

    Attributes:
        make: the network for a number of steps.
        n_steps: steps per picture.
        loss: of spikes and membranes.
        learning_rate: of Adam.
        n_batches: training batches of 128 pictures; MNIST has 469.
        dt_s: width of a step in seconds; any, as all time constants are in steps.
    """

    make: Callable[[int], nn.Module]
    n_steps: int
    loss: Callable[[Runs, Tensor], Tensor]
    learning_rate: float
    n_batches: int
    dt_s: float = 1e-3


TUTORIALS = {
    "dense": Tutorial(Dense, 25, membrane_loss, 5e-4, 469),
    "convolutional": Tutorial(Convolutional, 25, rate_loss, 1e-2, 100),  # 50 steps in the tutorial
    "recurrent": Tutorial(Recurrent, 10, count_loss, 1e-3, 5 * 469),
}


def train(tutorial: Tutorial, split: Split, path: Path) -> nn.Module:
    """The trained network; continues from ``path``, which holds state_dicts alone."""
    torch.manual_seed(0)
    net = tutorial.make(tutorial.n_steps)
    optimizer = torch.optim.Adam(net.parameters(), lr=tutorial.learning_rate)
    done = 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["batches"]
    batches, began = Batches(split, BATCH_SIZE, shuffle=True), time.perf_counter()
    for epoch in range(-(-tutorial.n_batches // len(batches))):
        first = epoch * len(batches)
        if first + len(batches) <= done:
            continue
        for index, (values, labels) in enumerate(batches.epoch(epoch), start=first + 1):
            if index > tutorial.n_batches:
                break
            if index <= done:
                continue
            loss = tutorial.loss(net(torch.from_numpy(values)), torch.from_numpy(labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if index % SAVE_EVERY == 0 or index == tutorial.n_batches:
                seconds = time.perf_counter() - began
                print(f"batch {index}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
                parts = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
                with atomic_file(path) as part:
                    torch.save({**parts, "batches": index}, part)
    return net.eval()


def float_classes(net: nn.Module, split: Split) -> NDArray[np.int64]:
    """What torch predicts: the class with the most spikes, the higher membrane among equals."""
    found = []
    with torch.no_grad():
        for values, _ in Batches(split, TEST_BATCH):
            spikes, membranes = (run.numpy() for run in net(torch.from_numpy(values)))
            found.append(class_scores("count", spikes, membranes[-1], 1.0).argmax(axis=1))
    return np.concatenate(found)


def chip_classes(graph: LoihiGraph, split: Split, coding: Coding) -> NDArray[np.int64]:
    """What the integers predict, by the same rule."""
    nodes = (single_readout(graph),)
    found = []
    for values, _ in Batches(split, TEST_BATCH):
        found.append(predict(graph, simulate(graph, coding.encode(values), ("s",), nodes=nodes)))
    return np.concatenate(found)


def show(name: str, tutorial: Tutorial, data: DataSet, folder: Path, n_lava: int) -> float:
    """Train, lower, run and compare; returns the points of accuracy that the integers lose."""
    print(f"\n{name}: {tutorial.n_steps} steps, {tutorial.n_batches} batches of {BATCH_SIZE}")
    net = train(tutorial, data.train, folder / f"{name}.pt")
    coding = Coding("direct", tutorial.n_steps)
    sample = torch.from_numpy(data.test.values(slice(0, 1)))
    graph = lower(to_nir(net, sample, dt_s=tutorial.dt_s, coding=coding), weight_bits=8)
    graph.save(folder / f"{name}.loihi.npz")

    torch_says, chip_says = float_classes(net, data.test), chip_classes(graph, data.test, coding)
    points = [100 * float(np.mean(says == data.test.labels)) for says in (torch_says, chip_says)]
    print(f"float (torch):      {points[0]:.2f}% of {len(data.test)} test pictures")
    print(f"8 bits (simulator): {points[1]:.2f}%, {points[1] - points[0]:+.2f} points; ", end="")
    print(f"the same class for {100 * float(np.mean(torch_says == chip_says)):.2f}% of them")
    if n_lava and importlib.util.find_spec("lava") is not None:
        spikes = coding.encode(data.test.values(slice(0, n_lava)))
        report = bnm.check_parity(graph, spikes, against=("sim", "lava")).raise_on_mismatch()
        print(report.summary())
    return points[0] - points[1]


def large_digits(data: DataSet) -> DataSet:
    """8 x 8 pictures as 28 x 28: each pixel three times, with an edge of zeros."""

    def enlarge(split: Split) -> Split:
        raw = split.raw.repeat(3, axis=2).repeat(3, axis=3)
        return replace(split, raw=np.pad(raw, ((0, 0), (0, 0), (2, 2), (2, 2))))

    return replace(data, train=enlarge(data.train), test=enlarge(data.test))


def main() -> None:
    """Train, lower and compare the networks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", default=None, help="folder of MNIST; default: BIRIL_DATA")
    parser.add_argument("--out", type=Path, default=Path("out/tutorials"))
    parser.add_argument("--networks", nargs="+", default=list(TUTORIALS), choices=list(TUTORIALS))
    parser.add_argument("--quick", action="store_true", help="a few digits and steps")
    args = parser.parse_args()

    data, n_lava = load_data("mnist", args.data_root) if not args.quick else None, N_LAVA
    if data is None:
        data, n_lava = large_digits(load_data("digits").head(512, 60)), 1
    for name in args.networks:
        tutorial = TUTORIALS[name]
        if args.quick:
            tutorial = replace(tutorial, n_steps=5, n_batches=4)
        show(name, tutorial, data, args.out / data.name, n_lava)


if __name__ == "__main__":
    main()
