"""What the kernels of training take: the records of a pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.kernels.records import ResetMasks

__all__ = [
    "ANY",
    "IF",
    "LIF",
    "SCRATCH_ROWS",
    "SLOPES",
    "Gradients",
    "Registers",
    "Slope",
    "Span",
    "Spikes",
    "States",
]

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]

# Forms of the step: no memory but v and reset to zero at once, without and with decay of v; all others.
IF, LIF, ANY = 0, 1, 2
SLOPES = ("sigmoid", "fast_sigmoid", "atan", "straight_through")
SCRATCH_ROWS = 5  # of the backward pass, beside two for each step


class Span(NamedTuple):
    """Samples ``first`` to ``last`` of a batch, and the number of steps."""

    first: int
    last: int
    n_steps: int


class Registers(NamedTuple):
    """What a step needs: form, decay of v of all (LIF), and arrays ``(C, P)`` in units of v, 1 / theta."""

    form: int
    keep: np.int32
    keep_u: IntArray
    keep_v: IntArray
    bias: IntArray
    theta: IntArray
    inverse: FloatArray
    masks: ResetMasks


class Spikes(NamedTuple):
    """Spikes ``(T, N, C, P)``, or sums over blocks of ``high`` x ``wide`` in rows of ``row`` neurons."""

    values: FloatArray
    high: int
    wide: int
    row: int


class States(NamedTuple):
    """Last v ``(N, C, P)``, or room for one sample; u and v of all steps, or none."""

    v: IntArray
    all_u: IntArray
    all_v: IntArray


class Slope(NamedTuple):
    """Surrogate ``psi(y / theta - 1)``: its number in :data:`SLOPES`, and its parameter."""

    kind: int
    k: np.float32


class Gradients(NamedTuple):
    """Given: of the spikes, of the last v ``(N or 1, C, P)``. Added to: of a, bias, theta ``(C, P)``."""

    s: Spikes
    v: FloatArray
    a: FloatArray
    bias: FloatArray
    theta: FloatArray
