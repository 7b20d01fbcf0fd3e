"""The simulator against its peers, side by side in one run.

Run: python benchmarks/simulator.py (make bench); --quick tests the script in a minute or two.
Engines take turns within each round: a busy moment hits all of them. A table cell is the
median [lowest-highest] over the rounds, a ratio the median of the rounds' ratios. Spikes of the exact
engines (Lava, netx) are compared with ours in the same run, and the run fails if one differs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads would steal time from others

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from engines import Engine, LavaFixed, LavaNetx, Ours, Slayer, SnnTorch
from numpy.typing import NDArray
from page import write_page
from resets import section
from results import Results
from roofline import Measured, bandwidths, vector_adds
from workloads import WORKLOADS, Workload, chain

from biril_nm.hardware_sim import Activity, simulate
from biril_nm.hardware_sim.cost.fanout import fan_out

DENSITIES = (0.01, 0.02, 0.05, 0.10, 0.20)
BUSY = (0.20, 0.50, 1.00)  # where dense products might pay
HERE = Path(__file__).parent


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


HAS_LAVA, HAS_LAVA_DL, HAS_SNNTORCH = map(_installed, ("lava", "lava.lib.dl.netx", "snntorch"))


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    rounds: int
    densities: tuple[float, ...]
    ours: dict[str, int]  # samples per repetition
    lava: dict[str, int]
    batch: dict[str, int]  # snnTorch
    slayer: dict[str, int]
    dense: dict[str, int]  # dense products
    layers: tuple[int, ...]
    widths: tuple[int, ...]
    batches: tuple[int, ...]
    steps: tuple[int, ...]


FULL = Size(
    rounds=5,
    densities=DENSITIES,
    ours={"dense": 2048, "conv": 128},
    lava={"dense": 16, "conv": 1},
    batch={"dense": 128, "conv": 128},
    slayer={"dense": 128, "conv": 16},  # it keeps every layer's state of every step
    dense={"dense": 128, "conv": 8},
    layers=(1, 2, 4, 8, 16),
    widths=(128, 256, 512, 1024, 2048),
    batches=(1, 4, 16, 64, 256),
    steps=(10, 100, 1000, 10000),
)
QUICK = Size(
    rounds=2,
    densities=(0.02, 0.10),
    ours={"dense": 8, "conv": 1},
    lava={"dense": 2, "conv": 1},
    batch={"dense": 8, "conv": 2},
    slayer={"dense": 8, "conv": 2},
    dense={"dense": 8, "conv": 1},
    layers=(1, 4),
    widths=(128, 512),
    batches=(1, 8),
    steps=(10, 100),
)


class Mismatch(SystemExit):
    """Two exact engines disagree: no figure of this run counts."""


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def paired(engines: Sequence[Engine], rounds: int) -> dict[str, list[float]]:
    """Sample-steps per second of each engine and round; engines take turns."""
    rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for engine in engines:
        engine.run()  # warm up
    for _ in range(rounds):
        for engine in engines:
            began = time.perf_counter()
            engine.run()
            rates[engine.name].append(engine.sample_steps / (time.perf_counter() - began))
    return rates


def make_engines(
    work: Workload, density: float, size: Size, threads: int
) -> list[tuple[Engine, NDArray[Any]]]:
    """All engines that are installed, with the input of each."""
    many = work.spikes(density, size.ours[work.name])
    few = many[:, : size.lava[work.name]]
    batch = work.spikes(density, size.batch[work.name], seed=2)
    calls: list[tuple[Callable[[NDArray[Any]], Engine], NDArray[Any]]] = [
        (lambda x: Ours(work, x, 1), many),
        (lambda x: Ours(work, x, threads), many),
        (lambda x: Ours(work, x, 1, one_call=False), few),
    ]
    if HAS_LAVA:
        calls.append((lambda x: LavaFixed(work, x), few))
    if HAS_LAVA_DL:
        calls.append((lambda x: LavaNetx(work, x), few))
        calls.append((lambda x: Slayer(work, x, threads), batch[:, : size.slayer[work.name]]))
    if HAS_SNNTORCH:
        calls.append((lambda x: SnnTorch(work, x, threads), batch[:, :1]))
        calls.append((lambda x: SnnTorch(work, x, threads), batch))
    return [(call(x), x) for call, x in calls]


def compare(work: Workload, density: float, size: Size, threads: int, results: Results) -> None:
    """One block of the tables: every engine on one network at one density."""
    key = (work.name, density)
    pairs = make_engines(work, density, size, threads)
    engines = [engine for engine, _ in pairs]
    try:
        rates = paired(engines, size.rounds)
        check(work, density, pairs, results)
    finally:
        for engine in engines:
            engine.close()
    results.rates[key] = {name: Measured.of(values) for name, values in rates.items()}
    ours = rates[engines[0].name]
    results.gains[key] = Measured.of([a / b for a, b in zip(rates[engines[1].name], ours)])
    results.ratios[key] = {
        name: Measured.of([a / b for a, b in zip(ours, values)]) for name, values in rates.items()
    }
    results.events[key], results.hidden[key] = activity(work, density, size)
    for name, rate in results.rates[key].items():
        say(f"  {work.name} {density:.0%} {name}: {rate.text(1, 0)} sample-steps/s")


def check(
    work: Workload,
    density: float,
    pairs: Sequence[tuple[Engine, NDArray[Any]]],
    results: Results,
) -> None:
    """Output spikes of every exact engine equal ours on the same input."""
    for engine, spikes in pairs:
        found = engine.outputs()
        if found is None:
            continue
        graph = work.graph()
        readout = next(iter(graph.outputs.values()))
        wanted = simulate(graph, spikes, nodes=(readout,), n_threads=1)[readout].s
        if not np.array_equal(found, wanted):
            raise Mismatch(
                f"{engine.name}: {int((found != wanted).sum())} output spikes of the {work.name} net at "
                f"{density:.0%} differ from ours"
            )
        if not isinstance(engine, Ours):
            results.checked.append(
                f"{engine.name} = ours: {work.name} net, {density:.0%} input, {found.size:,} output "
                f"values, {int(found.sum()):,} spikes"
            )


def activity(work: Workload, density: float, size: Size) -> tuple[float, dict[str, float]]:
    """Synaptic events per sample-step, and firing rates."""
    graph = work.graph()
    spikes = work.spikes(density, size.lava[work.name])
    counts = Activity.of(graph, simulate(graph, spikes), spikes)
    cells = counts.n_samples * counts.n_steps
    events = sum(
        int((counts.spikes[source] * fan_out(graph, name)).sum())
        for name, (source, _) in graph.ends.items()
    )
    rates = {
        n: float(counts.spikes[n].sum()) / (cells * graph.neurons[n].size) for n in graph.neurons
    }
    return events / cells, rates


def check_states(work: Workload, results: Results) -> None:
    """Every spike, current and membrane potential of one sample equals Lava's."""
    from biril_nm import check_parity

    report = check_parity(work.graph(), work.spikes(work.density, 1))
    if not report.ok:
        raise Mismatch(f"the {work.name} net differs from Lava: {report.summary()}")
    results.checked.append(
        f"{work.name} net, {work.density:.0%} input, all layers: {report.summary()}"
    )


