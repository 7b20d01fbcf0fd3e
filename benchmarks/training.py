"""Images per second of one training step: snnTorch's loop over the steps against fit's step, in pairs.

    python benchmarks/training.py [--nets small resnet18 mnist] [--pairs 5] [--batch 64] [--threads 2]

The networks are plain snnTorch modules. ``loop`` calls them step by step, as snnTorch's tutorials do;
``fit`` is phase B of ``bnm.fit`` on the same module; ``ann`` has ReLU for neurons and one step, for scale;
``spikingjelly`` is the same network in SpikingJelly's multi-step mode, where that package is installed (2.0
wants Python 3.11 and torch 2.6).
Each row is a process of its own, the rows of a pair take turns, and medians count. Memory is the largest
resident size above that before the first step. BatchNorm sees one step at a time in ``loop``, and all steps
in ``fit``. Whether both compute the same: ``training_equal.py``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import snntorch as snn
import torch
from snntorch import surrogate, utils
from torch import Tensor, nn
from torch.nn import functional

from biril_nm.coding import Coding
from biril_nm.models import OwnNet
from biril_nm.models.running import precision
from biril_nm.storage.platform import give_back_growth, keep_freed_memory
from biril_nm.training.phases import PHASES, PhaseState
from biril_nm.training.precision import has_bfloat16

N_STEPS, BETA = 4, 0.5
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
SHAPES = {"mnist": (1, 28, 28), "small": (3, 32, 32), "resnet18": (3, 32, 32)}
SPIKINGJELLY = "spikingjelly"
Layer = Callable[[], nn.Module]


# --- networks -----------------------------------------------------------------------------------


def leaky() -> nn.Module:
    """The neurons of all networks."""
    return snn.Leaky(
        beta=BETA, init_hidden=True, reset_mechanism="zero", spike_grad=surrogate.atan()
    )


def spikingjelly_leaky() -> nn.Module:
    """The same neurons in SpikingJelly's multi-step mode: ``v <- v / 2 + x``, spikes above 1, v to zero."""
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based import surrogate as gradients

    return neuron.LIFNode(
        tau=1 / (1 - BETA), decay_input=False, surrogate_function=gradients.ATan(),
        detach_reset=True, step_mode="m",
    )  # fmt: skip


