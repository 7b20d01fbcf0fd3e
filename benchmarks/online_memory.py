"""Memory and time of a gradient against the number of steps: online rules and backpropagation through time.

    python benchmarks/online_memory.py --steps 100,200,400,800

Each row is a process of its own; memory is what its highest resident size grows by, over that after a
gradient of a tiny network. The network is 700-128-128-20 of RLIF, batch 16. The input of a step is made when
it is needed by the online rules, which take it in blocks; backpropagation needs all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from biril_nm.training.online.layer import layer_of
from biril_nm.training.online.learner import BLOCK, OnlineLearner
from biril_nm.training.online.net import OnlineNet
from biril_nm.training.online.neurons import LEAKY_READOUT, LIF
from biril_nm.training.online.rules import OnlineRule

METHODS = ("bptt", "d-rtrl", "es-d-rtrl")
SIZES, BATCH, RATE = (700, 128, 128, 20), 16, 0.05
TINY = (8, 4, 4, 2)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # tensors that are freed leave the process at once


def network(sizes: tuple[int, ...] = SIZES) -> OnlineNet:
    """The network of the table."""
    torch.manual_seed(0)
    pairs = list(pairwise(sizes))
    hidden = [layer_of(LIF, n_in, n_out, recurrent=True) for n_in, n_out in pairs[:-1]]
    return OnlineNet([*hidden, layer_of(LEAKY_READOUT, *pairs[-1])])


def gradient(method: str, n_steps: int, sizes: tuple[int, ...] = SIZES) -> None:
    """The gradient of one batch."""
    net, labels = network(sizes), torch.arange(BATCH) % sizes[-1]
    random = torch.Generator().manual_seed(0)

    def spikes(steps: int) -> Tensor:
        return (torch.rand(steps, BATCH, sizes[0], generator=random) < RATE).float()

    def loss(output: Tensor, t: int) -> Tensor:
        del t
        return functional.cross_entropy(output, labels)

    if method == "bptt":
        outputs = net(spikes(n_steps)).spikes
        torch.stack([loss(out, 0) for out in outputs]).sum().backward()
        return
    learner = OnlineLearner(net, OnlineRule(method), BATCH)
    for start in range(0, n_steps, BLOCK):
        learner.take(spikes(min(BLOCK, n_steps - start)), loss)


def measure(method: str, n_steps: int) -> dict[str, float]:
    """Growth of the highest resident size in MiB, and milliseconds of processor time a step."""
    gradient(method, BLOCK, TINY)  # what torch itself takes at its first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    gradient(method, n_steps)
    spent = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"mib": grown / 1024, "total_mib": (before + grown) / 1024, "ms": 1000 * spent / n_steps}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", default="100,200,400,800")
    parser.add_argument(
        "--default-malloc", action="store_true", help="let the C library keep freed tensors"
    )
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        print(json.dumps(measure(given.child[0], int(given.child[1]))))
        return
    print("| method | steps | memory, MiB | whole process, MiB | ms a step |")
    print("| --- | --- | --- | --- | --- |")
    for method in METHODS:
        for steps in given.steps.split(","):
            call = [sys.executable, __file__, "--child", method, steps]
            settings = {**os.environ, **({} if given.default_malloc else MALLOC)}
            run = subprocess.run(call, check=True, capture_output=True, env=settings)
            row = json.loads(run.stdout)
            print(
                f"| {method} | {steps} | {row['mib']:.1f} | {row['total_mib']:.0f} | {row['ms']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
