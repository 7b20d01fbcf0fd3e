"""One step of a session after the other, with everything prepared that stays the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.blocks import RunClock, Worker
from biril_nm.hardware_sim.engine.feeds import Feed
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.recorder import Recorder
from biril_nm.hardware_sim.engine.state import Chunk, State
from biril_nm.hardware_sim.kernels.loops import load

__all__ = ["Stepper"]

FAR = 1 << 40  # steps behind a session, so that every row of its past exists


class Stepper:
    """Advances a session that does not learn and has no sample periods by single steps.

    Args:
        program: the compiled graph.
        feeds: its inputs.
        state: of all instances, which the session keeps.
        clock: of the session.
        outputs: populations whose spikes are returned.
        check: called with the input by name; raises where a value does not fit.
    """

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        state: State,
        clock: RunClock,
        outputs: tuple[str, ...],
        check: Callable[[Mapping[str, NDArray[np.generic]]], None],
    ) -> None:
        self._recorder = Recorder(program, 1, clock.batch, dict.fromkeys(outputs, ("s",)))
        clock = replace(clock, n_steps=1, age=FAR)
        worker = Worker(program, feeds, clock, self._recorder, (1, clock.batch), state=state)
        self._chunk = Chunk(*worker.memory(clock.batch), 0, 0, 1)
        self._calls = worker.calls(self._chunk)
        self._rows = {name: self._chunk.spikes(name, program.sizes[name]) for name in feeds}
        self._spikes = {name: self._recorder.rows(name)["s"][:, 0] for name in outputs}
        self._moves = any(state.past.values())
        self._check, self._after = check, max(state.past.values(), default=0)
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
            row = self._rows[name]
            if load(array.reshape(1, len(row), -1), row) > 1:
                self._check({key: each[None] for key, each in arrays.items()})
        for call in self._calls:
            call()
        if self._moves:
            self._chunk.state.move_on(1)
        return {name: spikes.copy() for name, spikes in self._spikes.items()}
