"""A stream through a session: memory and time while it goes on.

    python benchmarks/stream.py [--steps 10000000] [--piece 1000]

A network of 8 inputs and 6 neurons with a loop and a delay runs as long as it is asked to, events drawn as
they are needed, one call for each piece. A row is printed after a thousandth, a hundredth, a tenth and all of
the steps: resident and peak memory, and the time per step since the row before. The program ends with an
error if the first steps are not those of one long run, or if memory grew by more than 8 MiB behind the first
tenth of the steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from measuring import Measured, peak_kib, resident_kib
from numpy.typing import NDArray
from section import Section, Size, at_most, table

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons

MAX_GROWTH_KIB = 8 << 10
CHECKED = 20_000  # steps that are compared with one long run
DENSITY = 0.1
HEADER = ("steps", "resident MiB", "peak MiB", "spikes", "us per step")


def network() -> LoihiGraph:
    """A population with a loop, and one behind a delay."""
    random = np.random.default_rng(0)
    nodes = {
        "in": Input((8,)),
        "fc": Dense(2 * random.integers(-30, 60, (4, 8))),
        "lif": Neurons((4,), vth=120, dv=200),
        "loop": Dense(2 * random.integers(-20, 10, (4, 4))),
        "late": Dense(2 * random.integers(-20, 60, (2, 4)), delay=3),
        "out": Neurons((2,), vth=90, dv=400),
    }
    edges = (("in", "fc"), ("fc", "lif"), ("lif", "loop"), ("loop", "lif"), ("lif", "late"))
    return LoihiGraph(nodes, (*edges, ("late", "out")))


def run(steps: int, piece: int) -> tuple[float, list[tuple[str, ...]]]:
    """KiB by which memory grew behind the first tenth, and the rows."""
    graph, random = network(), np.random.default_rng(1)
    session = Simulator(graph)
    done = n_spikes = 0
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = []  # the first events, and spikes
    memory = []
    rows = []
    for mark in (steps // 1000, steps // 100, steps // 10, steps):
        began, before = time.perf_counter(), done
        while done < mark:
            shape = (min(piece, mark - done), 1, 8)
            events = (random.random(shape, dtype=np.float32) < DENSITY).astype(np.uint8)
            found = session.run(events, ("s",), ("out",))
            if done < CHECKED:
                pairs.append((events, np.asarray(found["out"].s)))
            n_spikes += found.n_spikes["out"]
            done += len(events)
        memory.append(resident_kib())
        per_step = 1e6 * (time.perf_counter() - began) / max(1, done - before)
        sizes = f"{memory[-1] / 1024:.1f}", f"{peak_kib() / 1024:.1f}"
        rows.append((f"{done:,}", *sizes, f"{n_spikes:,}", f"{per_step:.2f}"))
    given, spikes = (np.concatenate(each) for each in zip(*pairs))
    whole = simulate(graph, given, record=("s",), nodes=("out",), n_threads=1)
    if not np.array_equal(spikes, whole["out"].s) or not spikes.any():
        raise SystemExit("the pieces are not those of one long run")
    return memory[-1] - memory[-2], rows


def section(size: Size) -> Section:
    """The whole stream."""
    steps, piece = size.of((10**7, 1000), (20_000, 100))
    grown, rows = run(steps, piece)
    mib = Measured(*[max(0.0, grown / 1024)] * 3)
    what = f"growth of memory over a stream of {steps:,} steps, behind the first tenth"
    check = f"a stream of {steps:,} steps: its first {min(steps, CHECKED):,} are those of one run"
    text = (
        f"8 inputs, 6 neurons, a loop and a delay, {piece:,} steps a call.\n\n{table(HEADER, rows)}"
    )
    goal = MAX_GROWTH_KIB >> 10
    return Section("A stream through a session", [at_most(what, mib, goal, " MiB")], text, [check])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stream."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=10**7)
    parser.add_argument("--piece", type=int, default=1000, help="steps of one call")
    given = parser.parse_args(arguments)
    grown, rows = run(given.steps, given.piece)
    print(table(HEADER, rows))
    if grown > MAX_GROWTH_KIB:
        sys.exit(f"memory grew by {grown / 1024:.1f} MiB; expected at most {MAX_GROWTH_KIB >> 10}")


if __name__ == "__main__":
    main()
