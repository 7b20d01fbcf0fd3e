"""The unit in which each neuron of a population counts its potential.

v of a neuron can be counted in any unit: its weights, biases and threshold in that unit together mean the
same. One scale S serves the whole population, so the unit decides how many bits the weights of each
neuron keep. Where all thresholds are equal, the unit is the threshold. Where they differ there are two
ways: the largest threshold for all (weights stay as they are, the threshold register differs by neuron),
or the threshold of each (one threshold register, weights are divided by it). The one is taken that
keeps the incoming weights of the neurons closest to each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray
from biril_nm.export.nir_nodes.linear_maps import Convolution, Weighted
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.loihi import LOIHI2

__all__ = ["row_peaks", "unit_of"]

# Below this threshold register, rounding it costs more than 1 %.
VTH_ENOUGH = 50


def unit_of(threshold: FloatArray, gain: FloatArray, maps: Sequence[Weighted]) -> FloatArray:
    """Potential per unit of each neuron, in the shape of the node, perhaps as a view that repeats itself.

    Args:
        threshold: of each neuron; infinite where none spikes, which counts in volts.
        gain: of each neuron's weights.
        maps: all maps into the node.
    """
    known = distinct(threshold)
    if not np.all(np.isfinite(known)):
        return np.broadcast_to(1.0, np.shape(threshold))
    largest = float(np.max(known))
    if np.all(known == largest) or np.min(known) * LOIHI2.vth_max < VTH_ENOUGH * largest:
        return np.asarray(threshold)
    shared = np.broadcast_to(largest, np.shape(threshold))
    spreads = [
        min((_spread(linear, gain / unit) for linear in maps), default=1.0)
        for unit in (shared, threshold)
    ]
    return shared if spreads[0] >= spreads[1] else np.asarray(threshold)


def _spread(linear: Weighted, factor: FloatArray) -> float:
    """Smallest over largest weight peak of the neurons; neurons without weights do not count."""
    peaks = row_peaks(linear.weight)
    if isinstance(linear, Convolution):
        peaks = np.repeat(peaks, factor.size // peaks.size)
    peaks = peaks * np.abs(np.broadcast_to(factor, linear.out_shape).ravel())
    peaks = peaks[peaks > 0]
    return float(peaks.min() / peaks.max()) if peaks.size else 1.0


def row_peaks(weight: Any) -> FloatArray:
    """Largest |weight| of each row of a matrix, or of each kernel of a convolution."""
    size = np.abs(weight)
    if scipy.sparse.issparse(size):
        return np.asarray(size.max(axis=1).todense(), dtype=np.float64).ravel()
    return np.asarray(size.reshape(size.shape[0], -1).max(axis=1, initial=0), dtype=np.float64)
