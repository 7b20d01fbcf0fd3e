"""Accuracy of an integer network on labelled data, on the simulator or on Lava."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.coding import Coding, predictions
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph

__all__ = [
    "GraphEvaluation",
    "ShardCounts",
    "evaluate_graph",
    "evaluate_shard",
    "predict",
    "single_readout",
]


@dataclass(frozen=True)
class GraphEvaluation:
    """Result of :func:`evaluate_graph`.

    Attributes:
        accuracy: share of right predictions, 0..1.
        n_samples: number of samples.
        firing_rates: node -> spikes per neuron and step.
        seconds: wall time of the engine.
    """

    accuracy: float
    n_samples: int
    firing_rates: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class ShardCounts:
    """Integer sums over some samples; they add up to those of all samples.

    Attributes:
        right: samples with the right prediction.
        n_samples: samples.
        n_steps: steps per sample.
        spikes: node -> spikes.
        seconds: time of the engine.
    """

    right: int
    n_samples: int
    n_steps: int
    spikes: Mapping[str, int]
    seconds: float

    def __add__(self, other: ShardCounts) -> ShardCounts:
        """Both shards together."""
        return ShardCounts(
            self.right + other.right,
            self.n_samples + other.n_samples,
            self.n_steps,
            {name: n + other.spikes[name] for name, n in self.spikes.items()},
            self.seconds + other.seconds,
        )

    def result(self, graph: LoihiGraph) -> GraphEvaluation:
        """Accuracy and rates."""
        cells = self.n_samples * self.n_steps
        rates = {name: n / (cells * graph.neurons[name].size) for name, n in self.spikes.items()}
        return GraphEvaluation(self.right / self.n_samples, self.n_samples, rates, self.seconds)


def _run(graph: LoihiGraph, spikes: Any, backend: str, readout: str, n_threads: int | None) -> Any:
    if backend == "sim":
        from biril_nm.hardware_sim import simulate

        return simulate(graph, spikes, record=("s",), nodes=(readout,), n_threads=n_threads)
    if backend == "lava":
        from biril_nm.export.lava.backend import run_lava

        return run_lava(graph, spikes, record=("s",), nodes=(readout,))
    raise ConfigError(f"back end '{backend}' cannot run an integer graph; allowed: sim, lava")


def single_readout(graph: LoihiGraph) -> str:
    """Name of the Neurons node that classifies.

    Raises:
        ConfigError: not exactly one input and one output.
    """
    driving = [name for name in graph.inputs if name not in graph.modulator_inputs]
    if len(graph.outputs) != 1 or len(driving) != 1:
        raise ConfigError(
            f"classification needs one input and one output; the graph has inputs "
            f"{', '.join(driving)} and outputs {', '.join(graph.outputs) or 'none'}"
        )
    return next(iter(graph.outputs.values()))


def predict(graph: LoihiGraph, trace: Any) -> NDArray[np.int64]:
    """Predicted class of each sample of a trace that holds the read-out's spikes. Shape (batch,)."""
    readout = single_readout(graph)
    spikes = np.asarray(trace[readout].s)
    flat = spikes.reshape(*spikes.shape[:2], -1)
    v_last = trace.v_last[readout].reshape(flat.shape[1], -1)
    return predictions(flat, v_last, np.asarray(graph.neurons[readout].vth).reshape(-1))


def evaluate_graph(
    graph: LoihiGraph,
    values: NDArray[Any],
    labels: ArrayLike,
    coding: Coding,
    backend: str = "sim",
    batch_size: int = 250,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> GraphEvaluation:
    """Classify ``values`` and compare with ``labels``.

    Args:
        graph: the integer network.
        values: samples in 0..1, ``(n, *shape)``.
        labels: classes ``(n,)``.
        coding: how values become chip input.
        backend: ``"sim"`` or ``"lava"``.
        batch_size: samples per run of the engine.
        seed: seed of rate coding; batch i uses ``seed + i``, as the torch evaluation does.
        progress: called with the number of samples done.

    Raises:
        ConfigError: no samples, or a graph without exactly one input and one output.
    """
    counts = evaluate_shard(
        graph, values, labels, coding, backend, batch_size, seed, progress=progress
    )
    return counts.result(graph)


def evaluate_shard(
    graph: LoihiGraph,
    values: NDArray[Any],
    labels: ArrayLike,
    coding: Coding,
    backend: str = "sim",
    batch_size: int = 250,
    seed: int = 0,
    first_batch: int = 0,
    n_threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> ShardCounts:
    """What :func:`evaluate_graph` counts, on samples that start at batch ``first_batch`` of the set.

    Raises:
        ConfigError: no samples, or a graph without exactly one input and one output.
    """
    readout, wanted = single_readout(graph), np.asarray(labels)
    if len(wanted) == 0:
        raise ConfigError("there are no samples to evaluate")
    right = 0
    spikes = dict.fromkeys(graph.neurons, 0)
    seconds = 0.0
    for index, start in enumerate(range(0, len(wanted), batch_size), start=first_batch):
        message = coding.encode(values[start : start + batch_size], seed + index)
        began = time.perf_counter()
        trace = _run(graph, message, backend, readout, n_threads)
        seconds += time.perf_counter() - began
        right += int((predict(graph, trace) == wanted[start : start + batch_size]).sum())
        for name, count in trace.n_spikes.items():
            spikes[name] += count
        if progress is not None:
            progress(min(start + batch_size, len(wanted)))
    return ShardCounts(right, len(wanted), coding.n_steps, spikes, seconds)
