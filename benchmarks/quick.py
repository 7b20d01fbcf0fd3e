"""A quick look whether the simulator has become slower: ratios to a NumPy loop, against stored ones.

    make bench-quick                      half a minute; exit code 1 at a loss of 30 %
    make bench-quick QUICK=--store        keeps the ratios of this machine in quick.json

Each round runs the loop and every case in turn, one thread each (OMP_NUM_THREADS=1), in times of the
processor, so that other programs cost both alike. A ratio is the time of the loop over that of the case; the
median of the rounds counts. The loop runs the network of the case ``dense``, and its spikes must be those of
the simulator. Ratios hold for machines like the one that is named in quick.json; make your own with --store
before a change.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from page import processor
from paired import inference, learning, one_call_per_sample, registers
from section import table
from workloads import DV, Workload, dense

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.loihi import DECAY_BITS, DECAY_UNITY, VTH_SHIFT, WEIGHT_SHIFT

STORED = Path(__file__).with_name("quick.json")
ROUNDS, TURNS, LOSS = 7, 4, 0.30
SAMPLES = 64  # of the loop
Run = Callable[[], Any]


def numpy_loop(work: Workload, spikes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The network of dense layers step by step: float32 products, which are exact here, and int64 states."""
    weights = [layer.weight.astype(np.float32).T.copy() for layer in work.layers]
    states = [np.zeros((spikes.shape[1], w.shape[1]), np.int64) for w in weights]
    found = []
    for sent in spikes:
        row = sent
        for i, (layer, weight) in enumerate(zip(work.layers, weights)):
            kept = states[i] * (DECAY_UNITY - DV)
            v = np.sign(kept) * (np.abs(kept) >> DECAY_BITS)
            v += (row @ weight).astype(np.int64) << WEIGHT_SHIFT
            fired = v > layer.vth << VTH_SHIFT
            states[i] = np.where(fired, 0, v)
            row = fired.astype(np.float32)
        found.append(fired)
    return np.array(found, np.uint8)


def reference() -> Run:
    """The loop, after its spikes were compared with the simulator's."""
    work = dense()
    events = work.spikes(work.density, SAMPLES)
    spikes = events.astype(np.float32)
    wanted = simulate(work.graph(), events, n_threads=1)["n2"].s
    if not np.array_equal(numpy_loop(work, spikes), wanted) or not np.any(wanted):
        raise SystemExit("the NumPy loop and the simulator give other spikes")
    return lambda: numpy_loop(work, spikes)


def _session(how: str, calls: int) -> Run:
    """Calls of one step each in a session."""
    work = dense()
    graph, spikes = work.graph(), work.spikes(work.density, 1)
    session = Simulator(graph)

    def run() -> None:
        for i in range(calls):
            t = i % len(spikes)
            if how == "step":
                session.step(spikes[t])
            else:
                session.run(spikes[t : t + 1], ())

    return run


CASES: dict[str, Callable[[], Run]] = {
    "dense": lambda: inference("dense", 1500),
    "conv": lambda: inference("conv", 100),
    "cuba": lambda: registers(looped=False),
    "loop": lambda: registers(looped=True),
    "calls": lambda: one_call_per_sample(300),
    "session run": lambda: _session("run", 1000),
    "session step": lambda: _session("step", 3000),
    "learn1": lambda: learning(400, 1, 1024),
    "learn4": lambda: learning(100, 4, 2048),
}


def seconds(run: Run) -> float:
    """The shortest time of the processor of some runs."""
    found = []
    for _ in range(TURNS):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def measure(cases: Mapping[str, Run], loop: Run, rounds: int) -> dict[str, float]:
    """The median ratio of each case."""
    ratios: dict[str, list[float]] = {name: [] for name in cases}
    for run in (loop, *cases.values()):
        run()  # compiles
    for _ in range(rounds):
        for name, run in cases.items():
            ratios[name].append(seconds(loop) / seconds(run))
    return {name: median(each) for name, each in ratios.items()}


def losses(found: Mapping[str, float], stored: Mapping[str, float]) -> dict[str, float]:
    """Share of the stored ratio that is lost, of the cases that lost too much."""
    lost = {name: 1 - ratio / stored[name] for name, ratio in found.items() if name in stored}
    return {name: share for name, share in lost.items() if share >= LOSS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and compare or store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--stored", type=Path, default=STORED, help="file of the stored ratios")
    parser.add_argument("--store", action="store_true", help="keep the ratios of this run")
    given = parser.parse_args(arguments)
    found = measure({name: CASES[name]() for name in given.cases}, reference(), given.rounds)
    if given.store:
        facts = {"machine": processor(), "ratios": {k: round(x, 4) for k, x in found.items()}}
        given.stored.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    stored = json.loads(given.stored.read_text(encoding="utf-8"))
    before = stored["ratios"]
    rows = [
        (name, f"{x:.3f}", f"{before[name]:.3f}", f"{x / before[name]:.2f}")
        for name, x in found.items()
        if name in before
    ]
    print(f"stored on {stored['machine']}; here {processor()}\n")
    print(table(("case", "loop / case", "stored", "now / stored"), rows))
    lost = losses(found, before)
    if lost:
        sys.exit("slower: " + ", ".join(f"{name} by {share:.0%}" for name, share in lost.items()))


if __name__ == "__main__":
    main()
