"""Time of one training step: snnTorch's loop over steps, the float network of fit, and the integers.

    OMP_WAIT_POLICY=passive python benchmarks/integer_training.py --threads 2

The same network (convnet for MNIST, 4 steps), the same batch, in turns; medians over the rounds. Each column
is images per second, and how many times the loop's that is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from measuring import Measured, ratios, take_turns
from section import Section, Size, table
from torch import Tensor
from torch.nn import functional

from biril_nm import BirilNet, build_model
from biril_nm.coding import Coding
from biril_nm.models import ModelConfig
from biril_nm.training.integers import quantized

SHAPE = (1, 28, 28)


def loop_scores(net: BirilNet, x: Tensor) -> Tensor:
    """Scores of snnTorch's own way: the layers once per step."""
    net.reset()
    spikes = torch.stack([net.layers(step) for step in x])
    readout = list(net.neurons.values())[-1]
    return spikes.sum(0) + readout.mem / readout.threshold


def trainer(
    scores: Callable[[], Tensor], parameters: list[Tensor], labels: Tensor
) -> Callable[[], None]:
    """One step of Adam."""
    optimizer = torch.optim.Adam([p for p in parameters if p.requires_grad], 1e-4)

    def step() -> None:
        loss = functional.cross_entropy(scores(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def measure(threads: int, batch: int, rounds: int, bits: str) -> dict[str, list[float]]:
    """Seconds of a step of each way in each round."""
    torch.set_num_threads(threads)
    random = np.random.default_rng(0)
    values = (random.random((batch, *SHAPE)) ** 3).astype(np.float32)
    labels = torch.as_tensor(random.integers(0, 10, batch))
    coding = Coding("direct", 4, 8)
    loop, folded = (build_model("convnet", ModelConfig(SHAPE, coding=coding), 0) for _ in range(2))
    x = folded.encode(values)
    loop.train()
    folded.train()
    ways = {
        "snnTorch loop": trainer(lambda: loop_scores(loop, x), list(loop.parameters()), labels),
        "fit, float": trainer(lambda: folded(x).scores, list(folded.parameters()), labels),
    }
    for _ in range(3):
        ways["fit, float"]()
    folded.eval()
    for each in bits.split(","):
        net = quantized(folded, each)
        message = net.encode(values)
        ways[f"integers, {each}"] = trainer(
            lambda net=net, message=message: net(message).scores, list(net.parameters()), labels
        )
    folded.train()
    for way in ways.values():
        way()  # compiles; the first round fills caches
    return take_turns(ways, rounds)


def section(size: Size) -> Section:
    """Images per second of each way."""
    batch = size.of(64, 4)
    found = measure(size.threads, batch, size.of(15, 1), "8,3,ternary")
    loop = found["snnTorch loop"]
    lines = [
        (
            name,
            Measured.of([batch / s for s in seconds]).text(1, 0),
            ratios(loop, seconds).text(1, 2),
        )
        for name, seconds in found.items()
    ]
    text = (
        f"The convnet for MNIST, 4 steps, batch {batch}, {size.threads} threads: forward, backward, Adam.\n\n"
        + table(("way", "images/s", "times snnTorch's loop"), lines)
    )
    return Section("A step of training", (), text)


def main() -> None:
    """Print a table of the ways and bits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bits", default="8,3,ternary")
    args = parser.parse_args()
    found = measure(args.threads, args.batch, args.rounds, args.bits)
    medians = {name: Measured.of(seconds).middle for name, seconds in found.items()}
    base = medians["snnTorch loop"]
    print(f"{args.threads} threads, batch {args.batch}, torch {torch.__version__}")
    for name, median in medians.items():
        print(f"{name:18s} {args.batch / median:8.0f} images/s {base / median:6.2f} x")


if __name__ == "__main__":
    main()
