"""How large u and v of a node can become: proven from the weights, or seen on calibration data.

All bounds are per unit of v (:mod:`units`), so that a limit on S follows by division.
With input bounded by A in each step, ``|u| <= A (1 - (1-a)^T) / a`` after T steps, and an integrator's
``|v| <= U (1 - (1-g)^T) / g`` for ``|u| <= U``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from biril_nm.arrays import FloatArray, Shape
from biril_nm.export.lowering.numbers.normalised import Decays, NormalisedLink
from biril_nm.export.nir_nodes.linear_maps import Convolution
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.loihi import STATE_LIMIT, VTH_SHIFT, WEIGHT_SHIFT, ChipProfile

__all__ = [
    "MARGIN",
    "Peaks",
    "calibrated_limits",
    "headroom",
    "headroom_cost",
    "proven_limits",
    "register_limits",
]

# Calibrated peaks are doubled before they limit S.
MARGIN = 2.0
# Relative error that clipping at one unit from zero is taken to cost.
HEADROOM_COST = 0.05
# The reach of v on other data may be this much larger.
HEADROOM_MARGIN = 1.25
# Rounding of weights may exceed the float bound a little.
PROOF_SLACK = 0.98
# Steps for which integrators are proven where the file does not say how long a sample is.
STEPS_UNKNOWN = 256


@dataclass(frozen=True)
class Peaks:
    """Largest values seen on calibration data, per unit of v.

    Attributes:
        u: largest |u|.
        v_below: how far v went below zero.
        v_above: how far it went above.
    """

    u: float = 0.0
    v_below: float = 0.0
    v_above: float = 0.0


def register_limits(bias: FloatArray, spiking: bool, chip: ChipProfile) -> dict[str, float]:
    """S at which threshold and bias reach the ends of their registers."""
    limits = {}
    if spiking:
        limits["threshold"] = float(chip.vth_max - 1)  # the largest says that nothing spikes
    peak = float(np.abs(distinct(bias)).max(initial=0.0))
    if peak > 0:
        limits["bias"] = chip.bias_max / (peak * (1 << WEIGHT_SHIFT))
    return limits


def proven_limits(
    links: Sequence[NormalisedLink], bias: FloatArray, decays: Decays
) -> dict[str, float]:
    """S at which the largest possible input of some neuron reaches the limit of u (or of v)."""
    worst = np.zeros(())
    for sign in (1, -1):
        total = np.zeros(())
        for link in links:
            total = total + _row_bound(link, sign, bias.shape)
        worst = np.maximum(worst, total)
    growth = _growth(distinct(decays.u), decays.n_steps)
    # Where nothing comes in, nothing grows, however long.
    u = worst * np.where(worst > 0, growth, 0.0)
    limits = {"u (proven)": _limit(u) * PROOF_SLACK}
    if not decays.spiking:
        n_steps = decays.n_steps or STEPS_UNKNOWN
        v = (u + np.abs(distinct(bias))) * _growth(distinct(decays.v), n_steps)
        limits["v (proven)"] = _limit(v) * PROOF_SLACK
    return limits


def calibrated_limits(peaks: Peaks, spiking: bool) -> dict[str, float]:
    """S at which observed peaks, doubled, reach the limits of u, and of v of integrators."""
    limits = {"u (calibrated)": _limit(np.array([peaks.u * MARGIN]))}
    if not spiking:
        v = max(peaks.v_below, peaks.v_above)
        limits["v (calibrated)"] = _limit(np.array([v * MARGIN]))
    return limits


def headroom_cost(scale: float, peaks: Peaks | None, keeps_surplus: bool = False) -> float:
    """Relative error that a lack of room below zero is taken to cost, or above where v may grow.

    Without calibration ``HEADROOM_COST / headroom``; with it nothing while v keeps
    :data:`HEADROOM_MARGIN` times what was seen, then growing with the share that clips.
    """
    if peaks is None:
        return HEADROOM_COST / headroom(scale)
    needed = max(peaks.v_below, peaks.v_above * keeps_surplus) * HEADROOM_MARGIN
    return HEADROOM_COST * max(0.0, 1.0 - headroom(scale) / needed) if needed > 0 else 0.0


def headroom(scale: float) -> float:
    """How many units v can go below zero, or above, before it clips."""
    return STATE_LIMIT / (1 << VTH_SHIFT) / scale


def _limit(peak: FloatArray) -> float:
    worst = float(peak.max()) if peak.size else 0.0
    return (STATE_LIMIT - 1) / (1 << WEIGHT_SHIFT) / worst if worst > 0 else math.inf


def _growth(decay: FloatArray, n_steps: int) -> FloatArray:
    """``sum of (1 - decay)^k`` over the steps; over all steps where n_steps is 0."""
    with np.errstate(divide="ignore"):
        endless = np.where(decay > 0, 1.0 / decay, np.inf)
    if not n_steps:
        return endless
    with np.errstate(invalid="ignore"):
        counted = (1.0 - (1.0 - decay) ** n_steps) * endless
    return np.where(decay > 0, counted, float(n_steps))


def _row_bound(link: NormalisedLink, sign: int, shape: Shape) -> FloatArray:
    """Largest input of each neuron (of each channel) of one sign that a link can send in one step."""
    per_row = link.survey.row_sums[sign] * link.input_max
    if isinstance(link.linear, Convolution):
        return per_row.reshape(-1, *[1] * (len(shape) - 1))
    return per_row.reshape(shape)
