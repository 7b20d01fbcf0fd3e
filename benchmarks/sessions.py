"""Sessions: what a call of ``Simulator.run`` costs before its first step, and a call of ``step``.

python benchmarks/sessions.py [--quick]
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from measuring import Measured, take_turns
from numpy.typing import NDArray
from profiling import hottest
from section import Mismatch, Row, Section, Size, alone, at_most, plain
from workloads import dense

from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hardware_sim.engine.blocks import Worker

LONG = 33  # steps of a call that is compared with one of one step


@contextmanager
def starts() -> Iterator[list[float]]:
    """Times at which the runs within began with their steps."""
    stamps: list[float] = []
    go_on = Worker.go_on

    def stamped(self: Worker, b0: int) -> None:
        stamps.append(time.perf_counter())
        go_on(self, b0)

    Worker.go_on = stamped  # type: ignore[method-assign]
    try:
        yield stamps
    finally:
        Worker.go_on = go_on  # type: ignore[method-assign]


def before_first_step(session: Simulator, part: NDArray[Any], calls: int) -> float:
    """Microseconds from the call of ``run`` to the start of its steps, median of the calls."""
    began = []
    with starts() as stamps:
        for _ in range(calls):
            began.append(time.perf_counter())
            session.run(part, ())
    return 1e6 * float(np.median(np.subtract(stamps, began)))


def repeated(call: Callable[[], Any], times: int) -> Callable[[], None]:
    """A call again and again."""

    def run() -> None:
        for _ in range(times):
            call()

    return run


def check(spikes: NDArray[Any]) -> str:
    """Calls of one step each give what one run gives."""
    graph = dense().graph()
    session = Simulator(graph)
    (readout,) = graph.outputs.values()
    found = np.array([session.step(row) for row in spikes])
    wanted = simulate(graph, spikes, nodes=(readout,), n_threads=1)[readout].s
    if not np.array_equal(found, wanted):
        raise Mismatch("calls of Simulator.step differ from one run")
    return f"{len(found)} calls of Simulator.step = one run, {int(found.sum())} output spikes"


def section(size: Size) -> Section:
    """Both calls on the dense net at its density."""
    work, calls = dense(LONG), size.of(2000, 20)
    spikes = work.spikes(work.density, 1)
    session, one, row = Simulator(work.graph()), spikes[:1], spikes[0]
    runs = {
        "run": repeated(lambda: session.run(one, ()), calls),
        "long": repeated(lambda: session.run(spikes, ()), calls),
        "step": repeated(lambda: session.step(row), calls),
    }
    us = {k: [1e6 * s / calls for s in v] for k, v in take_turns(runs, size.rounds).items()}
    before = Measured.of([before_first_step(session, one, calls) for _ in range(size.rounds)])
    fixed = Measured.of(
        [a - (b - a) / (LONG - 1) for a, b in zip(us["run"], us["long"])]
    )  # of a call of no steps
    what = "dense net, Simulator"
    rows: list[Row] = [
        at_most(f"{what}.run before its first step", before, 40, " us", hottest(runs["run"])),
        at_most(f"{what}.step", Measured.of(us["step"]), 25, " us", hottest(runs["step"])),
        plain(f"{what}.run, a call of no steps (all but the steps)", fixed, " us"),
        plain(f"{what}.run, a call of one step", Measured.of(us["run"]), " us"),
    ]
    text = (
        f"One instance, {work.density:.0%} input, nothing recorded, a compiled graph. Calls of one and of "
        f"{LONG} steps give the time of a call without its steps."
    )
    return Section("Sessions", rows, text, [check(spikes)])


if __name__ == "__main__":
    alone(section, __doc__)
