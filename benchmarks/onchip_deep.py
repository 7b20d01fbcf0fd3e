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
from measuring import Measured, installed  # noqa: E402
from section import Mismatch, Section, Size, at_least, plain  # noqa: E402

from biril_nm.data import Split, load_data  # noqa: E402
from biril_nm.data.shifts import SHIFTS  # noqa: E402
from biril_nm.errors import BirilError  # noqa: E402
from biril_nm.hardware_sim import Simulator, simulate  # noqa: E402
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
SHORTEST = 0.01  # s of a sample in Lava, which is less than any machine takes


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


class Lessons:
    """Pictures as the chip is taught them: MNIST where it is, random ones else."""

    def __init__(self) -> None:
        self.config = DeepConfig()
        try:
            part = load_data("mnist").train
        except BirilError:
            random = np.random.default_rng(0)
            raw = random.integers(0, 256, (6000, 1, 28, 28), dtype=np.uint8)
            part = Split(raw, random.integers(0, 10, len(raw)), top=255)
        self.pictures = pictures(part, self.config.n_steps)
        self.graph = dfa_network(SIZES, self.config, input_shape=(1, 28, 28))

    def given(self, rows: Any) -> dict[str, Any]:
        """Spikes and targets of some pictures."""
        labels = self.pictures.labels[rows]
        window = self.config.teaching_steps(1)
        return lessons(self.pictures.spikes(rows), labels, SIZES[-1], window)


def speed(taught: Lessons, samples: int, chunk: int = CHUNK) -> tuple[float, float, str]:
    """Samples per CPU second and per second of one thread, coding included; and what coding takes of it."""
    n_steps = taught.config.n_steps
    session = Simulator(taught.graph, learn=True, sample_steps=n_steps)
    session.run(
        session.in_chip_time(taught.given(np.arange(chunk))), record=()
    )  # loads the kernels
    coding, cpu, wall = 0.0, time.process_time(), time.perf_counter()
    for start in range(chunk, chunk + samples, chunk):
        began = time.process_time()
        values = session.in_chip_time(taught.given(np.arange(start, start + chunk)))
        coding += time.process_time() - began
        session.run(values, record=())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    still = Simulator(taught.graph, chip_time=True, sample_steps=n_steps)
    names = still.graph.inputs
    rest = {k: v for k, v in values.items() if k in names}
    still.run(rest, record=())
    began = time.process_time()
    still.run(rest, record=())
    fixed = (time.process_time() - began) * samples / chunk
    share = [part / cpu for part in (coding, fixed, cpu - coding - fixed)]
    why = (
        f"{1e6 * cpu / samples:,.0f} us of the processor a sample: coding {share[0]:.0%}, the network "
        f"without learning {share[1]:.0%}, learning {share[2]:.0%}"
    )
    return samples / cpu, samples / wall, why


def speed_of_lava(taught: Lessons, samples: int) -> float:
    """Samples per second; the difference of two runs leaves the start of Lava out."""
    from biril_nm.export.lava.backend import run_lava

    seconds = []
    for n in (1, 1 + samples):
        start = time.perf_counter()
        run_lava(taught.graph, taught.given(np.arange(n)), record=(), learn=True)
        seconds.append(time.perf_counter() - start)
    return samples / max(seconds[1] - seconds[0], samples * SHORTEST)


def measure_speed(args: argparse.Namespace) -> None:
    """Samples per second of one thread, and the ratio to Lava on the same network."""
    taught = Lessons()
    of_thread, ours, why = speed(taught, args.samples)
    say(
        f"hardware_sim: {of_thread:,.0f} samples per CPU second of one thread, coding included "
        f"({ours:,.0f} in wall time), {args.samples} samples; {why}"
    )
    if args.lava_samples:
        theirs = speed_of_lava(taught, args.lava_samples)
        say(
            f"Lava: {theirs:.2f} samples per second in wall time; ratio of both {ours / theirs:,.0f}"
        )


def same_as_lava(taught: Lessons) -> str:
    """The weights of one sample are those that Lava learns."""
    from biril_nm.export.lava.backend import run_lava

    given = taught.given(np.arange(1))
    ours = simulate(taught.graph, given, record=(), learn=True).graph
    theirs = run_lava(taught.graph, given, record=(), learn=True).graph
    changed = 0
    for name, before in taught.graph.plastic.items():
        learned = np.asarray(ours.nodes[name].weight)
        if not np.array_equal(learned, theirs.nodes[name].weight):
            raise Mismatch(f"deep learning on the chip: weights of {name} differ from Lava's")
        changed += int((learned != before.weight).sum())
    return (
        f"deep learning on the chip: all weights after a sample equal Lava's, {changed:,} changed"
    )


def section(size: Size) -> Section:
    """Speed of learning from nothing."""
    taught, (samples, chunk, of_lava) = Lessons(), size.of((2000, CHUNK, 3), (20, 10, 1))
    found = [speed(taught, samples, chunk) for _ in range(size.of(3, 1))]
    cpu, wall = (Measured.of([each[i] for each in found]) for i in (0, 1))
    goal, what = 3000.0, "on-chip training of 784-300-10"
    rows = [at_least(f"{what}, one thread", cpu, goal, " samples/s (CPU)", found[0][2])]
    rows.append(plain(f"{what} in wall time", wall, " samples/s"))
    checks = []
    if installed("lava"):
        theirs = speed_of_lava(taught, of_lava)
        rows.append(plain(f"{what} over Lava", Measured(*[wall.middle / theirs] * 3), "x"))
        checks.append(same_as_lava(taught))
    text = f"{taught.config.n_steps} steps a sample, every sample shown once, coding included. {found[0][2]}."
    return Section("Deep learning on the chip", rows, text, checks)


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
