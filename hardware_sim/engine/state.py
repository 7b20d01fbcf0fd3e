"""What a run carries from step to step, apart from everything that is computed once per graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.kernels.lanes import MASK
from biril_nm.hardware_sim.kernels.records import Scratch

__all__ = ["Chunk", "Memory", "State", "make_memory", "make_state", "row_length"]


@dataclass(frozen=True)
class State:
    """State of a block of samples; the arrays change, the object does not.

    Attributes:
        spikes: of each node, (batch, past + chunk, n or more): rows that delayed connections still
            read, then the rows of the chunk at hand. A constant input has one row.
        past: rows of the past; a constant input is not in it.
        u, v: of each Neurons node, (batch, n); u has no columns where nothing needs it.
        more: further words of each Neurons node, (batch, n_words, n).
    """

    spikes: Mapping[str, Array]
    past: Mapping[str, int]
    u: Mapping[str, Array]
    v: Mapping[str, Array]
    more: Mapping[str, Array]

    @property
    def batch(self) -> int:
        """Number of samples."""
        return len(next(iter(self.spikes.values())))

    def samples(self, n: int) -> State:
        """The first n samples; the arrays are views."""
        if n == self.batch:
            return self
        spikes, u, v, more = (
            {name: a[:n] for name, a in arrays.items()}
            for arrays in (self.spikes, self.u, self.v, self.more)
        )
        return State(spikes, self.past, u, v, more)

    def clear(self) -> None:
        """Bring the neurons to rest."""
        for word in (self.u, self.v, self.more):
            for array in word.values():
                if array.size:
                    array.fill(0)

    def move_on(self, n_steps: int) -> None:
        """Make the last of ``n_steps`` rows the past of the next chunk."""
        for name, past in self.past.items():
            if past:
                rows = self.spikes[name]
                rows[:, :past] = rows[:, n_steps : n_steps + past].copy()


@dataclass(frozen=True)
class Chunk:
    """Some steps of a block of samples.

    Attributes:
        state: of the block.
        arriving: where connections meet: (batch, steps or more, n) of nodes without exactly one
            connection, and of loops.
        b0, t0: first sample and step in the run.
        n_steps: steps.
    """

    state: State
    arriving: Mapping[str, NDArray[np.int32]]
    b0: int
    t0: int
    n_steps: int

    def spikes(self, name: str, size: int | None = None) -> Array:
        """Rows of a node, (batch, n_steps, size); all columns for None."""
        first = self.state.past[name]
        return self.state.spikes[name][:, first : first + self.n_steps, :size]


def row_length(program: Program, name: str) -> int:
    """Length of a row of spikes; binary ones are padded to whole masks."""
    size = program.sizes[name]
    return size if name in program.graded else -(-size // MASK) * MASK


def make_state(
    program: Program,
    shape: tuple[int, int],
    chip_time: bool,
    with_u: Collection[str],
    constant: Collection[str] = (),
) -> State:
    """Memory for a run: no spikes, and neurons that are to be cleared.

    Args:
        program: the compiled graph.
        shape: steps and samples of a block.
        chip_time: whether connections take 1 + delay steps (else their slack).
        with_u: nodes whose u is kept.
        constant: inputs that repeat one row.
    """
    steps, batch = shape
    past = {name: n for name, n in program.history(chip_time).items() if name not in constant}
    spikes: dict[str, Array] = {
        name: np.zeros(
            (batch, past[name] + steps if name in past else 1, row_length(program, name)),
            dtype=np.int32 if name in program.graded else np.uint8,
        )
        for name in program.shapes
    }
    u, v, more = {}, {}, {}
    for name, node in program.compartments.items():
        n = program.sizes[name]
        u[name] = np.empty((batch, n if name in with_u else 0), np.int32)
        v[name] = np.empty((batch, n), np.int32)
        more[name] = np.empty((batch, node.n_words, n), np.int64)
    return State(spikes, past, u, v, more)


@dataclass(frozen=True)
class Memory:
    """What a worker writes: the state of a block of samples, and what holds nothing from step to step.

    Attributes:
        n_steps: steps of a chunk.
        state: of the block.
        arriving: where connections meet, (batch, n_steps, n) by node.
        inputs: what arrives at a node in one step, (n,).
        scratch: of each connection.
    """

    n_steps: int
    state: State
    arriving: Mapping[str, NDArray[np.int32]]
    inputs: Mapping[str, NDArray[np.int32]]
    scratch: Mapping[str, Scratch]

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        state = self.state
        words = (state.spikes, state.u, state.v, state.more, self.arriving, self.inputs)
        arrays = [array for by_name in words for array in by_name.values()]
        return sum(a.nbytes for a in (*arrays, *chain.from_iterable(self.scratch.values())))

    def with_u(self, names: Collection[str], sizes: Mapping[str, int]) -> Memory:
        """The same, with room for u of these nodes; itself where it has it."""
        state = self.state
        changed = {
            name: np.empty((state.batch, sizes[name]), np.int32)
            for name in names
            if not state.u[name].size
        }
        if not changed:
            return self
        return replace(self, state=replace(state, u={**state.u, **changed}))


def make_memory(program: Program, state: State, n_steps: int) -> Memory:
    """Memory of a worker for chunks of ``n_steps`` steps around the state of its block."""
    sizes = program.sizes
    return Memory(
        n_steps,
        state,
        {
            name: np.empty((state.batch, n_steps, sizes[name]), np.int32)
            for name in program.meeting_points
        },
        {name: np.empty(sizes[name], np.int32) for name in program.compartments},
        {
            link.name: Scratch(
                np.empty(link.n_sums, dtype=link.sum_type),
                np.empty(link.n_pre + MASK, dtype=np.int32),
            )
            for links in program.incoming.values()
            for link in links
        },
    )
