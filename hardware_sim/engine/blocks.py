"""Running a program: blocks of samples and steps through the compiled kernels.

A block is a few samples by a few steps, so that scratch memory does not grow with the run. Within it the
graph is executed node by node, every node for all steps at once; only loops advance step by step.
Blocks of different samples run in threads: they share nothing, and kernels release the GIL.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.engine.feeds import Feed
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.recorder import Recorder
from biril_nm.hardware_sim.engine.synapses import Synapses
from biril_nm.hardware_sim.kernels import loops
from biril_nm.hardware_sim.kernels.lanes import GROUP, MASK
from biril_nm.hardware_sim.kernels.records import (
    Cells,
    Clock,
    Link,
    Node,
    Registers,
    Scratch,
    Source,
)

__all__ = ["Block", "RunClock", "Worker", "block_shape", "run"]

# Of one block: enough steps that the call of a kernel, which holds the GIL, is little beside its run.
SCRATCH_BYTES = 4 << 20
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
    """

    n_steps: int
    batch: int
    chip_time: bool = False
    period: int = 0
    active: int = 0


Block = dict[str, dict[str, NDArray[Any]]]


def run(
    program: Program,
    feeds: Mapping[str, Feed],
    clock: RunClock,
    recorder: Recorder,
    n_threads: int,
) -> None:
    """Run all samples; results go to ``recorder``."""
    steps, batch = block_shape(program, feeds, clock, n_threads)
    starts: SimpleQueue[int] = SimpleQueue()
    for b0 in range(0, clock.batch, batch):
        starts.put(b0)

    def work() -> None:
        worker = Worker(program, feeds, clock, recorder, steps, batch)
        try:
            while True:
                worker.run(starts.get_nowait())
        except Empty:
            return

    n_workers = min(n_threads, starts.qsize())
    if n_workers == 1:
        work()
        return
    with ThreadPoolExecutor(n_workers, "biril-sim") as pool:
        for future in [pool.submit(work) for _ in range(n_workers)]:
            future.result()


