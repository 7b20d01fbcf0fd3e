"""Inputs of a session: what earlier runs gave, and samples as one stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.feeds import Feed

__all__ = ["SessionFeed", "sample_rows"]


@dataclass(frozen=True)
class SessionFeed(Feed):
    """Input of one run of a session; steps before 0 are those of earlier runs.

    Attributes:
        past: (n_past, batch, size) last rows of earlier runs, oldest first.
    """

    past: Array = field(default_factory=lambda: np.zeros((0, 0, 0), np.int32))

    @property
    def constant(self) -> bool:
        """Every step has a row of its own, which later runs may read."""
        return False

    def load(self, out: NDArray[Any], b0: int, t0: int) -> None:
        """Write the samples from b0 and steps from t0, which may be negative, that fit ``out``."""
        if t0 >= 0:
            super().load(out, b0, t0)
            return
        n_past = min(-t0, out.shape[1])
        if n_past:
            first = len(self.past) + t0
            rows = self.past[first : first + n_past, b0 : b0 + len(out)]
            out[:, :n_past] = rows.swapaxes(0, 1)
        if out.shape[1] > n_past:
            super().load(out[:, n_past:], b0, 0)


def sample_rows(samples: NDArray[Any], period: int) -> Array:
    """``(n_steps, n_samples, *shape)`` as one stream ``(n_samples * period, 1, *shape)``."""
    n_steps, n_samples = samples.shape[:2]
    rows = np.zeros((n_samples, period, *samples.shape[2:]), samples.dtype)
    rows[:, :n_steps] = samples.swapaxes(0, 1)
    return rows.reshape(n_samples * period, 1, *samples.shape[2:])
