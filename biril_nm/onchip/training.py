"""Learning on the chip, sample by sample: one stream, an accuracy curve, and a state to go on from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import Count, Seed, checked
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim import Simulator, simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.onchip.lessons import SpikeSamples, lessons
from biril_nm.onchip.network import DeepConfig, dfa_network, halved_impulse
from biril_nm.onchip.state import RunFolder
from biril_nm.onchip.weights import learned_layers
from biril_nm.recording.readout import predict

__all__ = ["ChipPlan", "ChipResult", "accuracy", "learn_on_chip"]

CHUNK = 500  # samples that are spikes at a time
SAVE = 2000  # samples between two states on disk
TEST_BATCH = 500
Record = dict[str, Any]


@checked
@dataclass(frozen=True)
class ChipPlan:
    """What :func:`learn_on_chip` does.

    Attributes:
        hidden: neurons of each hidden layer.
        passes: how often each sample is shown.
        halve: when the host halves the impulses of y2 and y3, and so the learning rate, in passes.
        every: samples between two points of the accuracy curve, on validation samples.
        seed: of weights, random streams and the order of samples.
        config: settings of the network.
    """

    hidden: tuple[int, ...] = (300,)
    passes: Count = 1
    halve: tuple[float, ...] = (0.75, 1.5)
    every: Count = 10_000
    seed: Seed = 0
    config: DeepConfig = field(default_factory=DeepConfig)

    def __post_init__(self) -> None:
        if self.passes < 1 or self.every < 1:
            raise ConfigError(
                f"passes is {self.passes} and every {self.every}; expected at least 1 of both"
            )
        if not all(0 < each < math.inf for each in self.halve):
            raise ConfigError(f"halve is {self.halve}; expected numbers of passes above 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON gives them back."""
        return dict(json.loads(json.dumps(asdict(self))))


@dataclass(frozen=True)
class ChipResult:
    """What was learned.

    Attributes:
        graph: the network with all that teaches it; it can learn on.
        layers: its layers alone (:func:`biril_nm.onchip.learned_layers`).
        records: points of the accuracy curve.
    """

    graph: LoihiGraph
    layers: LoihiGraph
    records: tuple[Record, ...]


@checked
def accuracy(layers: LoihiGraph, samples: SpikeSamples) -> float:
    """Share of samples that :func:`biril_nm.onchip.learned_layers` classify as they should."""
    right = 0
    for start in range(0, len(samples), TEST_BATCH):
        rows = np.arange(start, min(start + TEST_BATCH, len(samples)))
        found = simulate(layers, samples.spikes(rows), nodes=("out",))
        right += int((predict(layers, found) == samples.labels[rows]).sum())
    return right / len(samples)


@checked
def learn_on_chip(
    train: SpikeSamples,
    test: SpikeSamples | None = None,
    validation: SpikeSamples | None = None,
    plan: ChipPlan | None = None,
    n_classes: Count | None = None,
    folder: RunFolder | None = None,
    progress: Callable[[Record], None] | None = None,
) -> ChipResult:
    """A network learns deep from labelled samples, one at a time, on the chip's integers.

    Every chunk of samples continues the same stream, so that where it is cut, or where a run was killed and
    resumed, changes no bit.

    Args:
        train: samples to learn from.
        test: measured after each pass; never chosen by.
        validation: measured every ``plan.every`` samples.
        plan: settings.
        n_classes: classes; by default those that occur in ``train``.
        folder: where states, curve and graphs go; a state that is there is continued from.
        progress: called with each point of the curve, and with each chunk ("samples" alone).

    Raises:
        ConfigError: samples, plan and folder that do not fit each other.
    """
    plan = plan or ChipPlan()
    parts = {"train": train, "test": test, "validation": validation}
    run = _Run(train, plan, n_classes or int(train.labels.max()) + 1, parts)
    records: list[Record] = []
    if folder is not None:
        records = folder.begin(plan.to_dict(), run.identity(), run.session.load_state)
    run.find_place()
    spent, first = 0.0, run.session_done  # seconds of learning alone
    while run.session_done < run.total:
        began = time.perf_counter()
        run.go_on()
        spent += time.perf_counter() - began
        done = run.session_done
        if progress is not None:
            progress({"samples": done, "of": run.total})
        if run.at_point():
            record = run.record(test, validation)
            record["samples_per_s"] = round((done - first) / spent, 1)
            records.append(record)
            if progress is not None:
                progress(record)
        if folder is not None and (run.at_point() or done % SAVE == 0):
            folder.save(run.session.state, records)
    graph = run.session.graph
    result = ChipResult(graph, learned_layers(graph), tuple(records))
    if folder is not None:
        folder.finish(result.graph, result.layers)
    return result


