"""The whole network keeps learning in a changed world, against its readout alone, on the chip's integers.

A network that learned deep on the chip (:mod:`biril_nm.onchip`) meets images that are shifted
(:mod:`biril_nm.data.shifts`). It goes on learning, with what teaches it, from a few labelled samples per
class, all its layers or the readout alone, and is then tested on both worlds: what it gained, what it forgot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, Seed, checked
from biril_nm.arrays import Array
from biril_nm.coding import grey_values, regular_spikes
from biril_nm.data import DataSet, Shift
from biril_nm.hardware_sim import Simulator
from biril_nm.hw_graph import LoihiGraph
from biril_nm.onchip import (
    DeepConfig,
    SpikeSamples,
    accuracy,
    halved_impulse,
    learned_layers,
    lessons,
)
from biril_nm.onchip.network import Halvings
from biril_nm.studies.adaptation import samples_per_class

__all__ = ["ContinualPlan", "Continued", "continue_learning", "shifted"]


@checked
@dataclass(frozen=True)
class ContinualPlan:
    """How a network learns on.

    Attributes:
        per_class: samples per class of the changed world.
        replays: how often each is shown.
        halvings: of the impulses of y2 and y3 that the network began to learn with.
        seed: of noise, dead lines, and choice and order of samples.
    """

    per_class: Count = 10
    replays: Count = 5
    halvings: Halvings = 1
    seed: Seed = 0


@dataclass(frozen=True)
class Continued:
    """Accuracies 0..1 of one network in a changed world.

    Attributes:
        shift: name of the change.
        per_class: samples per class that were learned from.
        before: in the world of training, before.
        frozen: in the changed world, without learning.
        readout, all_layers: in the changed world, after the readout or all layers learned.
        readout_old, all_layers_old: in the world of training, after that.
    """

    shift: str
    per_class: int
    before: float
    frozen: float
    readout: float
    all_layers: float
    readout_old: float
    all_layers_old: float


@checked
def shifted(
    images: NDArray[Any],
    labels: NDArray[Any],
    n_steps: Count,
    shift: Shift | None,
    seed: Seed,
    draw: Seed,
) -> SpikeSamples:
    """Images in 0..1 as the chip receives them, seen through a change."""
    values = images if shift is None else shift(images, seed, draw)
    grey = grey_values(np.asarray(values, np.float32))
    return SpikeSamples(
        labels, grey.shape[1:], n_steps, lambda rows: regular_spikes(grey[rows], n_steps)
    )


@checked
def continue_learning(
    graph: LoihiGraph,
    state: Mapping[str, Any],
    data: DataSet,
    shift: Shift,
    config: DeepConfig,
    plan: ContinualPlan | None = None,
) -> Continued:
    """One network, one change: it learns from a few samples of the changed world.

    Args:
        graph: the network as it was made (:func:`biril_nm.onchip.dfa_network`).
        state: of the session that learned (``Simulator.state``).
        data: training part to adapt from, test part to measure on.
        shift: the change.
        config: settings of the network.
        plan: how it learns on.

    Raises:
        ConfigError: a state of another network, or fewer samples of a class than asked for.
    """
    how = plan or ContinualPlan()
    seed = how.seed
    rows = samples_per_class(data.train.labels, how.per_class, data.n_classes, seed)
    few = shifted(data.train.values(rows), data.train.labels[rows], config.n_steps, shift, seed, 0)
    values, labels = data.test.values(), data.test.labels
    old = shifted(values, labels, config.n_steps, None, seed, 1)
    new = shifted(values, labels, config.n_steps, shift, seed, 1)
    random = np.random.default_rng([seed, 3])
    order = np.concatenate([random.permutation(len(rows)) for _ in range(how.replays)])

    def learned(freeze: bool, some: Array) -> LoihiGraph:
        session = Simulator(graph, learn=True, sample_steps=config.n_steps)
        session.load_state(state)
        for name in graph.plastic:
            hidden = graph.ends[name][1] != "out"
            trace = config.rule(hidden).trace("y2")
            impulse = 0 if hidden and freeze else halved_impulse(trace, how.halvings)
            session.set_impulses(name, {"y2": impulse, "y3": impulse})
        window = config.teaching_steps(sum(n.startswith("fc") for n in graph.connections) - 1)
        given = lessons(few.spikes(some), few.labels[some], data.n_classes, window)
        session.run(session.in_chip_time(given), record=())
        return learned_layers(session.graph)

    session = Simulator(graph, learn=True, sample_steps=config.n_steps)
    session.load_state(state)
    start = learned_layers(session.graph)
    readout, everything = learned(True, order), learned(False, order)
    return Continued(
        shift=shift.name,
        per_class=how.per_class,
        before=accuracy(start, old),
        frozen=accuracy(start, new),
        readout=accuracy(readout, new),
        all_layers=accuracy(everything, new),
        readout_old=accuracy(readout, old),
        all_layers_old=accuracy(everything, old),
    )
