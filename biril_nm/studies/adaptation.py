"""Adaptation on the chip: what a few labelled samples of a changed world are worth.

For one network, one change and one seed: accuracy before, after the change with frozen weights, and
after the readout learned on the chip from 1, 10, 100 samples per class of the changed world. Two
references: the same learning from nothing on a network with random features, and a ridge readout
in floating point on the network's own features and the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, Seed, checked
from biril_nm.coding import Coding
from biril_nm.data import DataSet, Shift
from biril_nm.data.labels import check_labels
from biril_nm.errors import ConfigError, MissingDependencyError
from biril_nm.evaluation.accuracy import evaluate_graph
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.storage.signals import UNINTERRUPTED
from biril_nm.studies.finetuning import finetune
from biril_nm.studies.readout import DeltaConfig, fresh_readout, readout_connection
from biril_nm.studies.ridge import fit_ridge

__all__ = ["Adaptation", "measure_adaptation", "plot_adaptation", "samples_per_class"]


@dataclass(frozen=True)
class Adaptation:
    """Accuracies 0..1 of one run; sequences go with ``counts``.

    Attributes:
        shift: name of the change.
        seed: of the run.
        counts: samples per class that were learned from.
        before: in the world of training.
        frozen: in the changed world, without learning.
        learned: in the changed world, readout learned on the chip from the trained one.
        random: the same from nothing, on random features.
        ridge: ridge readout on the trained features, in floating point.
    """

    shift: str
    seed: Seed
    counts: tuple[int, ...]
    before: float
    frozen: float
    learned: tuple[float, ...]
    random: tuple[float, ...]
    ridge: tuple[float, ...]

    def recovered(self, index: int) -> float:
        """Share of the lost accuracy that learning gave back."""
        lost = self.before - self.frozen
        return (self.learned[index] - self.frozen) / lost if lost else 0.0


@checked
def samples_per_class(
    labels: NDArray[np.int64], per_class: Count, n_classes: Count, seed: Seed
) -> NDArray[np.int64]:
    """Indices of ``per_class`` random samples of each class; larger sets hold the smaller ones.

    Raises:
        ConfigError: a class has fewer samples, or labels that are not classes.
    """
    labels = check_labels(labels, np.size(labels), n_classes)
    chosen = []
    for label in range(n_classes):
        of_class = np.flatnonzero(labels == label)
        if len(of_class) < per_class:
            raise ConfigError(
                f"class {label} has {len(of_class)} samples; expected {per_class}. Use fewer per "
                f"class, or more data"
            )
        order = np.random.default_rng([seed, label]).permutation(len(of_class))
        chosen.append(of_class[order[:per_class]])
    return np.concatenate(chosen)


@checked
def measure_adaptation(
    graph: LoihiGraph,
    random_graph: LoihiGraph,
    data: DataSet,
    coding: Coding,
    shift: Shift,
    counts: Sequence[int] = (1, 10, 100),
    seed: Seed = 0,
    config: DeltaConfig | None = None,
) -> Adaptation:
    """Run one adaptation experiment.

    Args:
        graph: the trained network; never changed.
        random_graph: one of the same shape whose features were not trained.
        data: training part to adapt from, test part to measure on.
        coding: how values become chip input.
        shift: the change.
        counts: samples per class.
        seed: of noise, dead lines, choice and order of samples, and random streams.
        config: settings of learning.

    Raises:
        ConfigError: fewer samples of a class than asked for.
    """
    clean, labels = data.test.values(), data.test.labels
    changed = shift(clean, seed, draw=1)
    index = samples_per_class(data.train.labels, max(counts), data.n_classes, seed)
    values = shift(data.train.values(index), seed, draw=0)
    spikes = coding.encode(values, seed)
    ranks = np.tile(np.arange(max(counts)), data.n_classes)

    def score(network: LoihiGraph, images: NDArray[Any]) -> float:
        return evaluate_graph(network, images, labels, coding, seed=seed).accuracy

    fresh = fresh_readout(random_graph)
    learned, random, ridge = [], [], []
    counted = [_spike_counts(graph, coding.encode(part, seed)) for part in (values, changed)]
    for count in counts:
        few = np.flatnonzero(ranks < count)
        known = data.train.labels[index[few]]
        learned.append(score(finetune(graph, spikes[:, few], known, config, seed), changed))
        random.append(score(finetune(fresh, spikes[:, few], known, config, seed), changed))
        readout = fit_ridge(counted[0][few], known, data.n_classes)
        ridge.append(readout.accuracy(counted[1], labels))
    return Adaptation(
        shift=shift.name,
        seed=seed,
        counts=tuple(counts),
        before=score(graph, clean),
        frozen=score(graph, changed),
        learned=tuple(learned),
        random=tuple(random),
        ridge=tuple(ridge),
    )


def _spike_counts(graph: LoihiGraph, spikes: NDArray[Any]) -> NDArray[np.float32]:
    """Spikes per sample of each neuron below the readout."""
    source = graph.ends[readout_connection(graph)][0]
    counts = np.asarray(simulate(graph, spikes, nodes=(source,))[source].s).sum(axis=0)
    return np.asarray(counts.reshape(len(counts), -1), dtype=np.float32)


@checked
def plot_adaptation(results: Mapping[str, Sequence[Adaptation]], path: str | Path) -> None:
    """Draw one panel per change: accuracy over samples per class, mean and range of the runs.

    Args:
        results: runs by name of the change, at least one each.
        path: picture to write; its suffix says the format.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "report", "draw the result") from error
    figure = Figure(figsize=(3 * len(results), 2.8))
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (name, runs) in zip(panels, results.items()):
        for field, style in (("learned", "o-"), ("random", "s--"), ("ridge", "^:")):
            y = 100 * np.array([getattr(run, field) for run in runs])
            axes.plot(runs[0].counts, y.mean(axis=0), style, ms=4, label=field)
            axes.fill_between(runs[0].counts, y.min(axis=0), y.max(axis=0), alpha=0.2)
        for field, color in (("before", "0.2"), ("frozen", "0.6")):
            mean = 100 * float(np.mean([getattr(run, field) for run in runs]))
            axes.axhline(mean, color=color, label=field)
        axes.set(xscale="log", xlabel="samples per class", title=name, ylim=(0, 100))
    panels[0].set_ylabel("accuracy, %")
    panels[0].legend(fontsize=7)
    with UNINTERRUPTED:  # matplotlib crashes, or loses the exception
        figure.tight_layout()
        figure.savefig(path, dpi=90)
