"""``Simulator``: a network that goes on between calls, for streams and closed loops."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np

from biril_nm.arguments import Count, checked, unknown_name
from biril_nm.arrays import Array
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.blocks import RunClock, Worker, block_shape
from biril_nm.hardware_sim.engine.first_run import said_while_compiling
from biril_nm.hardware_sim.engine.program import Program, compile_graph
from biril_nm.hardware_sim.engine.recorder import Recorder, Wanted, run_meta
from biril_nm.hardware_sim.engine.session_feed import SessionFeed, sample_rows
from biril_nm.hardware_sim.engine.state import Memory, State, make_memory, make_state
from biril_nm.hardware_sim.engine.stepper import Stepper
from biril_nm.hardware_sim.engine.stream import Stream
from biril_nm.hardware_sim.engine.teams import team
from biril_nm.hardware_sim.kernels.learning.steps import run_group
from biril_nm.hardware_sim.kernels.loops import advance, run
from biril_nm.hardware_sim.learning.connections import new_impulses
from biril_nm.hardware_sim.learning.group import Group
from biril_nm.hardware_sim.learning.stream import (
    ConnectionRecorder,
    GroupCounter,
    learned_graph,
    learning_loops,
    learning_program,
    make_groups,
)
from biril_nm.hardware_sim.session_state import AGE, check_state, random_numbers
from biril_nm.hw_graph import LoihiGraph
from biril_nm.hw_graph.inputs import check_arrays, check_values
from biril_nm.hw_graph.outputs import output_neurons
from biril_nm.recording import Recording, recorded_nodes, split_variables

__all__ = ["Simulator"]

LONG = 1 << 20  # steps: blocks are as long as their scratch memory allows


@dataclass(frozen=True)
class _Block:
    """Samples that one thread advances."""

    first: int
    memory: Memory

    @property
    def state(self) -> State:
        """What goes on from call to call."""
        return self.memory.state


def _wanted(
    graph: LoihiGraph,
    program: Program,
    learn: bool,
    record: tuple[str, ...] | str,
    nodes: tuple[str, ...] | str | None,
) -> tuple[Wanted, tuple[str, ...]]:
    """What is recorded of neurons, and which variables of learning."""
    variables, of_learning = split_variables(record, learn)
    wanted = dict.fromkeys(recorded_nodes(graph, nodes), variables)
    return Wanted.of(program, wanted), of_learning


def _hashable(names: Any) -> Any:
    return names if names is None or isinstance(names, str) else tuple(names)


class Simulator:
    """A network whose state goes on from call to call, bit for bit as one long run.

    In node time, index t of every population answers input step t, as in
    :func:`biril_nm.hardware_sim.simulate`. In chip time index t is step t of the chip: each connection takes
    1 + delay steps, and a population answers input step t at ``t + graph.latency[name]``. What learns runs
    in chip time, as one instance; traces, random streams and learning epochs go on as well.

    Args:
        graph: the integer network.
        batch: instances side by side, each with a state of its own.
        chip_time: whether steps are those of the chip.
        learn: whether plastic connections change; implies ``chip_time``.
        sample_steps: in chip time, steps of a sample: u and v start each sample from rest, every
            ``graph.sample_period(sample_steps)`` steps. By default one stream without samples.

    Raises:
        ConfigError: arguments that do not fit each other or the graph.
        RangeError: weights that Lava could not carry.
    """

    @checked
    def __init__(
        self,
        graph: LoihiGraph,
        batch: Count = 1,
        chip_time: bool = False,
        learn: bool = False,
        sample_steps: Count | None = None,
    ) -> None:
        self._check(graph, batch, chip_time or learn, learn, sample_steps)
        self._graph, self.batch, self.learns = graph, batch, learn
        program = learning_program(graph) if learn else compile_graph(graph)
        self._program: Program = program
        period = graph.sample_period(sample_steps) if sample_steps else 0
        gate = sample_steps if sample_steps and program.max_slack else 0
        self._clock = RunClock(LONG, batch, chip_time or learn, period, gate or 0)
        self._steps, size = block_shape(program, self._clock, 1)
        kept = Wanted.of(program, {}).with_u
        self._blocks = [
            _Block(first, self._memory(min(size, batch - first), kept))
            for first in range(0, batch, size)
        ]
        self._outputs = tuple(output_neurons(graph))
        self._wanted = lru_cache(maxsize=64)(partial(_wanted, graph, program, learn))
        self.reset()

    @staticmethod
    def _check(
        graph: LoihiGraph, batch: int, chip_time: bool, learn: bool, sample_steps: int | None
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch is {batch}; expected at least 1")
        if learn and not graph.plastic:
            raise ConfigError(
                "learn=True, but no connection of the graph has a learning rule. Make one plastic with "
                "graph.with_node(name, rule=...)"
            )
        if learn and batch > 1:
            raise ConfigError(
                f"batch is {batch}; expected 1, since weights that learn belong to one instance"
            )
        if sample_steps is not None and not (chip_time and sample_steps > 0):
            raise ConfigError(
                f"sample_steps is {sample_steps}; expected at least 1, and chip_time=True. In node time call "
                f"reset() between samples"
            )

    def __repr__(self) -> str:
        time = "chip time" if self._clock.chip_time else "node time"
        learns = ", learns" if self.learns else ""
        return f"Simulator({self._graph!r}, batch={self.batch}, {time}{learns}, step {self._age:,})"

    @property
    def steps_done(self) -> int:
        """Steps since the last reset."""
        return self._age

    def reset(self) -> None:
        """Bring everything to rest: no spikes under way, and what was learned is forgotten."""
        self._age = 0
        for block in self._blocks:
            block.state.clear()
            for rows in block.state.spikes.values():
                rows[...] = 0
        self._groups: list[Group] = make_groups(self._graph, self._program) if self.learns else []
        late = max(self._program.latency.values()) if self.learns else 0
        self._past = {
            name: np.zeros((late, self.batch, self._program.sizes[name]), np.int32)
            for name in self._graph.inputs
        }

    @checked
    def run(
        self,
        spikes: Any,
        record: Iterable[str] | str = ("s",),
        nodes: Iterable[str] | None = None,
        n_threads: Count = 1,
    ) -> Recording:
        """Go on for some steps.

        Args:
            spikes: integers ``(n_steps, batch, *shape)``, or a dict of them by input name.
            record: variables, as :func:`biril_nm.hardware_sim.simulate` takes them.
            nodes: names of the Neurons nodes to record; all by default.
            n_threads: threads over instances, and over targets, as :func:`biril_nm.hardware_sim.simulate`.

        Returns:
            What these steps gave, ``(n_steps, batch, *shape)``, and the spikes of these steps.

        Raises:
            ConfigError: names, shapes or dtypes that do not fit.
            RangeError: values that an input does not carry. The state is as before.
        """
        wanted, of_learning = self._wanted(_hashable(record), _hashable(nodes))
        feeds = self._feeds(spikes)
        n_steps = len(next(iter(feeds.values())).values)
        clock = self._clock.part(n_steps, self._age)
        recorder = Recorder(wanted, n_steps, self.batch)
        kept = [ConnectionRecorder(group, of_learning, n_steps) for group in self._groups]
        learning: tuple[Any, ...] = ()
        if self._groups:
            loops = learning_loops(self._groups, Stream(feeds, clock), recorder, kept)
            learning = loops, GroupCounter(self._groups, recorder).watch

        def go_on(block: _Block) -> None:
            memory = block.memory.with_u(recorder.with_u, self._program.sizes)
            worker = Worker(self._program, feeds, clock, recorder, memory, helped, *learning)
            worker.go_on(block.first)

        kernels = (run_group,) if self.learns else (advance, run)
        n_workers = min(n_threads, len(self._blocks))
        with said_while_compiling(*kernels), team(self._program, n_threads, n_workers) as helped:
            self._each_block(go_on, n_threads)
        self._age += n_steps
        self._keep(feeds)
        return Recording(
            recorder.recordings(),
            recorder.n_spikes,
            recorder.v_last(),
            meta={**run_meta(n_steps, self.batch), "age": self._age},
            connections={name: each for k in kept for name, each in k.recordings().items()},
            graph=self.graph if self.learns else None,
        )

    @checked
    def step(self, x: Any) -> Any:
        """Go on for one step.

        Args:
            x: integers ``(batch, *shape)``, or a dict of them by input name.

        Returns:
            Spikes of the output population ``(batch, *shape)``; a dict by name for several.
        """
        names = list(self._graph.inputs)
        given = {names[0]: x} if len(names) == 1 and not isinstance(x, Mapping) else x
        if self._stepper is not None and self._stepper.takes(given, self._age):
            out = self._stepper.step(given)
            self._age += 1
        else:
            lists = {k: [v] for k, v in given.items()} if isinstance(given, Mapping) else [x]
            found = self.run(lists, ("s",), self._outputs)
            out = {name: np.asarray(found[name].s)[0] for name in self._outputs}
        return out if len(out) != 1 else next(iter(out.values()))

    @cached_property
    def _stepper(self) -> Stepper | None:
        """The quick way of single steps, where there is one."""
        if self.learns or self._clock.period:
            return None
        inputs = self._graph.inputs
        feeds = self._feeds(
            {k: np.zeros((1, self.batch, *i.shape), np.uint8) for k, i in inputs.items()}
        )
        check = partial(check_values, inputs)
        blocks = [(block.first, block.memory) for block in self._blocks]
        with said_while_compiling(advance, run):
            return Stepper(self._program, feeds, blocks, self._clock, self._outputs, check)

    @checked
    def in_chip_time(self, spikes: Any) -> dict[str, Array]:
        """Samples as the chip receives them, one after the other: ``(n_chip_steps, 1, *shape)`` by input.

        Args:
            spikes: integers ``(sample_steps, n_samples, *shape)``, or a dict of them by input name.

        Raises:
            ConfigError: the session has no samples, or they have another length.
        """
        period = self._clock.period
        arrays = check_arrays(self._graph.inputs, spikes, self._graph.modulator_inputs)
        n_steps = len(next(iter(arrays.values())))
        if not period or self._graph.sample_period(n_steps) != period:
            raise ConfigError(
                f"the samples have {n_steps} steps, and the session was made with sample_steps that give a "
                f"period of {period}; expected the same. Pass sample_steps={n_steps} to Simulator"
            )
        return {name: sample_rows(array, period) for name, array in arrays.items()}

    def _feeds(self, spikes: Any) -> dict[str, SessionFeed]:
        """Inputs of a run; values are checked here unless all are read before anything moves on."""
        inputs = self._graph.inputs
        arrays = check_arrays(inputs, spikes, () if self.learns else self._graph.modulator_inputs)
        n_steps, batch = next(iter(arrays.values())).shape[:2]
        if batch != self.batch:
            raise ConfigError(
                f"the spikes have {batch} samples; expected {self.batch}, the instances of this session"
            )
        refuse = partial(check_values, inputs, arrays)
        if self.learns or len(self._blocks) > 1 or n_steps > self._steps:
            refuse()
        return {
            name: SessionFeed(array, inputs[name], refuse, self._past[name])
            for name, array in arrays.items()
        }

    def _keep(self, feeds: Mapping[str, SessionFeed]) -> None:
        """The last rows of the inputs, which connections of learning groups still read."""
        for name, feed in feeds.items():
            n_past = len(self._past[name])
            if n_past:
                rows = feed.values.reshape(*feed.values.shape[:2], -1)[-n_past:]
                self._past[name] = np.concatenate([feed.past, rows.astype(np.int32)])[-n_past:]

    def _memory(self, n: int, with_u: Collection[str]) -> Memory:
        shape = (self._steps, n)
        state = make_state(self._program, shape, self._clock.chip_time, with_u)
        return make_memory(self._program, state, self._steps)

    def _each_block(self, work: Any, n_threads: int) -> None:
        if n_threads == 1 or len(self._blocks) == 1:
            for block in self._blocks:
                work(block)
            return
        with ThreadPoolExecutor(n_threads, "biril-sim") as pool:
            list(pool.map(work, self._blocks))

    @checked
    def set_impulses(self, connection: str, impulses: Mapping[str, float]) -> None:
        """Let traces of a connection that learns grow by other impulses from the next step on.

        As a host does that changes ``x1_impulse`` of Lava's connection, or the filter of a third factor,
        between two runs. ``state`` holds the impulses; ``reset()`` goes back to those of the graph.

        Args:
            connection: its name.
            impulses: by names of traces that its rule declares.

        Raises:
            ConfigError: no such connection or trace, an impulse that no rule has, or fractions, which
                Lava's connection cuts when one of its impulses is set.
        """
        places = {
            each.name: (group, i) for group in self._groups for i, each in enumerate(group.plastic)
        }
        if connection not in places:
            what = "connection that learns in this session"
            raise ConfigError(unknown_name(what, connection, places))
        group, index = places[connection]
        changed = group.impulses
        changed[index] = new_impulses(group.plastic[index], impulses)
        group.set_impulses(changed)

    @property
    def graph(self) -> LoihiGraph:
        """The network as it is now, with what was learned."""
        return learned_graph(self._graph, self._groups)

    @property
    def state(self) -> dict[str, Array]:
        """A copy of all that goes on, as plain arrays that ``np.savez`` can write."""
        found = {name: array.copy() for name, array in self._views().items()}
        for i, group in enumerate(self._groups):
            text = json.dumps(group.random_state()).encode()
            found[f"{i}/random"] = np.frombuffer(text, np.uint8)
            found[f"{i}/impulses"] = group.impulses
        return {AGE: np.array(self._age), **found}

    @checked
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go back to a state of this network.

        Raises:
            ConfigError: it is not one of a session like this.
        """
        views = self._views()
        given = {name: np.asarray(state[name]) for name in state}
        check_state(given, views, self._program.graded, self._graph.neurons, self._groups)
        before = [(group.random_state(), group.impulses) for group in self._groups]
        try:
            for i, group in enumerate(self._groups):
                group.set_random_state(random_numbers(given[f"{i}/random"], before[i][0]))
                group.set_impulses(given[f"{i}/impulses"])
        except (ValueError, TypeError, KeyError, RecursionError, ConfigError) as error:
            for group, (numbers, impulses) in zip(self._groups, before):
                group.set_random_state(numbers)
                group.set_impulses(impulses)
            raise ConfigError(
                f"random numbers or impulses are damaged: {error}; expected a state that a session gave"
            ) from error
        for name, view in views.items():
            view[...] = given[name]
        for group in self._groups:
            group.see_weights()
        self._age = int(given[AGE])

    def _views(self) -> dict[str, Array]:
        """Everything that goes on but random numbers, as views by name."""
        found: dict[str, Array] = {f"past/{name}": rows for name, rows in self._past.items()}
        for block in self._blocks:
            state, first = block.state, block.first
            for name, past in state.past.items():
                found[f"{first}/s/{name}"] = state.spikes[name][:, :past]
            for word, arrays in (("u", state.u), ("v", state.v), ("more", state.more)):
                found.update((f"{first}/{word}/{name}", array) for name, array in arrays.items())
        for i, group in enumerate(self._groups):
            found.update((f"{i}/group/{name}", array) for name, array in group.memory().items())
        return found
