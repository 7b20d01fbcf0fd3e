"""Running a program: blocks of samples and steps through the compiled kernels.

A block is a few samples by a few steps, so that scratch memory does not grow with the run. Within it the
graph is executed node by node, every node for all steps at once; only loops advance step by step.
Blocks of different samples run in threads: they share nothing, and kernels release the GIL.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numba
import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.ahead import compiled_ahead
from biril_nm.hardware_sim.engine.feeds import Feed
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.recorder import Recorder
from biril_nm.hardware_sim.engine.state import (
    Chunk,
    Memory,
    State,
    make_memory,
    make_state,
    row_length,
)
from biril_nm.hardware_sim.engine.synapses import Synapses
from biril_nm.hardware_sim.engine.teams import ALONE, Receiver, Team, team
from biril_nm.hardware_sim.kernels import loops
from biril_nm.hardware_sim.kernels.jit import is_loaded
from biril_nm.hardware_sim.kernels.records import (
    Cells,
    Clock,
    Link,
    Node,
    SpikeRows,
)

__all__ = ["Call", "Loop", "RunClock", "Worker", "block_shape", "first_run", "new_memory", "run"]

# Of one block: enough steps that the call of a kernel, which holds the GIL, is little beside its run.
SCRATCH_BYTES = 4 << 20
# Of the memory that stays with a graph for its next run; beside a longer run, new memory costs little.
KEPT_BYTES = 1 << 20
BLOCKS = {"one": (1, 1), "few": (3, 2)}  # steps and samples, by the name of a path
Call = Callable[[], object]
MIN_BLOCKS_PER_THREAD = 8  # smaller blocks even out samples that spike more than others


@dataclass(frozen=True)
class RunClock:
    """How long a run is and when nodes are cleared.

    Attributes:
        n_steps: steps of the run.
        batch: samples side by side.
        chip_time: whether connections take 1 + delay steps (else their slack, in node time).
        period: steps between two clearings of a node, 0 for none.
        active: steps that a gated node is awake after a clearing, 0 for no gate.
        age: steps that the state has behind it when the run begins.
    """

    n_steps: int
    batch: int
    chip_time: bool = False
    period: int = 0
    active: int = 0
    age: int = 0

    def part(self, n_steps: int, age: int) -> RunClock:
        """The clock of the next steps of a session."""
        return RunClock(n_steps, self.batch, self.chip_time, self.period, self.active, age)


class Loop(Protocol):
    """Advances the nodes of one component instead of the worker's own loop: nodes that learn."""

    def run(self, chunk: Chunk) -> None:
        """Advance by a chunk; ``chunk.arriving`` holds what comes from outside of the component."""


def _ignore(chunk: Chunk) -> None:
    """The watcher of a run that is not watched."""


def run(
    program: Program,
    feeds: Mapping[str, Feed],
    clock: RunClock,
    recorder: Recorder,
    n_threads: int,
) -> None:
    """Run all samples; results go to ``recorder``."""
    steps, batch = block_shape(program, clock, n_threads)
    key = (steps, batch, clock.chip_time, recorder.with_u, _constant(feeds))
    kept = math.inf if program.paths.memory == "kept" else KEPT_BYTES
    starts: SimpleQueue[int] = SimpleQueue()
    for b0 in range(0, clock.batch, batch):
        starts.put(b0)

    def work(team: Team) -> None:
        memory = program.spare.take(key) or new_memory(
            program, feeds, clock, recorder, (steps, batch)
        )
        worker = Worker(program, feeds, clock, recorder, memory, team)
        try:
            while True:
                worker.run(starts.get_nowait())
        except Empty:
            return
        finally:
            if program.paths.memory != "new" and memory.nbytes <= kept:
                program.spare.give(key, memory)

    def small() -> Worker:
        memory = new_memory(program, feeds, clock, recorder, (1, 1))
        return Worker(program, feeds, clock, recorder, memory)

    n_workers = min(n_threads, starts.qsize())
    with first_run(small), team(program, n_threads, n_workers) as helped:
        if n_workers == 1:
            work(helped)
            return
        with ThreadPoolExecutor(n_workers, "biril-sim") as pool:
            for future in [pool.submit(work, helped) for _ in range(n_workers)]:
                future.result()


def first_run(worker: Callable[[], Worker]) -> AbstractContextManager[None]:
    """Compile what a worker takes in two processes, where this one has no code yet."""
    if any(map(is_loaded, (loops.run, loops.accumulate, loops.advance))):
        return nullcontext()
    made = worker()
    return compiled_ahead(made.kernels(Chunk(*made.memory(1), 0, 0, 1)))


