"""Run every kind of connection once, so that its kernels are compiled."""

from __future__ import annotations

WIRINGS = ("plain", "residual", "self", "loop", "inputs")
RECORDS = (("s", "u", "v"), ("s", "v"), ())


def compile_kernels() -> None:
    """Simulate graphs of all wirings, and one that learns."""
    from biril_nm.hardware_sim import simulate
    from tests.support.random_graphs import random_graph, random_spikes
    from tests.support.random_learning import random_input, random_network

    for wiring in WIRINGS:
        graph = random_graph([0, len(wiring)], wiring)
        for record in RECORDS:
            simulate(graph, random_spikes(graph, 4, 2, 0), record=record)
    for kind in ("dense", "sparse"):
        graph = random_network([0, 1], kind)
        simulate(graph, random_input(graph, 5, 2, 0), learn=True)