def test_set(path: Path, data_root: Path | None, threads: int, results: Results) -> None:
    """Seconds for the 10,000 test images of MNIST."""
    from biril_nm.coding import Coding
    from biril_nm.data import load_data
    from biril_nm.evaluation.accuracy import EvaluationOptions, evaluate_shard
    from biril_nm.hw_graph import LoihiGraph

    graph, test = LoihiGraph.load(path), load_data("mnist", data_root).test
    coding = Coding.from_dict(next(iter(graph.metadata["coding"].values())))
    values = test.values()
    options = EvaluationOptions(n_threads=threads)
    evaluate_shard(graph, values[:250], test.labels[:250], coding, options)
    began = time.perf_counter()
    found = evaluate_shard(graph, values, test.labels, coding, options)
    seconds = time.perf_counter() - began
    results.test_set = (seconds, found.right / found.n_samples, found.n_samples, coding.n_steps)


def scaling(size: Size, results: Results) -> None:
    """Microseconds per sample-step of the simulator, one thread, against what makes it more."""

    def cost(work: Workload, density: float, n_samples: int) -> Measured:
        engine = Ours(work, work.spikes(density, n_samples), 1)
        rates = paired([engine], size.rounds)[engine.name]
        return Measured.of([1e6 / rate for rate in rates])

    n = 16
    results.scaling = {
        "layers of 256": {k: cost(chain(k), 0.1, n) for k in size.layers},
        "neurons of one layer": {k: cost(chain(1, k), 0.1, n) for k in size.widths},
        "batch (dense net)": {k: cost(WORKLOADS["dense"](), 0.1, k) for k in size.batches},
        "steps (dense net)": {k: cost(WORKLOADS["dense"](k), 0.1, 1) for k in size.steps},
    }


