"""Run every kind of connection once, so that its kernels are compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

WIRINGS = ("plain", "residual", "self", "loop", "inputs")


def _learn() -> None:
    from biril_nm.hardware_sim import simulate
    from tests.support.random_learning import random_input, random_network

    for kind in ("dense", "sparse"):
        graph = random_network([0, 1], kind)
        simulate(graph, random_input(graph, 5, 2, 0), learn=True)


def _run(wiring: str) -> None:
    from biril_nm.hardware_sim import simulate
    from tests.support.random_graphs import random_graph, random_spikes

    graph = random_graph([0, len(wiring)], wiring)
    simulate(graph, random_spikes(graph, 4, 2, 0), record=("s", "u", "v"))


def compile_kernels() -> None:
    """Simulate graphs of all wirings, and one that learns.

    Learning takes half of the time. So of several processes of pytest-xdist every other one begins with it,
    and each finds on disk what another has compiled.
    """
    parts: list[Callable[[], None]] = [_learn, *(partial(_run, wiring) for wiring in WIRINGS)]
    if int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 2:
        parts.reverse()
    for part in parts:
        part()
