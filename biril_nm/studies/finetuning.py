"""Finetune the readout of an integer network on the chip: how fast, how often and whether at all.

The rule and its graph are those of :mod:`biril_nm.studies.readout`; what is best on held-out samples is
chosen (:mod:`biril_nm.studies.validation`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biril_nm.arguments import Seed, checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.inputs import check_arrays, driving_inputs, single_input
from biril_nm.hw_graph.metadata import rounding_of
from biril_nm.loihi.fixed_point import weight_limits
from biril_nm.recording.readout import decision_of, predict
from biril_nm.studies.readout import (
    MAX_HALVINGS,
    DeltaConfig,
    dense_of,
    frozen,
    labels_of,
    plastic_readout,
    readout_connection,
    stream,
)
from biril_nm.studies.validation import (
    Adapted,
    Fold,
    Tried,
    choose,
    folds_of,
    pass_marks,
    share_at_limits,
)

__all__ = ["adapt", "finetune"]

SLOWER = 2  # halvings more of the second rate that is tried
PATIENCE = 2  # looks without a gain before a rate is given up


@checked
def finetune(
    graph: LoihiGraph,
    spikes: NDArray[Any],
    labels: ArrayLike,
    config: DeltaConfig | None = None,
    seed: Seed = 0,
) -> LoihiGraph:
    """The network of :func:`adapt`, without what it tried."""
    return adapt(graph, spikes, labels, config, seed)[0]


@checked
def adapt(
    graph: LoihiGraph,
    spikes: NDArray[Any],
    labels: ArrayLike,
    config: DeltaConfig | None = None,
    seed: Seed = 0,
) -> tuple[LoihiGraph, Adapted]:
    """Learn the readout from a few labelled samples, where that helps.

    The layers below do not change, so that their answer to each sample is computed once and
    streamed into the readout in random order. Held-out samples choose how fast and how often; then
    all samples are learned in one stream. Where learning is no better than the frozen network by
    more than noise, the weights stay as they are.

    Args:
        graph: a network with one Dense readout.
        spikes: chip input ``(n_steps, batch, *shape)``.
        labels: ``(batch,)``.
        config: settings.
        seed: of the order of samples, the samples that are held out, and the random streams.

    Returns:
        The network with the new weights, and what was tried; ``print(tried.summary())`` says which
        setting to change.

    Raises:
        ConfigError: spikes or labels that do not fit, or see :func:`readout_connection`.
    """
    name = readout_connection(graph)
    source, output = graph.ends[name]
    spikes = check_arrays({one: graph.inputs[one] for one in driving_inputs(graph)}, spikes)[
        single_input(graph)
    ]
    known = labels_of(spikes, labels, graph.neurons[output].size)
    features = spikes
    if source in graph.neurons:
        features = np.asarray(simulate(graph, spikes, nodes=(source,))[source].s)
    how = (config or DeltaConfig()).for_steps(len(features))
    lesson = Lesson(_head(graph, name), name, features, known, seed)
    found = _validated(lesson, how) if how.validate else None
    chosen = found.chosen if found else Tried(how.halvings or 0, how.passes(len(known)))
    weight = dense_of(lesson.head, name).weight
    if chosen.passes:
        weight = lesson.learned(replace(how, halvings=chosen.halvings), chosen.passes)
    right = lesson.right(lesson.head.with_node(name, weight=weight), np.arange(len(known)))
    found = found or Adapted(replace(chosen, right=right), lesson.frozen(), (), False)
    limits = weight_limits(dense_of(graph, name).sign_mode)
    found = replace(found, given=float(right.mean()), saturated=share_at_limits(weight, *limits))
    return graph.with_node(name, weight=weight), found


def _validated(lesson: Lesson, how: DeltaConfig) -> Adapted:
    """Two rates after 1, 2, 4, ... passes on held-out samples, and the best of them.

    A rate is given up after :data:`PATIENCE` looks without a gain over all folds together.
    """
    folds = folds_of(lesson.labels, lesson.seed)
    frozen = Tried(0, 0, np.concatenate([lesson.right(lesson.head, fold.held) for fold in folds]))
    marks = pass_marks(how.passes(len(lesson.labels)))
    first = how.halvings or 0
    tried: list[Tried] = []
    for halvings in sorted({first, min(MAX_HALVINGS, first + SLOWER)}):
        slowed = replace(how, halvings=halvings)
        found: list[Tried] = []
        for mark, rights in zip(marks, zip(*(lesson.looks(slowed, each, marks) for each in folds))):
            found.append(Tried(halvings, mark, np.concatenate(rights)))
            scores = [int(each.right.sum()) for each in found]
            if len(scores) > PATIENCE and max(scores[-PATIENCE:]) <= max(scores[:-PATIENCE]):
                break
        tried += found
    held_out = folds[0].held_out
    return Adapted(choose(frozen, tried, held_out), frozen, tuple(tried), held_out)


@dataclass(frozen=True)
class Lesson:
    """A readout alone, the spikes that reach it, and their labels."""

    head: LoihiGraph
    name: str
    features: NDArray[Any]
    labels: NDArray[np.int64]
    seed: int

    def right(self, head: LoihiGraph, some: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of some samples is classified right."""
        recording = simulate(head, self.features[:, some])
        return np.asarray(predict(head, recording) == self.labels[some])

    def frozen(self) -> Tried:
        """The network without learning, on all samples."""
        return Tried(0, 0, self.right(self.head, np.arange(len(self.labels))))

    def given(self, plastic: LoihiGraph, order: NDArray[Any], how: DeltaConfig) -> dict[str, Any]:
        """Samples in an order, and their target spikes."""
        return stream(plastic, self.features[:, order], self.labels[order], how)

    def learned(self, how: DeltaConfig, passes: int) -> NDArray[Any]:
        """Weights after all samples in one stream."""
        random = np.random.default_rng([self.seed, 0])
        order = np.concatenate([random.permutation(len(self.labels)) for _ in range(passes)])
        plastic = plastic_readout(self.head, how, self.seed)
        graph = simulate(plastic, self.given(plastic, order, how), record=(), learn=True).graph
        if graph is None:
            raise ConfigError(f"connection '{self.name}' did not learn")
        return dense_of(frozen(graph), self.name).weight

    def looks(self, how: DeltaConfig, fold: Fold, marks: list[int]) -> Iterator[NDArray[np.bool_]]:
        """Right predictions on held-out samples after so many passes."""
        random = np.random.default_rng([self.seed, 0])
        plastic = plastic_readout(self.head, how, self.seed)
        session = Simulator(plastic, learn=True, sample_steps=len(self.features))
        for before, mark in zip([0, *marks], marks):
            order = np.concatenate(
                [fold.known[random.permutation(len(fold.known))] for _ in range(mark - before)]
            )
            session.run(session.in_chip_time(self.given(plastic, order, how)), record=())
            yield self.right(frozen(session.graph), fold.held)


def _head(graph: LoihiGraph, name: str) -> LoihiGraph:
    """The readout alone, fed by spikes of the layer below."""
    source, output = graph.ends[name]
    nodes: Mapping[str, Input | Dense | Neurons | Output] = {
        source: graph.inputs.get(source, Input(graph.shape_of(source))),
        name: replace(dense_of(graph, name), delay=0),
        output: graph.neurons[output],
        "output": Output(),
    }
    edges = ((source, name), (name, output), (output, "output"))
    metadata = {"decision": decision_of(graph), "rounding": rounding_of(graph.metadata)}
    return LoihiGraph(nodes, edges, metadata)
