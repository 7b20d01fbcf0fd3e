"""Scale-out: an evaluation on two processes, and on Ray, against the threads of one process.

Each way evaluates a short set and a long one; their difference leaves the start out. Counts of right answers
and firing rates of all ways must be equal.

    python benchmarks/scale_out.py [--quick] [--seconds 60]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring import Measured, installed, say
from section import UNMEASURED, Mismatch, Row, Section, Size, at_least, table, timed

from biril_nm.coding import Coding
from biril_nm.evaluation.accuracy import EvaluationOptions, GraphEvaluation, evaluate_shard
from biril_nm.evaluation.sharding import ArraySamples, evaluate_sharded
from biril_nm.hw_graph import LoihiGraph

WORKERS, BATCH, SHAPE = 2, 250, (1, 28, 28)
CODING = Coding("direct", 16)
SECONDS = 60.0
Way = Callable[[LoihiGraph, ArraySamples], GraphEvaluation]


def network() -> LoihiGraph:
    """An untrained convnet for pictures of MNIST."""
    import biril_nm as bnm
    from biril_nm.export import lower, to_nir

    return lower(to_nir(bnm.build_model("convnet", bnm.ModelConfig(SHAPE, coding=CODING), seed=0)))


def pictures(n: int) -> ArraySamples:
    """Random pictures and labels."""
    random = np.random.default_rng(0)
    values = random.integers(0, 256, (n, *SHAPE), dtype=np.uint8)
    return ArraySamples(values, random.integers(0, 10, n))


def on_threads(graph: LoihiGraph, samples: ArraySamples) -> GraphEvaluation:
    """As many threads as there are workers otherwise."""
    options = EvaluationOptions(batch_size=BATCH, n_threads=WORKERS)
    return evaluate_shard(graph, samples.values, samples.labels, CODING, options).result(graph)


def on_workers(graph: LoihiGraph, samples: ArraySamples, cluster: bool = False) -> GraphEvaluation:
    """Processes with a thread each."""
    options = EvaluationOptions(batch_size=BATCH)
    return evaluate_sharded(graph, samples, CODING, WORKERS, options, cluster)


def on_ray(graph: LoihiGraph, samples: ArraySamples) -> GraphEvaluation:
    """The same on a Ray that starts here."""
    return on_workers(graph, samples, cluster=True)


def clock(way: Way, graph: LoihiGraph, samples: ArraySamples) -> tuple[float, GraphEvaluation]:
    """Wall seconds, and the result."""
    began = time.perf_counter()
    found = way(graph, samples)
    return time.perf_counter() - began, found


def same(a: GraphEvaluation, b: GraphEvaluation) -> bool:
    """Whether all counts are equal."""
    facts: list[Any] = [(x.accuracy, x.n_samples, dict(x.firing_rates)) for x in (a, b)]
    return bool(facts[0] == facts[1])


def share(what: str, rate: float | None, of: float | None) -> Row:
    """Efficiency of a way."""
    found = Measured(*[rate / of] * 3) if rate and of else None
    why = f"{rate:,.0f} against {of:,.0f} samples/s" if found else "the start took all of a run"
    return at_least(what, found, 0.8, "x", why)


def measure(size: Size, seconds: float) -> Section:
    """The three ways on the same samples."""
    graph, short = network(), pictures(WORKERS * BATCH)
    on_threads(graph, short)  # loads the code
    once, _ = clock(on_threads, graph, short)
    n = int(max(2, seconds / once)) * len(short)
    long = pictures(n)
    ways: dict[str, Way] = {f"{WORKERS} threads": on_threads, f"{WORKERS} processes": on_workers}
    if installed("ray"):
        ways[f"Ray, {WORKERS} workers"] = on_ray
    rates: dict[str, float | None] = {}
    lines, results = [], {}
    for name, way in ways.items():
        say(f"  {name}: {n:,} samples")
        before, _ = clock(way, graph, short)
        spent, results[name] = clock(way, graph, long)
        rate = rates[name] = (n - len(short)) / (spent - before) if spent > before else None
        lines.append(
            (name, f"{spent:.1f}", f"{before:.1f}", f"{rate:,.0f}" if rate else UNMEASURED)
        )
    first, *others = results
    for name in others:
        if not same(results[first], results[name]):
            raise Mismatch(f"{name}: counts differ from those of {first}")
    rows = [share(f"evaluation, {name} over {first}", rates[name], rates[first]) for name in others]
    if not installed("ray"):
        rows.append(Row("evaluation, Ray", "Ray is not installed", ">= 0.8x"))
    text = (
        f"An untrained convnet (1 x 28 x 28), {CODING.n_steps} steps, {n:,} random pictures; "
        f"{len(short):,} give the time of the start, which the rate leaves out.\n\n"
        + table(("way", "s", "s of the short set", "samples/s without the start"), lines)
    )
    rights = f"{results[first].accuracy * n:,.0f} right of {n:,}"
    check = f"evaluation on {', '.join(results)}: equal counts and firing rates, {rights}"
    return Section("Evaluation on several processes", rows, text, [check])


def section(size: Size) -> Section:
    """A minute for each way."""
    return measure(size, size.of(SECONDS, 0.5))


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of the script")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each way")
    given = parser.parse_args()
    seconds = 0.5 if given.quick else given.seconds
    print(timed(lambda size: measure(size, seconds), Size(given.quick)).markdown())


if __name__ == "__main__":
    main()