def block_shape(
    program: Program, feeds: Mapping[str, Feed], clock: RunClock, n_threads: int
) -> tuple[int, int]:
    """Steps and samples of a block that keep its scratch below SCRATCH_BYTES."""
    row = sum(_row_length(program, feeds, name) for name in program.shapes)
    row += np.dtype(np.int32).itemsize * sum(map(program.size, _meeting_points(program)))
    steps = max(1, min(clock.n_steps, SCRATCH_BYTES // row))
    batch = max(1, SCRATCH_BYTES // (row * steps))
    share = -(-clock.batch // (n_threads * MIN_BLOCKS_PER_THREAD)) if n_threads > 1 else clock.batch
    return steps, max(1, min(batch, share))


def _row_length(program: Program, feeds: Mapping[str, Feed], name: str) -> int:
    """Length of a row of spikes; binary ones are padded to whole masks."""
    size = program.size(name)
    return size if name in feeds and feeds[name].graded else -(-size // MASK) * MASK


def _meeting_points(program: Program) -> tuple[str, ...]:
    """Nodes whose input is summed in a buffer: several connections, none, or a loop."""
    looped = {name for component in program.order if component.looped for name in component.names}
    return tuple(n for n, links in program.incoming.items() if len(links) != 1 or n in looped)


class Worker:
    """Block memory of one thread, and the loop over chunks and nodes for one block at a time."""

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        clock: RunClock,
        recorder: Recorder,
        chunk: int,
        batch: int,
    ) -> None:
        self._program, self._feeds, self._clock, self._recorder = program, feeds, clock, recorder
        self._chunk = chunk
        self._past = {
            name: program.history(name, clock.chip_time)
            for name in program.shapes
            if not (name in feeds and feeds[name].constant)
        }
        sizes = {name: program.size(name) for name in program.compartments}
        links = [link for links in program.incoming.values() for link in links]
        meeting = _meeting_points(program)
        self._full: Block = {
            "spikes": {name: self._spike_rows(name, batch) for name in program.shapes},
            "a": {name: np.empty((batch, chunk, sizes[name]), np.int32) for name in meeting},
            "u": {
                name: np.empty((batch, n if self._needs_u(name) else 0), np.int32)
                for name, n in sizes.items()
            },
            "v": {name: np.empty((batch, n), np.int32) for name, n in sizes.items()},
        }
        self._call = program.kernels.call
        self._inputs = {name: np.empty(n, np.int32) for name, n in sizes.items()}
        self._scratch = {
            link.name: Scratch(
                np.empty(link.n_sums, dtype=link.sum_type),
                np.empty(link.n_pre + GROUP, dtype=np.int32),
            )
            for link in links
        }

    def _needs_u(self, name: str) -> bool:
        """Whether currents are remembered from step to step, or recorded."""
        node = self._program.compartments[name]
        return not node.memoryless or bool(self._recorder.probes(name).u.size)

    def _spike_rows(self, name: str, batch: int) -> NDArray[Any]:
        feed = self._feeds.get(name)
        rows = self._past[name] + self._chunk if name in self._past else 1
        length = _row_length(self._program, self._feeds, name)
        return np.zeros((batch, rows, length), dtype=feed.dtype if feed else np.uint8)

    def run(self, b0: int) -> None:
        """All chunks of the block of samples from b0, which start from rest."""
        size = min(self._clock.batch - b0, len(next(iter(self._full["spikes"].values()))))
        block = {
            kind: {name: array[:size] for name, array in arrays.items()}
            for kind, arrays in self._full.items()
        }
        for array in (*block["u"].values(), *block["v"].values()):
            array[...] = 0
        for name, feed in self._feeds.items():
            if feed.constant:
                feed.load(block["spikes"][name][:, :, : self._program.size(name)], b0, 0)
        for t0 in range(0, self._clock.n_steps, self._chunk):
            self._run_chunk(block, b0, t0, min(self._chunk, self._clock.n_steps - t0))
        for name, v in block["v"].items():
            self._recorder.keep_last(name, b0, v)

    def _run_chunk(self, block: Block, b0: int, t0: int, steps: int) -> None:
        for name, feed in self._feeds.items():
            if not feed.constant:
                rows = block["spikes"][name][:, self._past[name] :, : self._program.size(name)]
                feed.load(rows[:, :steps], b0, t0)
        for component in self._program.order:
            if component.looped:
                self._run_loop(block, component.names, b0, t0, steps)
            elif component.names[0] in block["a"]:
                self._receive(block, component.names[0], t0, 0, steps)
                self._advance(block, component.names[0], b0, t0, 0, steps)
            else:
                self._run_node(block, component.names[0], b0, t0, steps)
        for name, past in self._past.items():
            if past:  # the tail of this chunk is the past of the next one
                rows = block["spikes"][name]
                rows[:, :past] = rows[:, steps : steps + past].copy()

    def _run_loop(self, block: Block, names: tuple[str, ...], b0: int, t0: int, steps: int) -> None:
        """Nodes that feed each other: from outside for all steps at once, then step by step."""
        for name in names:
            self._receive(block, name, t0, 0, steps, outside=names)
        for t in range(steps):
            for name in names:
                self._receive(block, name, t0, t, t + 1, inside=names)
                self._advance(block, name, b0, t0, t, t + 1)

    def _run_node(self, block: Block, name: str, b0: int, t0: int, steps: int) -> None:
        """A node with a single connection."""
        (link,) = self._program.incoming[name]
        received = self._link(block, link, t0)
        node = self._node(block, name, b0, t0)
        size = len(block["v"][name])
        n_spikes = self._call(loops.run, name, received, self._inputs[name], size, steps, node)
        self._recorder.count(name, n_spikes)

    def _receive(
        self,
        block: Block,
        name: str,
        t0: int,
        ta: int,
        tb: int,
        inside: tuple[str, ...] | None = None,
        outside: tuple[str, ...] = (),
    ) -> None:
        """Sum into a what arrives: from ``inside`` a loop only, or from ``outside`` of it."""
        a, add = block["a"][name], inside is not None
        if not add:
            a[:, ta:tb] = 0
        for link in self._program.incoming[name]:
            if (link.source in inside) if inside is not None else (link.source not in outside):
                received = self._link(block, link, t0)
                self._call(loops.accumulate, link.name, received, a, ta, tb, add)
                add = True

    def _advance(self, block: Block, name: str, b0: int, t0: int, ta: int, tb: int) -> None:
        node = self._node(block, name, b0, t0)
        n_spikes = self._call(loops.advance, name, block["a"][name], ta, tb, node)
        self._recorder.count(name, n_spikes)

    def _link(self, block: Block, link: Synapses, t0: int) -> Link:
        """A connection as the kernels take it."""
        past = self._past.get(link.source)
        start = past or 0
        lag = link.lag if self._clock.chip_time else link.slack
        source = Source(block["spikes"][link.source], start, lag, start - t0, past is None)
        return Link(source, link.weights, self._scratch[link.name], link.finish)

    def _node(self, block: Block, name: str, b0: int, t0: int) -> Node:
        """A node as the kernels take it."""
        node, clock = self._program.compartments[name], self._clock
        return Node(
            Cells(block["spikes"][name], self._past[name], block["u"][name], block["v"][name]),
            Registers(node.keep_u, node.keep_v, node.bias, node.vth, node.wide),
            self._recorder.probes(name),
            Clock(b0, t0, clock.period, self._program.latency[name], clock.active),
        )
