"""Seconds for the 10,000 test pictures of MNIST; only where there is a trained network.

python benchmarks/mnist_pictures.py out/mnist/model.loihi.npz [--data-root DATA]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measuring import Measured, take_turns
from section import Section, Size, at_most

from biril_nm.coding import Coding
from biril_nm.data import load_data
from biril_nm.evaluation.accuracy import EvaluationOptions, evaluate_shard
from biril_nm.hw_graph import LoihiGraph

SECONDS = 20.0


def section(size: Size, path: str, data_root: str | None = None) -> Section:
    """The whole test part, all threads."""
    graph, test = LoihiGraph.load(path), load_data("mnist", data_root).test
    coding = Coding.from_dict(next(iter(graph.metadata["coding"].values())))
    n = size.of(len(test), 250)
    values, labels = test.values(slice(0, n)), test.labels[:n]
    options = EvaluationOptions(n_threads=size.threads)
    found = evaluate_shard(graph, values, labels, coding, options)

    def run() -> None:
        evaluate_shard(graph, values, labels, coding, options)

    (seconds,) = take_turns({"": run}, size.of(3, 1)).values()
    right = found.right / found.n_samples
    what = f"MNIST: {n:,} test pictures, {coding.n_steps} steps, {right:.2%} right, {size.threads} threads"
    reason = (
        f"{found.seconds:.1f} s of the first of these runs in the simulator, the rest is coding"
    )
    return Section("MNIST", [at_most(what, Measured.of(seconds), SECONDS, " s", reason)])


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("graph", type=Path, help="x.loihi.npz")
    parser.add_argument("--data-root", help="folder of MNIST (default: BIRIL_DATA)")
    given = parser.parse_args()
    print(section(Size(), str(given.graph), given.data_root).markdown())


if __name__ == "__main__":
    main()
