"""The command line and the public calls that need no torch, run where importing torch fails.

    python -m tests.support.without_torch FOLDER FILE.nir

Prints one JSON object: for each call its exit code, the end of its output, and of its errors.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

BLOCKED = (
    "torch",
    "snntorch",
    "torchvision",
    "tonic",
    "sklearn",
    "nirtorch",
    "lightning_fabric",
)


class Absent:
    """A finder that knows of no package made of torch."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return None


def prepare(folder: Path) -> None:
    """Write what the calls read: a small network, its input, samples with labels, a model."""
    import numpy as np

    from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output

    nodes = {
        "in": Input((6,)),
        "fc": Dense(np.arange(-18, 18).reshape(6, 6) * 2),
        "n": Neurons((6,), vth=40),
        "out": Output(),
    }
    LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out"))).save(folder / "small.loihi.npz")
    random = np.random.default_rng(0)
    samples = {"spikes": random.integers(0, 2, (8, 12, 6)), "labels": np.arange(12) % 2}
    np.savez(folder / "samples.npz", **samples)
    np.save(folder / "input.npy", random.integers(0, 2, (8, 2, 12)))
    (folder / "model.pt").write_bytes(b"")


def calls_of(folder: Path, nir_file: str) -> dict[str, list[object]]:
    """Arguments of the command line by what they show."""
    graph, small, net = folder / "x.loihi.npz", folder / "small.loihi.npz", folder / "x.net"
    how = ("--dt", 1e-6, "--reset", "zero")
    return {
        "info": ["info"],
        "info nir": ["info", nir_file],
        "loihi": ["export", nir_file, *how, "--to", "loihi", "-o", graph],
        "info graph": ["info", graph, "--json"],
        "lava": ["export", nir_file, *how, "--to", "lava", "-o", folder / "bundle"],
        "netx": ["export", small, "--to", "netx", "-o", net],
        "net": ["export", net, "--to", "loihi", "-o", folder / "y.loihi.npz"],
        "sim": [
            "sim",
            graph,
            "--spikes",
            folder / "input.npy",
            "--record",
            "s,v",
            "-o",
            folder / "run.npz",
        ],
        "parity": ["parity", graph, "--samples", 2, "--json"],
        "report": ["report", graph, "--samples", 2],
        "chip-train": [
            "chip-train",
            "--spikes",
            folder / "samples.npz",
            "--hidden",
            4,
            "--out",
            folder / "chip",
        ],
        "torch parity": ["parity", graph, "--against", "torch,sim"],
        "train": ["train", "--out", folder / "run"],
        "digits": ["eval", graph, "--dataset", "digits", "--backend", "sim"],
        "model": ["eval", folder / "model.pt", "--backend", "sim"],
    }


def main(folder: Path, nir_file: str) -> None:
    """Run the calls, and the help of every command."""
    from biril_nm.cli import app
    from tests.support.command_line import biril

    prepare(folder)
    calls = calls_of(folder, nir_file)
    for command in app.registered_commands:
        calls[f"{command.name} --help"] = [command.name, "--help"]
    found = {}
    for name, words in calls.items():
        done = biril(*words)
        found[name] = [done.returncode, done.stdout[-3000:], done.stderr[-1500:]]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    main(Path(sys.argv[1]), sys.argv[2])
