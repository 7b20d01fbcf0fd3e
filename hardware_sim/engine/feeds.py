"""Inputs: checked once, then handed out block by block as rows of spikes.

A feed never copies the whole input: memory-mapped arrays and repeated images (``np.broadcast_to``,
direct coding) stay what they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.kernels.loops import load
from biril_nm.hw_graph import LoihiGraph, Shape
from biril_nm.hw_graph.inputs import check_inputs

__all__ = ["Feed", "StreamFeed", "make_feeds"]


@dataclass(frozen=True)
class Feed:
    """Input of one Input node: ``values`` (n_steps, batch, *shape)."""

    values: NDArray[Any]
    shape: Shape
    graded: bool

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
        flat = values.reshape(*values.shape[:2], math.prod(self.shape))
        if self.graded:
            np.copyto(out, flat.swapaxes(0, 1), casting="unsafe")
        elif flat.dtype.itemsize == 1:
            load(flat.view(np.uint8), out)
        else:
            np.not_equal(flat.swapaxes(0, 1), flat.dtype.type(0), out=out.view(np.bool_))


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
    """The checked input of a run; arguments and errors are those of ``check_inputs``."""
    arrays = check_inputs(graph, spikes, learn)
    return {
        name: Feed(arrays[name], node.shape, node.message_bits > 0)
        for name, node in graph.inputs.items()
    }
