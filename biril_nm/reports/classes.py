"""Classes: what labelled samples were taken for, and the samples that went worst."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import MAX_SEED
from biril_nm.coding import Coding
from biril_nm.export.report.page import Image, Section, Table
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import class_scores, single_readout
from biril_nm.reports.pictures import confusion_png, samples_png

__all__ = ["Classes", "Labelled", "Sample", "classes_of", "classes_section", "worst_section"]

BATCH = 250
WORST = 8
ROWS = 20  # classes of the table


@dataclass(frozen=True)
class Labelled:
    """Samples with labels, as a coding takes them.

    Attributes:
        values: ``(n, *shape)`` or ``(n_steps, n, *shape)``.
        labels: classes ``(n,)``.
        coding: how values become chip input.
        seed: of rate coding; batch i uses ``seed + i``.
    """

    values: NDArray[Any]
    labels: NDArray[np.int64]
    coding: Coding
    seed: int = 0

    def head(self, n: int) -> Labelled:
        """The first ``n`` samples."""
        return Labelled(
            self.coding.samples(self.values, slice(n)), self.labels[:n], self.coding, self.seed
        )

    def messages(self, index: int) -> NDArray[np.int32]:
        """Chip input of batch ``index``."""
        part = slice(index * BATCH, (index + 1) * BATCH)
        return self.coding.encode(
            self.coding.samples(self.values, part), (self.seed + index) & MAX_SEED
        )


@dataclass(frozen=True)
class Sample:
    """One sample that went badly.

    Attributes:
        index: its place.
        label: its class.
        predicted: what it was taken for.
        margin: score of its class less the best other one; below 0 where it was wrong.
    """

    index: int
    label: int
    predicted: int
    margin: float


@dataclass(frozen=True)
class Classes:
    """Predictions of the integers on labelled samples.

    Attributes:
        accuracy: share of right predictions.
        confusion: samples of class i that were taken for class j, ``(n_classes, n_classes)``.
        worst: the samples of the lowest margin, worst first.
    """

    accuracy: float
    confusion: NDArray[np.int64]
    worst: tuple[Sample, ...]


def classes_of(graph: LoihiGraph, samples: Labelled) -> Classes:
    """Run all samples and sort them by margin."""
    readout = single_readout(graph)

    def scores(index: int) -> NDArray[Any]:
        run = simulate(graph, samples.messages(index), record=("s",), nodes=(readout,))
        return class_scores(graph, run)

    return _judged(samples.labels, scores)


def _judged(labels: NDArray[np.int64], scores: Callable[[int], NDArray[Any]]) -> Classes:
    found = np.concatenate([scores(i) for i in range(-(-len(labels) // BATCH))])
    rows = np.arange(len(labels))
    predicted = found.argmax(axis=1)
    n_classes = found.shape[1]
    confusion = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    others = np.array(found, dtype=np.float64)
    others[rows, labels] = -np.inf
    own = found[rows, labels]
    margin = own - others.max(axis=1) if n_classes > 1 else own
    order = np.lexsort((margin, predicted == labels))[:WORST]
    worst = [Sample(int(i), int(labels[i]), int(predicted[i]), float(margin[i])) for i in order]
    return Classes(float(np.mean(predicted == labels)), confusion, tuple(worst))


def classes_section(found: Classes, note: str) -> Section:
    """The confusion matrix, and the classes that are recognised worst."""
    confusion, totals = found.confusion, found.confusion.sum(axis=1)
    wrong = confusion - np.diag(np.diag(confusion))
    shares = np.diag(confusion) / np.maximum(totals, 1)
    order = [int(i) for i in np.argsort(shares, kind="stable") if totals[i]][:ROWS]
    rows = [
        (
            str(i),
            f"{totals[i]:,}",
            f"{shares[i]:.2%}",
            f"{wrong[i].argmax()} ({wrong[i].max():,})" if wrong[i].any() else "-",
            float(shares[i]),
        )
        for i in order
    ]
    return Section(
        "Classes",
        f"What the integers took each sample for: {note}, {found.accuracy:.2%} right.",
        images=(Image("confusion matrix", confusion_png(confusion), rem=28),),
        tables=(Table(("class", "samples", "right", "most often wrong as", ""), rows),),
    )


def worst_section(samples: Labelled, found: Classes, floats: NDArray[Any] | None) -> Section:
    """The samples of the lowest margin, with a picture of their input.

    Args:
        samples: all of them.
        found: what became of them.
        floats: what the float network takes the worst for, if there is one.
    """
    header = ["sample", "class", "taken for", "margin"] + ["float network"] * (floats is not None)
    rows = [
        (str(w.index), str(w.label), str(w.predicted), f"{w.margin:.3g}")
        + (() if floats is None else (str(int(floats[place])),))
        for place, w in enumerate(found.worst)
    ]
    titles = [f"{w.index}: {w.label} as {w.predicted}" for w in found.worst]
    return Section(
        "Worst samples",
        "Samples whose class has the lowest score against the best other class; below 0 it lost.",
        images=(
            Image("input of the worst samples", samples_png(worst_input(samples, found), titles)),
        ),
        tables=(Table(header, rows),),
        remarks=(
            "A picture shows the sum of the input over the steps; of other input, each step.",
        ),
    )


def worst_input(samples: Labelled, found: Classes) -> NDArray[np.int32]:
    """Chip input of the worst samples, ``(n_steps, n, *shape)``."""
    parts = []
    for worst in found.worst:
        batch, place = divmod(worst.index, BATCH)
        parts.append(samples.messages(batch)[:, place])
    return np.stack(parts, axis=1)
