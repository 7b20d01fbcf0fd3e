"""Speed of this checkout against another one, in turn, so that the machine's drift cancels.

Each pair starts a new process per checkout, because the memory that a process happens to get makes it up
to 15 % faster or slower for all its life. The two take turns on the same networks, and the shortest CPU
time of either gives one ratio. The recorded integers of both must be equal, or the program ends with an
error. 1.00 means equally fast, more means that this checkout is faster.

    git worktree add ../before v0.1.0
    python benchmarks/paired.py ../before [--pairs 9] [--cases dense learn1] [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measuring import ONE_THREAD, UNWANTED

HERE = Path(__file__).resolve()
RUNS = 4  # of a case in each process; the shortest counts
Case = Callable[[], Callable[[], Any]]


# --- in the process of one checkout -------------------------------------------------------------


def inference(name: str, n_samples: int) -> Callable[[], Any]:
    """A network of the benchmark."""
    from workloads import WORKLOADS

    from biril_nm.hardware_sim import simulate

    work = WORKLOADS[name]()
    graph, spikes = work.graph(), work.spikes(work.density, n_samples)
    return lambda: simulate(graph, spikes, record=("s",), n_threads=1)


def registers(looped: bool) -> Callable[[], Any]:
    """A CUBA layer with registers of its own for every neuron, with a loop or without."""
    import numpy as np

    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons

    random = np.random.default_rng(7)
    n = 512
    neurons = Neurons(
        (n,), vth=random.integers(300, 900, n), du=random.integers(200, 3000, n),
        dv=random.integers(100, 900, n), bias_mant=random.integers(-9, 20, n), bias_exp=2,
    )  # fmt: skip
    nodes = {"in": Input((256,)), "fc": Dense(2 * random.integers(-30, 40, (n, 256))), "n": neurons}
    edges = [("in", "fc"), ("fc", "n")]
    if looped:
        nodes["loop"] = Dense(2 * random.integers(-12, 8, (n, n)))
        edges += [("n", "loop"), ("loop", "n")]
    graph = LoihiGraph(nodes, tuple(edges))
    spikes = (random.random((64, 128, 256)) < 0.1).astype(np.uint8)
    return lambda: simulate(graph, spikes, record=("s", "v"), n_threads=1)


def learning(n_neurons: int, t_epoch: int, n_steps: int = 4096) -> Callable[[], Any]:
    """A Dense that learns by pair STDP."""
    import numpy as np
    from learning import DENSITY, N_INPUTS, NEURONS, stdp

    from biril_nm.hardware_sim import simulate
    from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons

    random = np.random.default_rng(3)
    weights = 2 * random.integers(0, 40, (n_neurons, N_INPUTS))
    nodes = {
        "in": Input((N_INPUTS,)),
        "fc": Dense(weights, rule=stdp(t_epoch)),
        "n": Neurons((n_neurons,), **NEURONS),
    }
    graph = LoihiGraph(nodes, (("in", "fc"), ("fc", "n")))
    spikes = (random.random((n_steps, 1, N_INPUTS)) < DENSITY).astype(np.uint8)
    return lambda: simulate(graph, spikes, record=(), learn=True)


def one_call_per_sample(n_samples: int = 400) -> Callable[[], Any]:
    """The dense network, sample by sample."""
    from workloads import WORKLOADS

    from biril_nm.hardware_sim import simulate

    work = WORKLOADS["dense"]()
    graph, spikes = work.graph(), work.spikes(work.density, n_samples)

    def run() -> Any:
        for i in range(spikes.shape[1]):
            last = simulate(graph, spikes[:, i : i + 1], record=("s",), n_threads=1)
        return last

    return run


CASES: dict[str, Case] = {
    "dense": lambda: inference("dense", 8000),
    "conv": lambda: inference("conv", 400),
    "cuba": lambda: registers(looped=False),
    "loop": lambda: registers(looped=True),
    "calls": one_call_per_sample,
    "learn1": lambda: learning(400, 1),
    "learn4": lambda: learning(100, 4),
}


def _digest(recording: Any) -> str:
    """All recorded spikes and states, the last membranes and the learned weights in one number."""
    import numpy as np

    digest = hashlib.sha256(repr(sorted(recording.n_spikes.items())).encode())
    for name in sorted(recording):
        for key, array in sorted(recording[name].variables().items()):
            digest.update(key.encode() + np.ascontiguousarray(array).tobytes())
    learned = getattr(recording, "graph", None)
    for node in learned.plastic.values() if learned is not None else ():
        digest.update(np.ascontiguousarray(node.weight, dtype=np.int64).tobytes())
    return digest.hexdigest()[:16]


def serve() -> None:
    """Answer lines ``CASE`` on stdin with ``seconds digest`` on stdout."""
    ready: dict[str, Callable[[], Any]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in ready:
            ready[name] = CASES[name]()
            ready[name]()  # compiles
        start = time.process_time()
        recording = ready[name]()
        seconds = time.process_time() - start
        print(json.dumps({"seconds": seconds, "digest": _digest(recording)}), flush=True)


# --- in the process that compares ---------------------------------------------------------------


class Checkout:
    """A process that runs cases with the package of one checkout."""

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join((str(folder.resolve()), str(HERE.parent)))
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path}
        for name in UNWANTED:
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, str(HERE), "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def time(self, case: str) -> dict[str, Any]:
        """Seconds and digest of one run."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self.process.stdin.write(case + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def pair(cases: list[str], folders: tuple[Path, Path], i: int) -> dict[str, list[float]]:
    """Shortest seconds of each case before and now, in two new processes; the order changes with ``i``."""
    checkouts = [Checkout(folder) for folder in folders]
    try:
        found = {}
        for case in cases:
            seconds: list[list[float]] = [[], []]
            digests = set()
            for turn in range(RUNS):
                for which in (0, 1) if (i + turn) % 2 == 0 else (1, 0):
                    answer = checkouts[which].time(case)
                    seconds[which].append(answer["seconds"])
                    digests.add(answer["digest"])
            if len(digests) > 1:
                raise SystemExit(f"{case}: the two checkouts computed different integers")
            found[case] = [min(each) for each in seconds]
        return found
    finally:
        for checkout in checkouts:
            checkout.close()


def summary(case: str, seconds: list[list[float]]) -> dict[str, Any]:
    """Ratios of the seconds before to the seconds now."""
    ratios = [before / now for before, now in seconds]
    return {
        "case": case, "median": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
        "seconds": statistics.median(now for _, now in seconds),
    }  # fmt: skip


def main() -> None:
    """Compare two checkouts, or serve one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", nargs="?", type=Path, help="folder of the other checkout")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve()
        return
    if given.before is None or not (given.before / "biril_nm").is_dir():
        parser.error(f"{given.before} is not a checkout of biril-nm")
    folders = given.before, HERE.parents[1]
    pairs = [pair(given.cases, folders, i) for i in range(given.pairs)]
    rows = [summary(case, [found[case] for found in pairs]) for case in given.cases]
    if given.json:
        print(json.dumps(rows))
        return
    print("case     before / now: median [lowest to highest]   seconds now")
    for row in rows:
        print(
            f"{row['case']:<8} {row['median']:.3f} [{row['low']:.3f} to {row['high']:.3f}]"
            f"{row['seconds']:>24.3f}"
        )


if __name__ == "__main__":
    main()
