"""Evaluation on many processes: shards of a data set, on this machine or on a Ray cluster.

Shards are whole batches, and batches keep their numbers (which seed rate coding), so that the sums
equal those of a single process, spike by spike. Workers read graphs and samples from files: samples in
memory are written to a folder that is gone after the run, and mapped. Workers of a cluster that runs
already, perhaps on other machines, get both as bytes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from biril_nm._moved import renamed
from biril_nm.arguments import Count, Seed, checked
from biril_nm.coding import Coding
from biril_nm.data.labels import check_labels
from biril_nm.errors import BirilError, ConfigError
from biril_nm.evaluation.accuracy import (
    EvaluationOptions,
    GraphEvaluation,
    ShardCounts,
    evaluate_shard,
    single_readout,
)
from biril_nm.evaluation.workers import run_jobs, shares_disk
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage import map_npy, reports_full_disk, write_npy
from biril_nm.storage.platform import usable_cpus

if TYPE_CHECKING:
    from biril_nm.data import Split

__all__ = [
    "ArraySamples",
    "DataSetSamples",
    "MappedSamples",
    "Samples",
    "evaluate_graphs",
    "evaluate_sharded",
]


GRAPH_FILE = "graph.loihi.npz"
SHARDS_PER_WORKER = 4  # small shards even out busy samples, and lose less with a worker


@runtime_checkable
class Samples(Protocol):
    """Labelled samples, of which a worker can read a part."""

    def __len__(self) -> int:
        """Number of samples."""

    def part(self, start: int, stop: int) -> Samples:
        """These samples alone, to be sent to a worker."""

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """(values as the coding takes them, labels ``(n,)``)."""


@dataclass(frozen=True)
class DataSetSamples:
    """The test part of a data set by name; each worker reads it from its own disk.

    Attributes:
        name: as :func:`biril_nm.data.load_data` knows it.
        data_root: folder of the data sets, on every machine.
        seed: seed of the division.
        start: first sample.
        stop: sample after the last one.
    """

    name: str
    data_root: str | None
    seed: Seed
    start: int
    stop: int

    @staticmethod
    @checked
    def of(
        name: str, data_root: str | Path | None = None, seed: Seed = 0, samples: int | None = None
    ) -> DataSetSamples:
        """The first ``samples`` test samples (all by default)."""
        from biril_nm.data import load_data

        n = len(load_data(name, data_root, seed).test)
        root = None if data_root is None else str(data_root)
        return DataSetSamples(name, root, seed, 0, n if samples is None else min(samples, n))

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> DataSetSamples:
        """Some samples of the same files."""
        return replace(self, start=self.start + start, stop=min(self.start + stop, self.stop))

    def split(self) -> Split:
        """The whole test part."""
        from biril_nm.data import load_data

        return load_data(self.name, self.data_root, self.seed).test

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Samples and labels."""
        test, index = self.split(), slice(self.start, self.stop)
        return test.values(index), test.labels[index]


@checked
@dataclass(frozen=True)
class ArraySamples:
    """Samples in memory; a worker gets its part of them.

    Attributes:
        values: ``(n, *shape)``, or ``(n_steps, n, *shape)`` with ``axis=1``.
        labels: classes ``(n,)``.
        axis: of the samples: 1 where values hold every step (:meth:`biril_nm.coding.Coding.has_steps`).

    Raises:
        ConfigError: another number of labels than of samples.
    """

    values: NDArray[Any]
    labels: NDArray[Any]
    axis: int = 0

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if self.axis not in (0, 1) or len(shape) <= self.axis:
            raise ConfigError(
                f"axis is {self.axis} of values of shape {shape}; expected 0, or 1 for (n_steps, n, *shape)"
            )
        shown = f"samples in values of shape {shape} (axis={self.axis})"
        check_labels(self.labels, shape[self.axis], samples=shown)

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, stop: int) -> ArraySamples:
        """A slice of both arrays."""
        chosen = slice(start, stop)
        values = self.values[:, chosen] if self.axis else self.values[chosen]
        return ArraySamples(values, self.labels[chosen], self.axis)

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Samples and labels."""
        return self.values, self.labels


@dataclass(frozen=True)
class MappedSamples:
    """Samples in a folder of this machine, of which a worker maps its part.

    Attributes:
        folder: of ``values.npy`` and ``labels.npy``.
        axis: of the samples.
        start: first sample.
        stop: sample after the last one.
    """

    folder: str
    axis: int
    start: int
    stop: int

    @staticmethod
    def write(samples: ArraySamples, folder: str | Path) -> MappedSamples:
        """Write samples into a folder.

        Raises:
            StorageError: the disk is full.
        """
        home = Path(folder)
        with reports_full_disk(home / "values.npy"):
            write_npy(home / "values.npy", samples.values)
            write_npy(home / "labels.npy", samples.labels)
        return MappedSamples(str(home), samples.axis, 0, len(samples))

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> MappedSamples:
        """Some samples of the same files."""
        return replace(self, start=self.start + start, stop=min(self.start + stop, self.stop))

    def read(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Samples, mapped, and labels."""
        home, chosen = Path(self.folder), slice(self.start, self.stop)
        values, labels = map_npy(home / "values.npy"), map_npy(home / "labels.npy")
        return values[:, chosen] if self.axis else values[chosen], labels[chosen]


@dataclass(frozen=True)
class _Job:
    """One shard of one graph; plain data that can be sent to any process: the graph as file or bytes."""

    index: int
    graph: str | bytes
    samples: Samples
    coding: Coding
    options: EvaluationOptions
    first_batch: int


