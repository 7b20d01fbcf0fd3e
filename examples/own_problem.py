"""Your own problem from training to the chip: spoken digits, a loop over 50 steps, a speaker never heard.

    BIRIL_DATA=folder python examples/own_problem.py    # the folder has fsdd_8khz.npz
    python examples/own_problem.py --quick              # a stand-in, made here

Any module of snnTorch neurons is trained, saved, exported, compared in every engine and reported.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import snntorch as snn
import torch
from torch import nn

import biril_nm as bnm
from biril_nm.data.spoken import mel_energies
from biril_nm.export import get_backend, lower, to_nir
from biril_nm.studies.finetuning import finetune


class SpokenNet(nn.Module):
    """Loops over the steps itself, and returns spikes and membranes of the classes."""

    def __init__(self) -> None:
        super().__init__()
        neuron = {"beta": 0.95, "reset_mechanism": "zero", "reset_delay": False}
        self.fc1, self.lif1 = nn.Linear(40, 100), snn.Leaky(**neuron)
        self.fc2, self.lif2 = nn.Linear(100, 10), snn.Leaky(**neuron)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mem1, mem2, found = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in x:
            hidden, mem1 = self.lif1(self.fc1(step), mem1)
            out, mem2 = self.lif2(self.fc2(hidden), mem2)
            found.append((out, mem2))
        return torch.stack([s for s, _ in found]), torch.stack([m for _, m in found])


def spoken_digits(root: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spikes (50 steps, samples, 40 bands), digits, speakers 0..5; without data noisy patterns."""
    if root is None:
        random, speakers = np.random.default_rng(0), np.repeat([0, 1, 2, 3, 4, 5, 5, 5, 5], 100)
        digits, patterns = np.tile(np.arange(10), 90), random.random((10, 50, 40)) < 0.3
        shown = [np.roll(patterns[d], 3 * (s == 5), axis=1) for d, s in zip(digits, speakers)]
        spikes = random.random((900, 50, 40)) < 0.05 + 0.5 * np.array(shown)
        return spikes.swapaxes(0, 1).astype(np.uint8), digits, speakers
    data = np.load(Path(root, "fsdd_8khz.npz"))
    clips = np.split(data["audio"], data["offsets"][1:-1])
    energies = np.array([mel_energies(clip, 40, 50, "log") for clip in clips])
    speakers = np.unique(data["speaker"], return_inverse=True)[1]
    return (energies.transpose(2, 0, 1) > 0.6).astype(np.uint8), data["label"].astype(int), speakers


if __name__ == "__main__":
    torch.manual_seed(0)
    quick, out = "--quick" in sys.argv, Path("spoken")
    out.mkdir(exist_ok=True)
    spikes, digits, speakers = spoken_digits(None if quick else os.environ.get("BIRIL_DATA"))
    order = np.random.default_rng(0).permutation(len(digits))
    known, new = order[speakers[order] < 5], order[speakers[order] == 5]
    test, train = np.split(known, [len(known) // 10])
    taught, later = np.array_split(new, 2)
    batches = [(spikes[:, rows], digits[rows]) for rows in np.array_split(train, len(train) // 50)]
    coding, net = bnm.Coding("spikes", len(spikes)), SpokenNet()
    settings = bnm.TrainConfig(epochs=6 if quick else 20, schedule="B", lr=5e-3)
    bnm.fit(net, (batches, None), settings, coding=coding)
    bnm.save(net, out / "model.pt", force=True, coding=coding, input_shape=(40,))
    graph = lower(to_nir(net, torch.from_numpy(spikes[:, :2]).float(), dt_s=1e-3, coding=coding))
    get_backend("lava").write(graph, out / "lava", force=True)
    report = bnm.report(graph, spikes[:, test], digits[test], net, out / "report.html", force=True)
    print(report.summary())
    report.parity.raise_on_mismatch()
    adapted = finetune(graph, spikes[:, taught], digits[taught])
    for name, network in (("before", graph), ("after", adapted)):
        print(f"new speaker, {name}: {bnm.accuracy(network, spikes[:, later], digits[later]):.1%}")