def _conv(i: int, o: int, neuron: Layer, norm: bool, lib: Any) -> list[nn.Module]:
    layer = lib.Conv2d(i, o, 3, padding=1, bias=not norm)
    return [layer, lib.BatchNorm2d(o), neuron()] if norm else [layer, neuron()]


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, i: int, o: int, stride: int, neuron: Layer, norm: bool, lib: Any) -> None:
        super().__init__()
        self.first = nn.Sequential(*_conv(i, o, neuron, norm, lib))
        self.first[0].stride = (stride, stride)
        *second, self.out = _conv(o, o, neuron, norm, lib)
        self.second = nn.Sequential(*second)
        same = stride == 1 and i == o
        self.short = nn.Identity() if same else lib.Conv2d(i, o, 1, stride=stride, bias=False)
        self.short_norm = nn.Identity() if same or not norm else lib.BatchNorm2d(o)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes."""
        y: Tensor = self.out(self.second(self.first(x)) + self.short_norm(self.short(x)))
        return y


def build(name: str, neuron: Layer = leaky, norm: bool = True, lib: Any = nn) -> nn.Module:
    """A network of one step, or of all steps where ``lib`` has layers of many steps."""

    def conv(i: int, o: int) -> list[nn.Module]:
        return _conv(i, o, neuron, norm, lib)

    if name == "mnist":
        layers = [*conv(1, 16), lib.AvgPool2d(2), *conv(16, 32), lib.AvgPool2d(2)]
        layers += [lib.Flatten(), lib.Linear(32 * 49, 128), neuron()]
        return nn.Sequential(*layers, lib.Linear(128, 10))
    if name == "small":
        layers = [*conv(3, 64), *conv(64, 64), lib.AvgPool2d(2)]
        layers += [*conv(64, 128), *conv(128, 128), lib.AvgPool2d(2)]
        return nn.Sequential(*layers, lib.Flatten(), lib.Linear(128 * 64, 10))
    layers, channels = conv(3, 64), 64
    for out, stride in zip((64, 64, 128, 128, 256, 256, 512, 512), (1, 1, 2, 1, 2, 1, 2, 1)):
        layers.append(Block(channels, out, stride, neuron, norm, lib))
        channels = out
    return nn.Sequential(*layers, lib.AdaptiveAvgPool2d(1), lib.Flatten(), lib.Linear(512, 10))


# --- steps --------------------------------------------------------------------------------------


def data(name: str, batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures that are brighter in a stripe that belongs to their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (batch,), generator=generator)
    images = torch.rand(batch, *SHAPES[name], generator=generator)
    for image, label in zip(images, labels.tolist()):
        image[:, 2 * label : 2 * label + 4] *= 1.5
    return images, labels


def scores_of_loop(net: nn.Module, x: Tensor) -> Tensor:
    """Sum of the output over the steps, called step by step."""
    utils.reset(net)
    return torch.stack([net(step) for step in x]).sum(0)


def stepper(kind: str, net: nn.Module, lr: float = 0.05) -> Callable[[Tensor, Tensor], float]:
    """A function that makes one training step and returns the loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    if kind.startswith("fit"):
        own, state = OwnNet(net, Coding("direct", N_STEPS)), PhaseState()

        def fitted(images: Tensor, labels: Tensor) -> float:
            x = images.expand(N_STEPS, *images.shape)
            with precision("bfloat16" if kind == "fit-bfloat16" else "float32"):
                return PHASES["B"].run(own, (x, labels), optimizer, state)["loss"]

        return fitted

    if kind == SPIKINGJELLY:
        from spikingjelly.activation_based import functional as steps

        steps.set_step_mode(net, "m")

        def multi(images: Tensor, labels: Tensor) -> float:
            optimizer.zero_grad()
            steps.reset_net(net)
            scores = net(images.expand(N_STEPS, *images.shape).contiguous()).sum(0)
            loss = functional.cross_entropy(scores, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return float(loss.detach())

        return multi

    def looped(images: Tensor, labels: Tensor) -> float:
        optimizer.zero_grad()
        x = images.expand(1 if kind == "ann" else N_STEPS, *images.shape)
        loss = functional.cross_entropy(
            net(x[0]) if kind == "ann" else scores_of_loop(net, x), labels
        )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return looped


def measure(name: str, kind: str, batch: int, n_steps: int) -> dict[str, float]:
    """One row: the median step of this process, and its memory."""
    torch.manual_seed(0)
    neuron, lib = {"ann": nn.ReLU, SPIKINGJELLY: spikingjelly_leaky}.get(kind, leaky), nn
    if kind == SPIKINGJELLY:
        from spikingjelly.activation_based import layer as lib
    net = build(name, neuron, lib=lib)
    warm = stepper(kind, build("mnist", neuron, lib=lib))
    warm(*data("mnist", 2))  # loads the code, which is no memory of a step
    step, (images, labels) = stepper(kind, net), data(name, batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    walls, cpus = [], []
    with keep_freed_memory() if kind.startswith("fit") else nullcontext():  # as fit does
        for i in range(n_steps + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            step(images, labels)
            give_back_growth()
            if i:
                walls.append(time.perf_counter() - wall)
                cpus.append(time.process_time() - cpu)
    above = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = {"wall": statistics.median(walls), "cpu": statistics.median(cpus), "mib": above}
    return {key: round(value, 4) for key, value in found.items()}


def machine(threads: int) -> str:
    """What a table's first line says of torch and the CPU."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = " ".join(flag for flag in FLAGS if f" {flag}" in cpu)
    return f"torch {torch.__version__}, {threads} threads, CPU flags {flags or 'unknown'}"


# --- pairs --------------------------------------------------------------------------------------


def pairs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row per network and kind: medians over the processes."""
    kinds = ["loop", "fit", *(["fit-bfloat16"] if has_bfloat16("cpu") else []), "ann"]
    kinds += [SPIKINGJELLY] if importlib.util.find_spec(SPIKINGJELLY) else []
    rows = []
    for name in args.nets:
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        for _ in range(args.pairs):
            for kind in kinds:
                runs[kind].append(_in_process(name, kind, args))
        loop = runs["loop"]
        for kind in kinds:
            median = {
                k: statistics.median(run[k] for run in runs[kind]) for k in ("wall", "cpu", "mib")
            }
            faster = statistics.median(a["wall"] / b["wall"] for a, b in zip(loop, runs[kind]))
            cpu = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(loop, runs[kind]))
            memory = statistics.median(b["mib"] / a["mib"] for a, b in zip(loop, runs[kind]))
            row = {"net": name, "kind": kind, **median, "images_per_s": args.batch / median["wall"]}
            rows.append({**row, "faster": faster, "faster_cpu": cpu, "memory": memory})
            print(
                f"{name:9s} {kind:13s} {row['images_per_s']:8.1f} images/s {median['cpu']:7.3f} s CPU a step "
                f"{median['mib']:7.0f} MiB | {faster:5.2f} x the loop, {cpu:5.2f} x by CPU, "
                f"{memory:4.0%} of its memory",
                flush=True,
            )
    return rows


def _in_process(name: str, kind: str, args: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, kind]
    command += [
        "--batch",
        str(args.batch),
        "--threads",
        str(args.threads),
        "--steps",
        str(args.steps),
    ]
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {kind} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the table or the checks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--nets", nargs="+", default=["small", "resnet18", "mnist"], choices=sorted(SHAPES)
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each process")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("NET", "KIND"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.one:
        print(json.dumps(measure(*args.one, args.batch, args.steps)))
        return
    print(machine(args.threads), flush=True)
    rows = pairs(args)
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
