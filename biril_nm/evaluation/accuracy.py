"""Accuracy of an integer network on labelled data, on any engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import MAX_SEED, Count, Seed, checked
from biril_nm.coding import Coding
from biril_nm.data.labels import check_labels
from biril_nm.engines import Network, RunOptions, get_engine
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import predict, single_readout

__all__ = [
    "EvaluationOptions",
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


@checked
@dataclass(frozen=True)
class EvaluationOptions:
    """How samples are run.

    Attributes:
        backend: engine by name, of :func:`biril_nm.engines.available_engines`.
        batch_size: samples per run of the engine.
        seed: seed of rate coding; batch i uses ``seed + i``, as the torch evaluation does.
        n_threads: threads of the engine; None: all CPUs.
    """

    backend: str = "sim"
    batch_size: Count = 250
    seed: Seed = 0
    n_threads: Count | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; expected at least 1")


@checked
def evaluate_graph(
    graph: LoihiGraph | Network,
    values: NDArray[Any],
    labels: ArrayLike,
    coding: Coding,
    backend: str = "sim",
    batch_size: Count = 250,
    seed: Seed = 0,
    progress: Callable[[int], None] | None = None,
) -> GraphEvaluation:
    """Classify ``values`` and compare with ``labels``.

    Args:
        graph: the integer network; as a Network for engines that run its torch network.
        values: samples as ``coding`` takes them: ``(n, *shape)``, or ``(n_steps, n, *shape)`` where
            they hold every step.
        labels: classes ``(n,)``.
        coding: how values become chip input.
        backend: engine by name: ``"sim"``, ``"lava"``, ``"torch-int"`` or one of another package.
        batch_size: samples per run of the engine.
        seed: seed of rate coding; batch i uses ``seed + i``, as the torch evaluation does.
        progress: called with the number of samples done.

    Raises:
        ConfigError: no samples, labels that do not fit them, a graph without exactly one input and one
            output, an unknown engine, or one that cannot run this network.
        MissingDependencyError: a package that the engine needs is not installed.
    """
    network = graph if isinstance(graph, Network) else Network(graph)
    options = EvaluationOptions(backend, batch_size, seed)
    counts = evaluate_shard(network, values, labels, coding, options, progress=progress)
    return counts.result(network.graph)


@checked
def evaluate_shard(
    network: Network | LoihiGraph,
    values: NDArray[Any],
    labels: ArrayLike,
    coding: Coding,
    options: EvaluationOptions | None = None,
    first_batch: int = 0,
    progress: Callable[[int], None] | None = None,
) -> ShardCounts:
    """What :func:`evaluate_graph` counts, on samples that start at batch ``first_batch`` of the set.

    Raises:
        ConfigError: as :func:`evaluate_graph`.
        MissingDependencyError: as :func:`evaluate_graph`.
    """
    network = network if isinstance(network, Network) else Network(network)
    how, graph = options or EvaluationOptions(), network.graph
    readout, n_samples = single_readout(graph), coding.n_samples(values)
    shown = f"samples in values of shape {np.shape(values)} ({coding.kind} coding)"
    expected = check_labels(labels, n_samples, graph.neurons[readout].size, shown)
    if n_samples == 0:
        raise ConfigError("there are no samples to evaluate")
    engine = get_engine(how.backend)
    record = RunOptions(("s",), nodes=(readout,), n_threads=how.n_threads)
    right = n_steps = 0
    spikes: dict[str, int] = {}
    seconds = 0.0
    for index, start in enumerate(range(0, n_samples, how.batch_size), start=first_batch):
        part = slice(start, start + how.batch_size)
        message = coding.encode(coding.samples(values, part), (how.seed + index) & MAX_SEED)
        n_steps = len(message)
        began = time.perf_counter()
        recording = engine.run(network, message, record)
        seconds += time.perf_counter() - began
        right += int((predict(graph, recording) == expected[part]).sum())
        for name in (node for node in graph.neurons if node in recording.n_spikes):
            spikes[name] = spikes.get(name, 0) + recording.n_spikes[name]
        if progress is not None:
            progress(min(part.stop, n_samples))
    return ShardCounts(right, n_samples, n_steps, spikes, seconds)