class _Run:
    """The session, and where in the passes it is."""

    def __init__(
        self,
        train: SpikeSamples,
        plan: ChipPlan,
        n_classes: int,
        parts: Mapping[str, SpikeSamples | None],
    ) -> None:
        self._parts = parts
        self._train, self._plan, self._n_classes = train, plan, n_classes
        sizes = (int(np.prod(train.shape)), *plan.hidden, n_classes)
        if train.n_steps != plan.config.n_steps:
            raise ConfigError(
                f"the samples have {train.n_steps} steps; expected {plan.config.n_steps}, those of the plan. "
                f"Set n_steps"
            )
        graph = dfa_network(sizes, plan.config, plan.seed, train.shape)
        self.session = Simulator(graph, learn=True, sample_steps=plan.config.n_steps)
        self.period = graph.sample_period(plan.config.n_steps)
        self.total = plan.passes * len(train)
        self.session_done, self._halvings = 0, -1
        self._rates = {
            name: node.rule.trace("y2")
            for name, node in graph.plastic.items()
            if node.rule is not None
        }
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))
        self._window = plan.config.teaching_steps(len(plan.hidden))

    def identity(self) -> dict[str, Any]:
        """What a run that is continued must agree in."""
        labels = np.bincount(self._train.labels, minlength=self._n_classes)
        given = {name: part and part.digest() for name, part in self._parts.items()}
        return {"shape": list(self._train.shape), "labels": labels.tolist(), **given}

    def find_place(self) -> None:
        """How many samples the session has seen.

        Raises:
            ConfigError: a part of one, or more than the plan has.
        """
        self.session_done, rest = divmod(self.session.steps_done, self.period)
        if rest:
            raise ConfigError(
                f"the state was taken at step {rest} of a sample; expected one of the end of a sample, as "
                f"learn_on_chip saves it. Start the run again"
            )
        if self.session_done > self.total:
            least = math.ceil(self.session_done / len(self._train))
            raise ConfigError(
                f"passes is {self._plan.passes}, and the run that is there has begun pass {least}; expected "
                f"at least {least}. Resume with --passes {least} (passes={least}) or more"
            )

    def go_on(self) -> None:
        """Learn from the next samples, up to the next point, save or end of a pass."""
        done, n = self.session_done, len(self._train)
        number, at = divmod(done, n)
        if self._order[0] != number:
            random = np.random.default_rng([self._plan.seed, 1, number])
            self._order = number, random.permutation(n)
        halvings = [round(each * n) for each in self._plan.halve]
        self._set_rates(sum(done >= each for each in halvings))
        stops = (at + CHUNK, n, (at // self._plan.every + 1) * self._plan.every)
        changes = (each - number * n for each in halvings if each > done)
        stop = min(*stops, *changes, at + SAVE - done % SAVE)
        rows = self._order[1][at:stop]
        given = lessons(
            self._train.spikes(rows), self._train.labels[rows], self._n_classes, self._window
        )
        self.session.run(self.session.in_chip_time(given), record=())
        self.session_done = done + len(rows)

    def _set_rates(self, halvings: int) -> None:
        """What the host does between two calls: smaller impulses of the third factors."""
        if halvings == self._halvings:
            return
        self._halvings = halvings
        for name, trace in self._rates.items():
            impulse = halved_impulse(trace, halvings)
            self.session.set_impulses(name, {"y2": impulse, "y3": impulse})

    def at_point(self) -> bool:
        """Whether the curve has a point here."""
        at = self.session_done % len(self._train)
        return at % self._plan.every == 0

    def record(self, test: SpikeSamples | None, validation: SpikeSamples | None) -> Record:
        """The point of the curve."""
        done, n = self.session_done, len(self._train)
        layers = learned_layers(self.session.graph)
        found: Record = {"pass": (done - 1) // n + 1, "samples": done}
        if validation is not None:
            found["validation_accuracy"] = accuracy(layers, validation)
        if test is not None and done % n == 0:
            found["test_accuracy"] = accuracy(layers, test)
        return found
