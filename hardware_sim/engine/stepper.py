"""One step of a session after the other, with everything prepared that stays the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.blocks import Call, RunClock, Worker
from biril_nm.hardware_sim.engine.feeds import Feed
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.recorder import Recorder, Wanted
from biril_nm.hardware_sim.engine.state import Chunk, Memory
from biril_nm.hardware_sim.kernels.loops import load

__all__ = ["Stepper"]

FAR = 1 << 40  # steps behind a session, so that every row of its past exists


@dataclass(frozen=True)
class _Block:
    """Instances that advance together, ``first`` and those behind it."""

    place: slice
    chunk: Chunk
    calls: Sequence[Call]
    rows: Mapping[str, Array]
    spikes: Mapping[str, Array]


class Stepper:
    """Advances a session that does not learn and has no sample periods by single steps.

    Args:
        program: the compiled graph.
        feeds: its inputs.
        blocks: first instance and memory of each block of the session, which keeps them.
        clock: of the session.
        outputs: populations whose spikes are returned.
        check: called with the input by name; raises where a value does not fit.
    """

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        blocks: Sequence[tuple[int, Memory]],
        clock: RunClock,
        outputs: tuple[str, ...],
        check: Callable[[Mapping[str, NDArray[np.generic]]], None],
    ) -> None:
        self._blocks = []
        wanted = Wanted.of(program, dict.fromkeys(outputs, ("s",)))
        for first, memory in blocks:
            size = memory.state.batch
            recorder = Recorder(wanted, 1, size)
            far = replace(clock, n_steps=1, batch=size, age=FAR)
            worker = Worker(program, feeds, far, recorder, memory)
            chunk = Chunk(*worker.memory(size), 0, 0, 1)
            rows = {name: chunk.spikes(name, program.sizes[name]) for name in feeds}
            spikes = {name: recorder.rows(name)["s"][:, 0] for name in outputs}
            place = slice(first, first + size)
            self._blocks.append(_Block(place, chunk, worker.calls(chunk), rows, spikes))
        past = blocks[0][1].state.past.values()
        self._check, self._after = check, max(past, default=0)
        # No array has the shape None: graded input is never taken.
        self._shapes = {
            name: None if feed.graded else (clock.batch, *feed.node.shape)
            for name, feed in feeds.items()
        }

    def takes(self, arrays: object, age: int) -> bool:
        """Whether these are bytes for all inputs, binary ones, of a session that is old enough."""
        if (
            age < self._after
            or not isinstance(arrays, dict)
            or arrays.keys() != self._shapes.keys()
        ):
            return False
        for name, x in arrays.items():
            if (
                not isinstance(x, np.ndarray)
                or x.dtype != np.uint8
                or x.shape != self._shapes[name]
            ):
                return False
        return True

    def step(self, arrays: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
        """Spikes of the outputs, ``(batch, *shape)``, for bytes ``(batch, *shape)`` by input name.

        Raises:
            RangeError: values that an input does not carry. The state is as before.
        """
        for name, array in arrays.items():
            flat = array.reshape(1, len(array), -1)
            for block in self._blocks:
                if not load(flat[:, block.place], block.rows[name]):
                    self._check({key: each[None] for key, each in arrays.items()})
        for block in self._blocks:
            for call in block.calls:
                call()
            if self._after:
                block.chunk.state.move_on(1)
        if len(self._blocks) == 1:
            return {name: spikes.copy() for name, spikes in self._blocks[0].spikes.items()}
        names = self._blocks[0].spikes
        return {name: np.concatenate([b.spikes[name] for b in self._blocks]) for name in names}