@checked
def evaluate_sharded(
    graph: LoihiGraph,
    samples: Samples,
    coding: Coding,
    n_workers: Count = 2,
    options: EvaluationOptions | None = None,
    cluster: bool = False,
    progress: Callable[[int], None] | None = None,
) -> GraphEvaluation:
    """Evaluate as :func:`biril_nm.evaluation.evaluate_graph`, on ``n_workers`` processes.

    The result is the same.

    Args:
        graph: the integer network.
        samples: labelled samples.
        coding: how values become chip input.
        n_workers: processes; they share the CPUs of this machine.
        options: engine, batch size and seed; shards are whole batches.
        cluster: run on Ray (``pip install "biril-nm[cluster]"``) instead of local processes.
        progress: called with the number of samples done.

    Raises:
        ConfigError: nothing to evaluate, or a worker refused its shard.
        WorkerError: a worker was killed, or no cluster answers.
        MissingDependencyError: ``cluster`` without Ray.
    """
    (found,) = evaluate_graphs([graph], samples, coding, n_workers, options, cluster, progress)
    return found


@checked
def evaluate_graphs(
    graphs: Sequence[LoihiGraph],
    samples: Samples,
    coding: Coding | Sequence[Coding],
    n_workers: Count = 2,
    options: EvaluationOptions | None = None,
    cluster: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[GraphEvaluation]:
    """Evaluate every graph on the same samples, with one set of workers for all shards.

    Arguments and errors are those of :func:`evaluate_sharded`; ``coding`` may also be one per graph,
    and ``progress`` counts samples over all graphs. ``seconds`` of a result sums the engine's time
    over its shards.
    """
    how = options or EvaluationOptions()
    codings = [coding] * len(graphs) if isinstance(coding, Coding) else list(coding)
    if len(codings) != len(graphs):
        raise ConfigError(
            f"{len(codings)} codings for {len(graphs)} graphs. Give one for each graph"
        )
    if n_workers < 1:
        raise ConfigError(f"n_workers is {n_workers}; expected at least 1")
    if len(samples) == 0:
        raise ConfigError("there are no samples to evaluate")
    for graph in graphs:
        single_readout(graph)
    how = replace(how, n_threads=1 if cluster else max(1, usable_cpus() // n_workers))
    found: list[ShardCounts | None] = [None] * len(graphs)
    done = 0
    with ExitStack() as stack:  # workers end before the files go
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="biril-eval-", ignore_cleanup_errors=True)
        )
        on_disk = shares_disk(cluster)
        given = [_stored(graph, Path(folder) / str(i), on_disk) for i, graph in enumerate(graphs)]
        if on_disk and isinstance(samples, ArraySamples) and not samples.values.dtype.hasobject:
            samples = MappedSamples.write(samples, folder)
        jobs = list(_jobs(given, samples, codings, n_workers, how))
        for result in stack.enter_context(closing(run_jobs(_work, jobs, n_workers, cluster))):
            index, counts = _counts(result)
            before = found[index]
            found[index] = counts if before is None else before + counts
            done += counts.n_samples
            if progress is not None:
                progress(done)
    return [counts.result(graph) for graph, counts in zip(graphs, found) if counts is not None]


def _jobs(
    graphs: Sequence[str | bytes],
    samples: Samples,
    codings: Sequence[Coding],
    n_workers: Count,
    options: EvaluationOptions,
) -> Iterator[_Job]:
    """Shards of whole batches, as even as possible, some for each worker."""
    size = options.batch_size
    n_batches = -(-len(samples) // size)
    n_shards = min(n_batches, SHARDS_PER_WORKER * n_workers)
    edges = [i * n_batches // n_shards for i in range(n_shards + 1)]
    for index, (graph, coding) in enumerate(zip(graphs, codings)):
        for first, last in pairwise(edges):
            part = samples.part(first * size, last * size)
            yield _Job(index, graph, part, coding, options, first)


def _stored(graph: LoihiGraph, folder: Path, on_disk: bool) -> str | bytes:
    """A graph for workers: its file in a new folder, or the bytes of that file."""
    folder.mkdir()
    path = folder / GRAPH_FILE
    graph.save(path)
    return str(path) if on_disk else path.read_bytes()


@lru_cache(maxsize=2)
def _graph(data: str | bytes) -> LoihiGraph:
    """A graph as a worker gets it; that of the job before is not read and compiled again."""
    if isinstance(data, str):
        return LoihiGraph.load(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / GRAPH_FILE
        path.write_bytes(data)
        return LoihiGraph.load(path)


def _work(job: _Job) -> tuple[int, ShardCounts | str]:
    """What a worker does; it returns an error as text, since not every error can be pickled."""
    try:
        values, labels = job.samples.read()
        counts = evaluate_shard(
            _graph(job.graph), values, labels, job.coding, job.options, first_batch=job.first_batch
        )
    except BirilError as error:
        return job.index, str(error)
    except (OSError, MemoryError) as error:
        return job.index, f"{type(error).__name__}: {error}"
    return job.index, counts


def _counts(result: tuple[int, ShardCounts | str]) -> tuple[int, ShardCounts]:
    index, counts = result
    if isinstance(counts, str):
        raise ConfigError(f"a worker could not evaluate its shard: {counts}")
    return index, counts


__getattr__ = renamed(
    __name__,
    {"ArraySource": ArraySamples, "DataSetSource": DataSetSamples, "Source": Samples},
)
