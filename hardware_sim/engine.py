"""Running a program: blocks of samples and steps through the compiled kernels.

A block is a few samples by a few steps, so that scratch memory does not grow with the run. Within it the
graph is executed node by node, every node for all steps at once; only loops advance step by step.
Blocks of different samples run in threads: they share nothing, and kernels release the GIL.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.feeds import Feed
from biril_nm.hardware_sim.kernels_neuron import advance
from biril_nm.hardware_sim.probes import Recorder
from biril_nm.hardware_sim.program import Compartments, Program, Synapses

__all__ = ["Clock", "run"]

SCRATCH_BYTES = 4 << 20  # of one block: about what the caches of one core hold
MIN_BLOCKS_PER_THREAD = 4  # smaller blocks even out samples that spike more than others


@dataclass(frozen=True)
class Clock:
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


@dataclass(frozen=True)
class _Plan:
    steps: int  # of a chunk
    batch: int  # of a block


def run(
    program: Program,
    feeds: Mapping[str, Feed],
    clock: Clock,
    recorder: Recorder,
    n_threads: int,
) -> None:
    """Run all samples; results go to ``recorder``."""
    plan = _plan(program, clock, n_threads)
    starts = range(0, clock.batch, plan.batch)

    def block(b0: int) -> None:
        size = min(plan.batch, clock.batch - b0)
        _Block(program, feeds, clock, recorder, plan.steps, b0, size).run()

    if n_threads == 1 or len(starts) == 1:
        for b0 in starts:
            block(b0)
        return
    with ThreadPoolExecutor(min(n_threads, len(starts)), "biril-sim") as pool:
        for future in [pool.submit(block, b0) for b0 in starts]:
            future.result()


def _plan(program: Program, clock: Clock, n_threads: int) -> _Plan:
    """Chunk and block sizes that keep the scratch of a block below SCRATCH_BYTES."""
    row = sum(program.size(name) for name in program.shapes)
    row += 4 * sum(program.size(name) for name in program.compartments)
    steps = max(1, min(clock.n_steps, SCRATCH_BYTES // row))
    batch = max(1, SCRATCH_BYTES // (row * steps))
    share = -(-clock.batch // (n_threads * MIN_BLOCKS_PER_THREAD)) if n_threads > 1 else clock.batch
    return _Plan(steps, max(1, min(batch, share)))


class _Block:
    """Some samples, from their first step to their last."""

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        clock: Clock,
        recorder: Recorder,
        chunk: int,
        b0: int,
        size: int,
    ) -> None:
        self._program, self._feeds, self._clock, self._recorder = program, feeds, clock, recorder
        self._chunk, self._b0, self._size = chunk, b0, size
        self._past = {
            name: program.history(name, clock.chip_time)
            for name in program.shapes
            if not (name in feeds and feeds[name].constant)
        }
        self._spikes = {name: self._spike_rows(name) for name in program.shapes}
        self._a = {
            name: np.zeros((size, chunk, program.size(name)), dtype=np.int32)
            for name in program.compartments
        }
        self._u = {n: np.zeros((size, program.size(n)), np.int32) for n in program.compartments}
        self._v = {n: np.zeros((size, program.size(n)), np.int32) for n in program.compartments}
        self._rows: dict[tuple[int, type], NDArray[Any]] = {
            (link.n_post, link.row_dtype): np.empty(link.n_post, dtype=link.row_dtype)
            for links in program.incoming.values()
            for link in links
        }

    def _spike_rows(self, name: str) -> NDArray[Any]:
        feed = self._feeds.get(name)
        rows = self._past[name] + self._chunk if name in self._past else 1
        return np.zeros(
            (self._size, rows, self._program.size(name)), dtype=feed.dtype if feed else np.uint8
        )

    def run(self) -> None:
        """All chunks of the run."""
        for name, feed in self._feeds.items():
            if feed.constant:
                feed.load(self._spikes[name], self._b0, 0)
        for t0 in range(0, self._clock.n_steps, self._chunk):
            self._run_chunk(t0, min(self._chunk, self._clock.n_steps - t0))
        for name, v in self._v.items():
            self._recorder.keep_last(name, self._b0, v)

    def _run_chunk(self, t0: int, steps: int) -> None:
        for name, feed in self._feeds.items():
            if not feed.constant:
                past = self._past[name]
                feed.load(self._spikes[name][:, past : past + steps], self._b0, t0)
        for component in self._program.order:
            inside = component.names if component.looped else ()
            for name in component.names:
                self._receive(name, t0, 0, steps, inside, False)
            if component.looped:
                for t in range(steps):
                    for name in component.names:
                        self._receive(name, t0, t, t + 1, inside, True)
                        self._advance(name, t0, t, t + 1)
            else:
                self._advance(component.names[0], t0, 0, steps)
        for name, past in self._past.items():
            if past:  # the tail of this chunk is the past of the next one
                self._spikes[name][:, :past] = self._spikes[name][:, steps : steps + past].copy()

    def _receive(
        self, name: str, t0: int, ta: int, tb: int, loop: tuple[str, ...], from_loop: bool
    ) -> None:
        """Sum what arrives at a node from inside or from outside of its loop."""
        links = [
            link for link in self._program.incoming[name] if (link.source in loop) is from_loop
        ]
        a = self._a[name]
        for place, link in enumerate(links):
            self._deliver(link, a, t0, ta, tb, add=from_loop or place > 0)
        if not links and not from_loop:
            a[:, ta:tb] = 0

    def _deliver(
        self, link: Synapses, a: NDArray[Any], t0: int, ta: int, tb: int, add: bool
    ) -> None:
        past = self._past.get(link.source)
        link.kernel(
            self._spikes[link.source],
            past or 0,
            link.lag if self._clock.chip_time else link.slack,
            max(0, (past or 0) - t0),
            past is None,
            *link.weights,
            self._rows[link.n_post, link.row_dtype],
            a,
            ta,
            tb,
            add,
            *link.finish,
        )

    def _advance(self, name: str, t0: int, ta: int, tb: int) -> None:
        node: Compartments = self._program.compartments[name]
        past = self._past[name]
        n_spikes = advance(
            self._a[name],
            self._spikes[name],
            past,
            ta,
            tb,
            self._u[name],
            self._v[name],
            node.keep_u,
            node.keep_v,
            node.bias,
            node.vth,
            node.wide,
            *self._recorder.arrays(name),
            self._b0,
            t0,
            self._clock.period,
            self._program.latency[name],
            self._clock.active,
        )
        self._recorder.count(name, int(n_spikes))
