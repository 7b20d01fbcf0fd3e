"""What other resets than zero cost: the dense net with each compartment model of the CUBA-LIF kind.

Run: python benchmarks/resets.py [--samples 2000] [--rounds 15]. The models take turns within each round,
on one thread. ``cuba_lif_zero_delayed`` has the spikes of ``cuba_lif``, so that the two differ by their
neurons alone; others spike more or less often.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from statistics import median

from page import table
from workloads import WORKLOADS

from biril_nm.compartments import CUBA_LIF, RESET_MODELS
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph, Neurons


def with_model(graph: LoihiGraph, model: str) -> LoihiGraph:
    """The same with neurons of another model."""
    other = {
        name: Neurons(node.shape, model=model, registers=node.registers)
        for name, node in graph.neurons.items()
    }
    return replace(graph, nodes={**graph.nodes, **other})


def main() -> None:
    """Time all models and print one row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    work = WORKLOADS["dense"]()
    spikes = work.spikes(work.density, options.samples)
    graphs = {
        model.name: with_model(work.graph(), model.name) for model in (CUBA_LIF, *RESET_MODELS)
    }
    sent = {
        name: sum(simulate(graph, spikes, n_threads=1).n_spikes.values())
        for name, graph in graphs.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(options.rounds):
        for name, graph in graphs.items():
            start = time.process_time()
            simulate(graph, spikes, n_threads=1)
            seconds[name].append(time.process_time() - start)
    zero = seconds[CUBA_LIF.name]
    rows = [
        (
            f"`{name}`",
            f"{sent[name] / sent[CUBA_LIF.name]:.2f}",
            f"{median(own / other for own, other in zip(times, zero)):.2f}",
            f"{min(times) / min(zero):.2f}",
        )
        for name, times in seconds.items()
    ]
    print(table(("model", "spikes", "time, median of rounds", "time, shortest"), rows))


if __name__ == "__main__":
    main()
