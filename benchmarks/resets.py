"""What other neurons cost: the dense net with each reset, and the conv net with pooling by maximum.

Run: python benchmarks/resets.py [--samples 2000] [--rounds 15]. It prints the section that make bench
writes into docs/benchmarks.md. The networks of a table take turns within each round, on one thread; times
are those of the processor. ``cuba_lif_zero_delayed`` has the spikes of ``cuba_lif``, so that the two differ
by their neurons alone; others spike more or less often. Neurons that pool by maximum (an OR of spikes) are
compared with the largest of the spikes that they receive.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from measuring import ratios, take_turns
from numpy.typing import NDArray
from section import Section, Size, table
from workloads import DU, DV, POOL, WORKLOADS, Workload

from biril_nm.compartments import CUBA_LIF, RESET_MODELS
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.loihi import DECAY_UNITY

Rows = list[tuple[str, ...]]
FOLDED, MAXIMUM = "sum pooling, folded into the weights", "pooling by maximum, OR neurons"


def with_model(graph: LoihiGraph, model: str) -> LoihiGraph:
    """The same with neurons of another model."""
    other = {
        name: Neurons(node.shape, model=model, registers=node.registers)
        for name, node in graph.neurons.items()
    }
    return replace(graph, nodes={**graph.nodes, **other})


def pooled_by_maximum(work: Workload) -> LoihiGraph:
    """The network of ``work`` with a neuron per window, which spikes where one of its inputs does."""
    nodes: dict[str, object] = {"input": Input(work.in_shape)}
    edges, last, shape = [], "input", work.in_shape
    for i, layer in enumerate(work.layers, start=1):
        link, name, windows, pool = f"w{i}", f"n{i}", f"m{i}.windows", f"m{i}"
        if layer.pool:
            channels, height, width = shape
            shape = (channels, height // POOL, width // POOL)
            ones = np.full((channels, 1, POOL, POOL), 2)
            nodes[windows] = Conv(ones, stride=POOL, groups=channels)
            nodes[pool] = Neurons(shape, vth=1, du=DU, dv=DECAY_UNITY)
            edges += [(last, windows), (windows, pool)]
            last = pool
        stride, padding = layer.stride, layer.padding
        nodes[link] = (
            Conv(layer.weight, stride=stride, padding=padding)
            if layer.is_conv
            else Dense(layer.weight)
        )
        nodes[name] = Neurons(layer.out_shape, vth=layer.vth, du=DU, dv=DV)
        edges += [(last, link), (link, name)]
        last, shape = name, layer.out_shape
    nodes["output"] = Output()
    return LoihiGraph(nodes, (*edges, (last, "output")))  # type: ignore[arg-type]


def check_maxima(graph: LoihiGraph, spikes: NDArray[np.uint8]) -> int:
    """Windows with a spike, after the largest of each window was compared with what its neuron sent."""
    trace = simulate(graph, spikes, record=("s",), n_threads=1)
    found = 0
    for name in (name for name in graph.neurons if name.startswith("m")):
        source = next(iter(graph.ends[link][0] for link in graph.incoming(name)))
        s = np.asarray(trace[source].s)
        steps, batch, channels, height, width = s.shape
        cut = (steps, batch, channels, height // POOL, POOL, width // POOL, POOL)
        largest = s.reshape(cut).max(axis=(4, 6))
        if not np.array_equal(largest, trace[name].s):
            raise SystemExit(f"{name}: spikes differ from the largest of its windows")
        found += int(largest.sum())
    return found


def rows(graphs: Mapping[str, LoihiGraph], spikes: NDArray[np.uint8], rounds: int) -> Rows:
    """Spikes, time and sample-steps per second of each network; the first one counts as 1."""
    sent = {
        name: sum(simulate(g, spikes, n_threads=1).n_spikes.values()) for name, g in graphs.items()
    }
    calls = {name: partial(simulate, graph, spikes, n_threads=1) for name, graph in graphs.items()}
    seconds = take_turns(calls, rounds, time.process_time)
    base = next(iter(graphs))
    sample_steps = spikes.shape[0] * spikes.shape[1]
    return [
        (
            name,
            f"{sent[name] / sent[base]:.2f}",
            f"{ratios(times, seconds[base]).middle:.2f}",
            f"{min(times) / min(seconds[base]):.2f}",
            f"{sample_steps / min(times):,.0f}",
        )
        for name, times in seconds.items()
    ]


def section(size: Size) -> Section:
    """Both tables."""
    return measure(size.of(2048, 8), size.of(15, 2))


def measure(samples: int, rounds: int) -> Section:
    """The tables of so many samples and rounds."""
    dense, conv = WORKLOADS["dense"](), WORKLOADS["conv"]()
    resets = {f"`{m.name}`": with_model(dense.graph(), m.name) for m in (CUBA_LIF, *RESET_MODELS)}
    pools = {FOLDED: conv.graph(), MAXIMUM: pooled_by_maximum(conv)}
    images = conv.spikes(conv.density, max(1, samples // 32))
    windows = check_maxima(pools[MAXIMUM], images[:, :8])
    added = sum(node.size for name, node in pools[MAXIMUM].neurons.items() if name.startswith("m"))
    before = sum(node.size for node in pools[FOLDED].neurons.values())
    spikes = dense.spikes(dense.density, samples)
    head = ("spikes", "time, median of rounds", "time, shortest", "sample-steps/s, shortest")
    text = "\n\n".join(
        (
            f"`python benchmarks/resets.py --samples {samples} --rounds {rounds}`: one thread, times of the "
            "processor. Spikes and times are those of the first row times the figure.",
            table(("dense net, 10% input", *head), rows(resets, spikes, rounds)),
            table(("conv net, 2% input", *head), rows(pools, images, rounds)),
            f"Pooling by maximum adds {added:,} to {before:,} neurons, and a step per pool.",
        )
    )
    equal = (
        f"pooling by maximum on {min(8, images.shape[1])} samples: its {windows:,} spikes are the largest of "
        "their windows, and it sends no other"
    )
    return Section("Resets and pooling by maximum", (), text, [equal])


def main() -> None:
    """Print the section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print(measure(options.samples, options.rounds).markdown())


if __name__ == "__main__":
    main()
