"""Inputs: handed out block by block as rows of spikes, and checked on the way.

A feed never copies the whole input: memory-mapped arrays and repeated images (``np.broadcast_to``,
direct coding) stay what they are, and no value is read twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.kernels.loops import load
from biril_nm.hw_graph import Input, LoihiGraph
from biril_nm.hw_graph.inputs import check_arrays, check_values

__all__ = ["Feed", "StreamFeed", "make_feeds"]


@dataclass(frozen=True)
class Feed:
    """Input of one Input node.

    Attributes:
        values: integers (n_steps, batch, *shape).
        node: the Input node.
        refuse: called when a block holds a value that the input does not carry; raises the error.
    """

    values: NDArray[Any]
    node: Input
    refuse: Callable[[], None]

    @property
    def graded(self) -> bool:
        """Whether the input carries payloads, not only spikes."""
        return self.node.message_bits > 0

    @property
    def constant(self) -> bool:
        """Whether one image is repeated at every step (a view without stride along time)."""
        return self.values.strides[0] == 0

    @property
    def dtype(self) -> type:
        """Type of the spikes that kernels read."""
        return np.int32 if self.graded else np.uint8

    def load(self, out: NDArray[Any], b0: int, t0: int) -> None:
        """Write the samples from b0 and steps from t0 that fit ``out`` (batch, steps, size)."""
        batch, steps = out.shape[:2]
        self._write(out, self.values[t0 : t0 + steps, b0 : b0 + batch])

    def _write(self, out: NDArray[Any], values: NDArray[Any]) -> None:
        """Copy (steps, batch, *shape) into rows (batch, steps, size): payloads, or whether there is one."""
        flat = values.reshape(*values.shape[:2], math.prod(self.node.shape))
        if not self.graded and flat.dtype.isnative:
            if not load(flat.view(f"u{flat.dtype.itemsize}"), out):
                self.refuse()
            return
        if flat.size and (flat.max() > self.node.high or flat.min() < self.node.low):
            self.refuse()
        np.copyto(out, flat.swapaxes(0, 1), casting="unsafe")


@dataclass(frozen=True)
class StreamFeed(Feed):
    """The same input in chip time: one stream, sample i from chip step ``i * period + 1`` on."""

    period: int = 1

    @property
    def constant(self) -> bool:
        """Gaps and samples alternate."""
        return False

    def load(self, out: NDArray[Any], b0: int, t0: int) -> None:
        """Write chip steps from t0 (counted from 0) into ``out`` (1, steps, size)."""
        n_steps, batch = self.values.shape[:2]
        sample, step = np.divmod(np.arange(t0, t0 + out.shape[1]), self.period)
        inside = (step < n_steps) & (sample < batch)
        out[0, ~inside] = 0
        rows = np.empty((1, int(inside.sum()), out.shape[2]), dtype=out.dtype)
        self._write(rows, self.values[step[inside], sample[inside]][:, None])
        out[0, inside] = rows[0]


def make_feeds(graph: LoihiGraph, spikes: Any, learn: bool = False) -> dict[str, Feed]:
    """The input of a run; values are checked when they are read, the rest here.

    Arguments and errors are those of :func:`biril_nm.hw_graph.inputs.check_inputs`.
    """
    arrays = check_arrays(graph.inputs, spikes, () if learn else graph.modulator_inputs)
    refuse = partial(check_values, graph.inputs, arrays)
    return {name: Feed(arrays[name], node, refuse) for name, node in graph.inputs.items()}
