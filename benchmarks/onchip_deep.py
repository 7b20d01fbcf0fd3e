"""Deep learning on the chip's integers: accuracy of 784-300-10 on MNIST, controls, speed, a changed world.

    python benchmarks/onchip_deep.py accuracy [--passes 2] [--hidden 300] [--method dfa] [--rounding synapse]
    python benchmarks/onchip_deep.py speed [--samples 2000] [--lava-samples 3]
    python benchmarks/onchip_deep.py continual [--per-class 10] --state out/chip/state.npz

All learn from 60,000 images, one at a time, and are tested on 10,000. MNIST is read from BIRIL_DATA.
``speed`` counts CPU seconds of one thread, which other programs on the machine hardly change, and compares
with Lava in wall time. ``continual`` takes the state that ``biril chip-train`` left.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

from biril_nm.data import load_data  # noqa: E402
from biril_nm.data.shifts import SHIFTS  # noqa: E402
from biril_nm.hardware_sim import Simulator  # noqa: E402
from biril_nm.onchip import (  # noqa: E402
    ChipPlan,
    DeepConfig,
    dfa_network,
    learn_on_chip,
    lessons,
    pictures,
)
from biril_nm.storage import read_document  # noqa: E402
from biril_nm.studies.continual import ContinualPlan, continue_learning  # noqa: E402

SIZES = (784, 300, 10)
CHUNK = 500


def say(text: str) -> None:
    """One line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_accuracy(args: argparse.Namespace) -> None:
    """Test accuracy after each pass, over seeds."""
    data = load_data("mnist")
    config = DeepConfig(method=args.method, rounding=args.rounding)
    train, test = (pictures(part, config.n_steps) for part in (data.train, data.test))
    hidden = tuple(map(int, args.hidden.split(",")))
    found: list[list[float]] = []
    for seed in range(args.seeds):
        plan = ChipPlan(hidden, args.passes, every=len(train), seed=seed, config=config)
        records = learn_on_chip(train, test, plan=plan, n_classes=10).records
        found.append([100 * r["test_accuracy"] for r in records])
        say(f"seed {seed}: " + ", ".join(f"{a:.2f} %" for a in found[-1]))
    for number, of_pass in enumerate(zip(*found), 1):
        say(
            f"784-{args.hidden.replace(',', '-')}-10, {args.method}, rounding per {args.rounding}, "
            f"pass {number}: "
            f"mean {statistics.mean(of_pass):.2f} % "
            f"({min(of_pass):.2f} to {max(of_pass):.2f}), {len(of_pass)} seeds"
        )


def measure_speed(args: argparse.Namespace) -> None:
    """Samples per second of one thread, and the ratio to Lava on the same network."""
    data = load_data("mnist")
    config = DeepConfig()
    train = pictures(data.train, config.n_steps)
    window = config.teaching_steps(1)

    def given(rows: Any) -> dict[str, Any]:
        return lessons(train.spikes(rows), train.labels[rows], 10, window)

    graph = dfa_network(SIZES, config, input_shape=(1, 28, 28))
    session = Simulator(graph, learn=True, sample_steps=config.n_steps)
    session.run(session.in_chip_time(given(np.arange(CHUNK))), record=())  # loads the kernels
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(CHUNK, CHUNK + args.samples, CHUNK):
        rows = np.arange(start, start + CHUNK)
        session.run(session.in_chip_time(given(rows)), record=())
    of_thread = args.samples / (time.process_time() - cpu)
    ours = args.samples / (time.perf_counter() - wall)
    say(
        f"hardware_sim: {of_thread:,.0f} samples per CPU second of one thread, coding included "
        f"({ours:,.0f} in wall time), {args.samples} samples"
    )
    if args.lava_samples:
        from biril_nm.export.lava.backend import run_lava

        seconds = []
        for n in (1, 1 + args.lava_samples):  # the difference leaves the start of Lava out
            start = time.perf_counter()
            run_lava(graph, given(np.arange(n)), record=(), learn=True)
            seconds.append(time.perf_counter() - start)
        theirs = args.lava_samples / (seconds[1] - seconds[0])
        say(
            f"Lava: {theirs:.2f} samples per second in wall time; ratio of both {ours / theirs:,.0f}"
        )


def measure_continual(args: argparse.Namespace) -> None:
    """The learned network in changed worlds: all layers learn on, or the readout alone."""
    header, state = read_document(args.state, "biril-nm chip training", (1,))
    plan = header["plan"]
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in plan["config"].items()}
    config = DeepConfig(**fields)
    data = load_data("mnist").head(60_000, args.test_samples)
    graph = dfa_network((784, *plan["hidden"], 10), config, plan["seed"], (1, 28, 28))
    say(
        "accuracy, %: changed world frozen | readout learns | all layers; old world after it: readout | all"
    )
    for shift in SHIFTS.values():
        for per_class in args.per_class:
            how = ContinualPlan(per_class, args.replays)
            r = continue_learning(graph, state, data, shift, config, how)
            row = (r.frozen, r.readout, r.all_layers, r.readout_old, r.all_layers_old)
            say(
                f"{shift.name:9s} {per_class:4d} per class: before {100 * r.before:.1f}; "
                + " | ".join(f"{100 * value:.1f}" for value in row)
            )


def main() -> int:
    """Run one measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("accuracy", "speed", "continual"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--hidden", default="300")
    parser.add_argument("--method", default="dfa")
    parser.add_argument("--rounding", default="connection")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--lava-samples", type=int, default=3)
    parser.add_argument("--state", type=Path, default=Path("out/chip/state.npz"))
    parser.add_argument("--per-class", type=int, nargs="+", default=(10, 100))
    parser.add_argument("--replays", type=int, default=5)
    parser.add_argument("--test-samples", type=int, default=2500)
    args = parser.parse_args()
    measures = {
        "accuracy": measure_accuracy,
        "speed": measure_speed,
        "continual": measure_continual,
    }
    measures[args.what](args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
