"""How output neurons decide: the score of each class, of which the highest wins.

m is the membrane potential after the last step per threshold, ``v / threshold``.

============  =====================================================================
decision      the class that wins has
============  =====================================================================
``count``     the most spikes; among equals the highest m
``score``     the highest ``n_spikes + m``: m far below zero outweighs spikes
``membrane``  the highest m
============  =====================================================================

This file imports nothing of biril-nm: bundles for Lava hold a copy of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DECISIONS", "DEFAULT_DECISION", "OLD_DECISION", "class_scores"]

# How output neurons decide (:mod:`biril_nm.decision`).
DECISIONS = ("count", "score", "membrane")
DEFAULT_DECISION = "count"  # where a caller says nothing
OLD_DECISION = "score"  # of files of biril-nm 0.1, which do not say


def class_scores(decision: str, spikes: Any, v_last: Any, threshold: Any) -> NDArray[np.float64]:
    """Score of each class, from integers or floats; the prediction is the first highest one.

    ``score``: ``n_spikes + v_last / threshold``. ``membrane``: ``v_last / threshold``. ``count``:
    ``n_spikes + share``, where share is the part of all classes whose membrane is lower, below 1.

    Args:
        decision: one of :data:`DECISIONS`.
        spikes: ``(n_steps, batch, n_classes)``.
        v_last: ``(batch, n_classes)``.
        threshold: in units of ``v_last``, one or ``(n_classes,)``; 0 counts as 1.

    Shape: ``(batch, n_classes)``. Scores of integers with one threshold are in exact order.
    """
    count = np.asarray(spikes).sum(axis=0).astype(np.int64)
    v, one = np.asarray(v_last), np.asarray(threshold)
    v, one = (x.astype(np.float64 if x.dtype.kind == "f" else np.int64) for x in (v, one))
    one = np.where(one > 0, one, 1)
    if decision == "score":
        return np.asarray((count * one + v) / one, dtype=np.float64)
    membrane = np.asarray(v / one, dtype=np.float64)
    if decision == "membrane":
        return membrane
    return np.asarray(count + _places(membrane) / max(1, membrane.shape[-1]))


def _places(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many distinct lower values stand in the same row."""
    order = np.argsort(values, axis=-1)
    rising = np.take_along_axis(values, order, axis=-1)
    steps = np.diff(rising, axis=-1, prepend=rising[..., :1]) > 0
    places = np.empty(values.shape, dtype=np.int64)
    np.put_along_axis(places, order, np.cumsum(steps, axis=-1, dtype=np.int64), axis=-1)
    return places
