"""A training of digits as a program: ``python -m tests.support.two_processes JSON``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import biril_nm as bnm
from biril_nm.data import load_data, make_loaders
from biril_nm.training.world import leads

ROOT = Path(__file__).parents[2]


SIZES: dict[str, dict[str, Any]] = {
    "convnet": {"channels": (4, 8), "hidden": (16,)},
    "recurrent": {"hidden": (16,), "neuron": "lif", "reset": "subtract"},
}


def train(
    out: str,
    samples: int,
    batch: int,
    batch_norm: bool,
    resume: bool = False,
    model: str = "convnet",
    **settings: Any,
) -> None:
    data = load_data("digits").head(samples, 40)
    sizes = SIZES.get(model, {})
    how = bnm.ModelConfig(input_shape=data.input_shape, batch_norm=batch_norm, **sizes)
    net = bnm.build_model(model, how, seed=0)
    config = bnm.TrainConfig(device="cpu", tensorboard=False, curves=False, **settings)
    bnm.fit(net, make_loaders(data, batch), config, out_dir=out, resume=resume, force=not resume)


def run(out: Path, launcher: tuple[str, ...] = (), **arguments: Any) -> Any:
    """Train in a process of its own, or several; returns the network."""
    text = json.dumps({"out": str(out), **arguments})
    command = [sys.executable, *launcher, "-m", "tests.support.two_processes", text]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bnm.load(out / "model.pt")


def start(out: Path, place: dict[str, str], **arguments: Any) -> subprocess.Popen[str]:
    """A process that trains, with further variables of the environment."""
    text = json.dumps({"out": str(out), **arguments})
    command = [sys.executable, "-m", "tests.support.two_processes", text]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **place}, text=True, **pipes)


if __name__ == "__main__":
    train(**json.loads(sys.argv[1]))
    if leads():
        print("leads")