def new_memory(
    program: Program,
    feeds: Mapping[str, Feed],
    clock: RunClock,
    recorder: Recorder,
    shape: tuple[int, int],
) -> Memory:
    """Memory of a worker for blocks of this shape: steps of a chunk, and samples."""
    state = make_state(program, shape, clock.chip_time, recorder.with_u, _constant(feeds))
    return make_memory(program, state, shape[0])


def _constant(feeds: Mapping[str, Feed]) -> tuple[str, ...]:
    return tuple([name for name, feed in feeds.items() if feed.constant])


def block_shape(program: Program, clock: RunClock, n_threads: int) -> tuple[int, int]:
    """Steps and samples of a block that keep its scratch below SCRATCH_BYTES, or those of the paths."""
    if program.paths.block is not None:
        steps, batch = BLOCKS[program.paths.block]
        return min(steps, clock.n_steps), min(batch, clock.batch)
    row = sum(row_length(program, name) for name in program.shapes)
    row += np.dtype(np.int32).itemsize * sum(program.sizes[name] for name in program.meeting_points)
    steps = max(1, min(clock.n_steps, SCRATCH_BYTES // row))
    batch = max(1, SCRATCH_BYTES // (row * steps))
    share = -(-clock.batch // (n_threads * MIN_BLOCKS_PER_THREAD)) if n_threads > 1 else clock.batch
    return steps, max(1, min(batch, share))


class Worker:
    """Memory of one thread, and the loop over chunks and nodes for one block at a time.

    Args:
        program: the compiled graph.
        feeds: its inputs.
        clock: of the run.
        recorder: takes the results.
        memory: what it writes.
        team: threads that share its large connections.
        loops: components that something else advances, by their names.
        watch: called with each chunk when all its nodes have advanced.
    """

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        clock: RunClock,
        recorder: Recorder,
        memory: Memory,
        team: Team = ALONE,
        loops: Mapping[tuple[str, ...], Loop] | None = None,
        watch: Callable[[Chunk], None] = _ignore,
    ) -> None:
        self._program, self._feeds, self._clock, self._recorder = program, feeds, clock, recorder
        self._memory, self._state, self._steps = memory, memory.state, memory.n_steps
        self._loops, self._watch = loops or {}, watch
        self._call, self._receiver = program.kernels.call, Receiver(program, team)

    def run(self, b0: int) -> None:
        """All chunks of the block of samples from b0, which start from rest."""
        self._state.clear()
        self.go_on(b0)

    def go_on(self, b0: int) -> None:
        """All chunks of the block of samples from b0, which start from their state."""
        size = min(self._clock.batch - b0, self._state.batch)
        state, arriving = self.memory(size)
        for name, feed in self._feeds.items():
            if feed.constant:
                feed.load(state.spikes[name][:, :, : self._program.sizes[name]], b0, 0)
        for t0 in range(0, self._clock.n_steps, self._steps):
            n_steps = min(self._steps, self._clock.n_steps - t0)
            self._run_chunk(Chunk(state, arriving, b0, t0, n_steps))
        for name, v in state.v.items():
            self._recorder.keep_last(name, b0, v)

    def memory(self, size: int) -> tuple[State, dict[str, NDArray[np.int32]]]:
        """State of the first samples of a block, and where their connections meet."""
        return self._state.samples(size), {
            name: a[:size] for name, a in self._memory.arriving.items()
        }

    def calls(self, chunk: Chunk) -> list[Call]:
        """What a chunk of one step does, ready to be called again and again: no spike is counted.

        The chunk is far from the start of its run, and no component has a loop of its own.
        """
        code = self._program.kernels.code
        with first_run(lambda: self):
            return [
                partial(code(kernel, name, *arguments) if name else kernel, *arguments)
                for kernel, name, *arguments in self._parts(chunk)
            ]

    def kernels(self, chunk: Chunk) -> list[tuple[Any, tuple[Any, ...]]]:
        """The kernels that a chunk takes, each with the types of its arguments."""
        parts = [(kernel, a) for kernel, name, *a in self._parts(chunk) if name]
        found = [(kernel, tuple(map(numba.typeof, arguments))) for kernel, arguments in parts]
        return list(dict.fromkeys(found))

    def _parts(self, chunk: Chunk) -> Iterator[tuple[Any, ...]]:
        """What a chunk of one step does: kernel, name and arguments; without a name no kernel."""
        for component in self._program.order:
            names = component.names
            inside = names if component.looped else ()
            if names[0] not in chunk.arriving:
                (synapses,) = self._program.incoming[names[0]]
                link, node = self._link(chunk, synapses), self._node(chunk, names[0])
                size = len(node.cells.v)
                yield loops.run, names[0], link, self._memory.inputs[names[0]], size, 1, node
                continue
            for name in names:
                a, outside = chunk.arriving[name], self._links(chunk, name, outside=inside)
                if not outside:
                    yield a.fill, "", 0
                for i, (synapses, link) in enumerate(outside):
                    yield loops.accumulate, synapses.name, link, a, 0, 1, i > 0
            for name in names:
                a = chunk.arriving[name]
                for synapses, link in self._links(chunk, name, inside=inside):
                    yield loops.accumulate, synapses.name, link, a, 0, 1, True
                yield loops.advance, name, a, 0, 1, self._node(chunk, name)

    def _run_chunk(self, chunk: Chunk) -> None:
        for name, feed in self._feeds.items():
            if not feed.constant:
                feed.load(chunk.spikes(name, self._program.sizes[name]), chunk.b0, chunk.t0)
        for component in self._program.order:
            name = component.names[0]
            if component.looped:
                self._run_loop(chunk, component.names)
            elif name in chunk.arriving:
                self._receive(chunk.arriving[name], self._links(chunk, name), 0, chunk.n_steps)
                self._advance(chunk, name, self._node(chunk, name), 0, chunk.n_steps)
            else:
                self._run_node(chunk, name)
        self._watch(chunk)
        chunk.state.move_on(chunk.n_steps)

    def _run_loop(self, chunk: Chunk, names: tuple[str, ...]) -> None:
        """Nodes that feed each other: from outside for all steps at once, then step by step."""
        for name in names:
            links = self._links(chunk, name, outside=names)
            self._receive(chunk.arriving[name], links, 0, chunk.n_steps)
        if names in self._loops:
            self._loops[names].run(chunk)
            return
        inside = [
            (name, self._links(chunk, name, inside=names), self._node(chunk, name))
            for name in names
        ]
        for t in range(chunk.n_steps):
            for name, links, node in inside:
                self._receive(chunk.arriving[name], links, t, t + 1, add=True)
                self._advance(chunk, name, node, t, t + 1)

    def _run_node(self, chunk: Chunk, name: str) -> None:
        """A node with a single connection."""
        (synapses,) = self._program.incoming[name]
        link, node = self._link(chunk, synapses), self._node(chunk, name)
        size = len(node.cells.v)
        n_spikes = self._call(
            loops.run, name, link, self._memory.inputs[name], size, chunk.n_steps, node
        )
        self._recorder.count(name, n_spikes)

    def _receive(
        self, a: Array, links: list[tuple[Synapses, Link]], ta: int, tb: int, add: bool = False
    ) -> None:
        """Put or add what connections deliver in steps ta to tb."""
        if not links and not add:
            a[:, ta:tb] = 0
        for synapses, link in links:
            self._receiver.receive(synapses, link, a, (ta, tb), add)
            add = True

    def _advance(self, chunk: Chunk, name: str, node: Node, ta: int, tb: int) -> None:
        n_spikes = self._call(loops.advance, name, chunk.arriving[name], ta, tb, node)
        self._recorder.count(name, n_spikes)

    def _links(
        self,
        chunk: Chunk,
        name: str,
        inside: tuple[str, ...] | None = None,
        outside: tuple[str, ...] = (),
    ) -> list[tuple[Synapses, Link]]:
        """Connections that end at a node: from ``inside`` a loop only, or from ``outside`` of it."""
        return [
            (synapses, self._link(chunk, synapses))
            for synapses in self._program.incoming[name]
            if (synapses.source in inside if inside is not None else synapses.source not in outside)
        ]

    def _link(self, chunk: Chunk, synapses: Synapses) -> Link:
        """A connection as the kernels take it."""
        past = chunk.state.past.get(synapses.source)
        start = past or 0
        source = SpikeRows(
            spikes=chunk.state.spikes[synapses.source],
            start=start,
            lag=synapses.lag if self._clock.chip_time else synapses.slack,
            first=start - chunk.t0 - self._clock.age,
            constant=past is None,
        )
        return Link(source, synapses.weights, self._memory.scratch[synapses.name], synapses.finish)

    def _node(self, chunk: Chunk, name: str) -> Node:
        """A node as the kernels take it."""
        node, state, clock = self._program.compartments[name], chunk.state, self._clock
        phase = self._program.latency[name] - clock.age
        return Node(
            Cells(
                state.spikes[name],
                state.past[name],
                state.u[name],
                state.v[name],
                state.more[name],
            ),
            node.registers,
            self._recorder.probes(name),
            Clock(chunk.b0, chunk.t0, clock.period, phase, clock.active),
        )