def silent(name: str, size: Size, results: Results) -> None:
    """Microseconds per sample-step without any spike: what a step costs in any case."""
    work = WORKLOADS[name]()
    engine = Ours(work, work.spikes(0.0, size.ours[name]), 1)
    rates = paired([engine], size.rounds)[engine.name]
    results.idle[name] = Measured.of([1e6 / rate for rate in rates])


def busy(name: str, size: Size, results: Results) -> None:
    """Ours against dense products, one thread each, where most neurons spike."""
    from dense_form import DenseForm

    work = WORKLOADS[name]()
    for density in BUSY:
        spikes = work.spikes(density, size.dense[name])
        pair = [Ours(work, spikes, 1), DenseForm(work, spikes, 1)]
        rates = paired(pair, size.rounds)
        check(work, density, [(engine, spikes) for engine in pair], results)
        ours, theirs = (rates[engine.name] for engine in pair)
        ratio = Measured.of([a / b for a, b in zip(ours, theirs)])
        results.busy[name, density] = (Measured.of(ours), Measured.of(theirs), ratio)
        say(f"  {name} {density:.0%}: {ratio.text()} x dense products")


def cold_start(size: Size, results: Results) -> None:
    """Fresh processes: from file to first answer, and memory; compiled code is cached by then."""
    with tempfile.TemporaryDirectory() as folder:
        for name, make in WORKLOADS.items():
            work, path = make(), Path(folder) / f"{name}.loihi.npz"
            work.graph().save(path)
            call = [sys.executable, str(HERE / "cold.py"), str(path), str(work.n_steps)]
            runs = []
            for _ in range(size.rounds):
                done = subprocess.run(
                    [*call, str(size.batch[name])], check=True, capture_output=True, text=True
                )
                runs.append(json.loads(done.stdout))
            results.cold[name] = {key: median(run[key] for run in runs) for key in runs[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything, print the page, and write it if asked to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: a test, not a measurement"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of benchmarks.md (default: docs; --quick: none)"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=tuple(WORKLOADS), help="one network alone")
    parser.add_argument(
        "--mnist-graph", type=Path, help="x.loihi.npz: also time its MNIST test set"
    )
    parser.add_argument("--data-root", type=Path, help="folder of MNIST (default: BIRIL_DATA)")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else FULL
    results, began = Results(quick=options.quick), time.perf_counter()
    if options.mnist_graph:
        say("MNIST test set")
        test_set(options.mnist_graph, options.data_root, options.threads, results)
    say("roofline")
    results.adds = vector_adds(size.rounds, 0.02 if options.quick else 0.2)
    results.bytes = bandwidths(size.rounds, 0.02 if options.quick else 0.2, options.quick)
    for name in [options.only] if options.only else WORKLOADS:
        if HAS_LAVA:
            check_states(WORKLOADS[name](), results)
        for density in size.densities:
            compare(WORKLOADS[name](), density, size, options.threads, results)
        silent(name, size, results)
        if HAS_SNNTORCH:  # torch is there
            busy(name, size, results)
    say("resets and pooling")
    results.neurons = section(size.ours["dense"], 3 * size.rounds)
    say("scaling")
    scaling(size, results)
    say("cold start")
    cold_start(size, results)
    results.seconds = time.perf_counter() - began
    out = options.out or (None if options.quick else HERE.parent / "docs")
    print(write_page(results, out, options.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main())
