"""What commands import only once they run, and the kernels of training, for processes that are forked later.

Importing this module trains a tiny network and exports it. :class:`tests.support.killable.Commands` has its
server do so, and each command that the server forks begins with everything in memory.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import torch

from tests.support.command_line import biril

TRAIN = ("train", "--model", "mlp", "--schedule", "B", "--steps", 2, "--batch-size", 700)
EXPORTS = {"loihi": ".loihi.npz", "nir": ".nir", "lava": ""}


def warm() -> None:
    """Run the commands once; no thread is left behind, since a fork would lose it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        run = Path(folder, "run")
        done = [biril(*TRAIN, "--epochs", 1, "--out", run)]
        for kind, suffix in EXPORTS.items():
            target = Path(folder, f"x{suffix}")
            done.append(biril("export", run / "model.pt", "--to", kind, "-o", target))
    failed = [each.stderr for each in done if each.returncode]
    if failed:
        raise RuntimeError(f"commands of the server failed: {failed}")


warm()
