"""The scale of each channel with which training starts: where rounded weights are nearest to float ones.

Lowering has one scale for a population. Since each channel has a threshold register, each may have its own,
``factor`` times that of the population: its weights then use the whole grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import FloatArray
from biril_nm.loihi import STATE_LIMIT, WEIGHT_SHIFT

__all__ = ["GridLink", "best_factors"]

FACTORS = np.geomspace(1 / 8, 8, 97)  # steps of 4.4 %; 1 among them
ROOM = 0.95  # share of the range of u that the largest sum may take


@dataclass(frozen=True)
class GridLink:
    """A connection as its target sees it.

    Attributes:
        rows: weights before rounding in steps of the grid at factor 1, ``(channels, n)``.
        low, high: ends of the grid in steps.
        unit: what the largest input makes of a step, in weight units.
    """

    rows: FloatArray
    low: int
    high: int
    unit: float


def best_factors(
    links: Sequence[GridLink], limit: FloatArray, gain: float, shared: bool
) -> FloatArray:
    """Factor of each channel with the smallest squared error of rounding and clipping.

    Args:
        links: all connections into the population.
        limit: largest factor of each channel that the registers of bias and threshold allow.
        gain: what u keeps of a sum that arrives at every step: ``1 / decay``.
        shared: one factor for all channels.

    Returns:
        ``(channels,)``, never above the limits but at least 1 where these are below.
    """
    sums = [np.maximum(x.rows.clip(min=0).sum(1), -x.rows.clip(max=0).sum(1)) for x in links]
    reach = sum(total * x.unit for total, x in zip(sums, links))
    room = ROOM * (STATE_LIMIT >> WEIGHT_SHIFT) / np.maximum(np.asarray(reach) * gain, 1e-9)
    top = np.maximum(np.minimum(limit, room), 1.0)
    error = sum(np.array([_errors(x, factor) for factor in FACTORS]) for x in links)
    error = np.asarray(error)  # (factors, channels)
    if shared:
        error, top = error.sum(1, keepdims=True), top.min(keepdims=True)
    error = np.where(FACTORS[:, None] <= top * (1 + 1e-9), error, np.inf)
    return np.broadcast_to(FACTORS[error.argmin(0)], limit.shape)


def _errors(link: GridLink, factor: float) -> FloatArray:
    """Squared error of each channel, in the units of factor 1, weighted by what its spikes carry."""
    wanted = link.rows * factor
    wrong = np.clip(np.floor(wanted + 0.5), link.low, link.high) - wanted
    share = (link.unit / factor) ** 2
    return np.asarray((wrong**2).sum(1) * share)
