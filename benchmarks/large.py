"""Large networks and single steps: CPU time and memory of lowering, mapping and ``Simulator.step``.

    python benchmarks/large.py                                   # all of them; 1.5 GB, a minute or two
    python benchmarks/large.py --only lower step

``lower``: a layer of 4096 x 4096 normal weights. ``map``: BIRIL's residual network (untrained) on both chips,
and a recurrent Sparse of 139,000 neurons and 15 million synapses. ``step``: 784-512-10 at 10 % input.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import TypeVar

import nir
import numpy as np
import scipy.sparse
from workloads import WORKLOADS

from biril_nm.export import lower, to_nir
from biril_nm.hardware_sim import Simulator, map_to_chip
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output, Sparse

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """CPU seconds, and what the work gave."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def layer(n: int) -> nir.NIRGraph:
    """``n`` inputs onto ``n`` LIF neurons."""
    weight = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32) / 64
    neurons = nir.LIF(*(np.full(n, value) for value in (0.02, 200.0, 0.0, 1.0)))
    return nir.NIRGraph.from_list(nir.Linear(weight), neurons)


def lowering(n: int = 4096) -> None:
    """Time and memory above that before."""
    lower(layer(8), dt_s=1e-3, reset="zero")  # loads the code
    graph = layer(n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds, _ = timed(lambda: lower(graph, dt_s=1e-3, reset="zero"))
    mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"lowering {n} x {n}: {seconds:.2f} s CPU, {mib:.0f} MiB above the network")


def random_network(n: int = 139_000, per_neuron: int = 108) -> LoihiGraph:
    """Neurons that each receive from ``per_neuron`` others, drawn at random."""
    random = np.random.default_rng(0)
    sources = np.sort(random.integers(0, n, (n, per_neuron)), axis=1).ravel()
    values = 2 * random.integers(-60, 60, sources.size)
    matrix = scipy.sparse.csr_matrix((values, sources, np.arange(n + 1) * per_neuron), shape=(n, n))
    matrix.sum_duplicates()
    nodes = {
        "in": Input((10,)), "drive": Dense(np.full((n, 10), 2)), "n": Neurons((n,), vth=1000),
        "loop": Sparse(matrix), "out": Output(),
    }  # fmt: skip
    edges = (("in", "drive"), ("drive", "n"), ("n", "loop"), ("loop", "n"), ("n", "out"))
    return LoihiGraph(nodes, edges)


def mapping() -> None:
    """Time and cores on each chip."""
    from resnet_on_chip import network

    residual = lower(to_nir(network("biril")[0]))
    for name, graph, chip in (
        ("residual network", residual, "loihi2"),
        ("residual network", residual, "loihi1"),
        ("recurrent Sparse", random_network(), "loihi2"),
    ):
        seconds, placement = timed(lambda g=graph, c=chip: map_to_chip(g, c, n_chips=64))
        print(f"mapping the {name} on {chip}: {seconds:.2f} s CPU, {len(placement.cores):,} cores")


def stepping(n_steps: int = 2000) -> None:
    """Time of a step, the least of five repetitions."""
    work = WORKLOADS["dense"]()
    spikes = work.spikes(work.density, 1)
    session = Simulator(work.graph())
    rows = [spikes[t % len(spikes)] for t in range(n_steps)]
    best = min(timed(lambda: [session.step(row) for row in rows])[0] for _ in range(5))
    print(f"Simulator.step on 784-512-10: {1e6 * best / n_steps:.1f} us CPU")


PARTS = {"lower": lowering, "map": mapping, "step": stepping}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    for name in parser.parse_args().only:
        PARTS[name]()


if __name__ == "__main__":
    main()
