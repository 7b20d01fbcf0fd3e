"""Choice of scale and exponents: one neuron node per unit of v becomes integer registers.

All connections into a node share one scale S (integer weight units per unit of v); each has its
own exponent. With all gains folded in, ``w = round(S W / 2**exp)`` on the grid of its sign mode, where rows
and kernels keep their sums (:mod:`balanced_rounding`), ``vth = round(S v_th)`` and ``bias = 64 S b``. S is
searched over the values at which some connection fills its weight range; the one with the smallest
error within all limits is taken. The limit on |u| is proven from the weights where that costs no
precision, else taken from calibration data.

v clips at -2**23, so S also decides how far below zero a membrane can go: ``2**17 / S`` units. Where spikes
do not set v to 0, the same holds above.
The error therefore has three parts: rounding (and clipping) of weights, rounding of the threshold
(0.5 / (S v_th)), and what a lack of that headroom costs (:func:`state_bounds.headroom_cost`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from biril_nm.arrays import IntArray
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.normalised import NormalisedLink, NormalisedNode
from biril_nm.export.lowering.numbers.state_bounds import (
    MARGIN,
    Peaks,
    calibrated_limits,
    headroom,
    headroom_cost,
    proven_limits,
    register_limits,
)
from biril_nm.export.lowering.numbers.weight_grid import AUTO, RoundedWeights, WeightGrid
from biril_nm.export.nir_nodes.repeats import distinct
from biril_nm.loihi import WEIGHT_MAX, WEIGHT_SHIFT, ChipProfile, SignMode
from biril_nm.loihi.fixed_point import bias_registers, round_half_away

__all__ = ["FEW_BITS", "QuantizedLink", "QuantizedNode", "quantize_node"]

# A proven bound on |u| may cost this factor in error.
PROOF_PRICE = 1.05
# Neurons whose largest weight keeps fewer bits are counted.
FEW_BITS = 4
# Below this scale the threshold register has no resolution at all.
SCALE_MIN = 2.0


@dataclass(frozen=True)
class QuantizedLink:
    """Integers of one connection.

    Attributes:
        weight: integer weights, in the same container as the link's.
        weight_exp: exponent.
        weight_bits: bits per weight.
        sign_mode: sign mode.
        facts: JSON-able facts for the report.
    """

    weight: Any
    weight_exp: int
    weight_bits: int
    sign_mode: SignMode
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class QuantizedNode:
    """Integers of one neuron node and its connections.

    Attributes:
        scale: S, integer weight units per unit of v.
        vth: threshold mantissas, without dimensions where all neurons share one.
        bias_mant: bias mantissas.
        bias_exp: their exponent.
        links: connection -> its integers.
        facts: JSON-able facts for the report.
    """

    scale: float
    vth: IntArray
    bias_mant: IntArray
    bias_exp: int
    links: Mapping[str, QuantizedLink]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Choice:
    """A scale, its error, and the limits that it obeys."""

    scale: float | None
    error: float
    bound: str
    limits: Mapping[str, float]


def quantize_node(
    node: NormalisedNode,
    chip: ChipProfile,
    peaks: Peaks | None = None,
    scale_search: str = AUTO,
) -> QuantizedNode:
    """Quantise one neuron node with all connections into it.

    Args:
        node: weights and biases per unit of v.
        chip: register limits.
        peaks: what calibration has seen, or None.
        scale_search: how the largest weight is chosen (:class:`WeightGrid`).

    Raises:
        RangeError: no scale satisfies all limits.
    """
    grids = {link.name: WeightGrid.of(link, chip, scale_search) for link in node.links}
    choice = _choose(node, grids, chip, peaks)
    if choice.scale is None:
        limits = ", ".join(f"{key}: S <= {value:.3g}" for key, value in choice.limits.items())
        raise RangeError(
            f"node '{node.name}': no scale keeps weights, threshold, bias, u and v in range; expected "
            f"S of {SCALE_MIN:g} or more within the limits ({limits}). Reduce the largest weights or "
            f"biases, or pass calibration data"
        )
    links = {link.name: _quantize_link(link, grids[link.name], choice.scale) for link in node.links}
    return _with_registers(node, links, choice.scale, choice, chip)


def _choose(
    node: NormalisedNode, grids: Mapping[str, WeightGrid], chip: ChipProfile, peaks: Peaks | None
) -> _Choice:
    """The scale within proven limits, or within those seen on calibration data where it is better."""
    spiking = node.decays.spiking
    registers = register_limits(node.bias, spiking, chip)
    proven = {**registers, **proven_limits(node.links, node.bias, node.decays)}
    choice = _Choice(*_search(node, grids, proven, peaks), "proven", proven)
    if peaks is None:
        return choice
    seen = {**registers, **calibrated_limits(peaks, spiking)}
    other = _Choice(*_search(node, grids, seen, peaks), f"calibrated, margin {MARGIN:g}", seen)
    better = choice.scale is None or choice.error > PROOF_PRICE * other.error
    if other.scale is not None and better:
        choice = other
    reach = {"v below zero (seen)": peaks.v_below if spiking else 0.0}
    reach["v above zero (seen)"] = peaks.v_above if node.decays.keeps_surplus else 0.0
    seen_limits = {key: headroom(1.0) / peak for key, peak in reach.items() if peak > 0}
    return replace(choice, limits={**choice.limits, **seen_limits})


def _search(
    node: NormalisedNode,
    grids: Mapping[str, WeightGrid],
    limits: Mapping[str, float],
    peaks: Peaks | None,
) -> tuple[float | None, float]:
    """Scale with the smallest error below all limits, and that error."""
    ceiling = min(limits.values(), default=math.inf)
    candidates = {scale for grid in grids.values() for scale in grid.scales()}
    candidates |= {s for link in node.links for s in grids[link.name].exact_scales(link)}
    if math.isfinite(ceiling):
        candidates.add(ceiling)
    if not candidates:
        candidates = {float(WEIGHT_MAX)}
    possible = [
        scale
        for scale in sorted(candidates, reverse=True)
        if SCALE_MIN <= scale <= ceiling
        and all(g.exponent(scale) <= g.exp_max for g in grids.values())
    ]
    best: float | None = None
    best_error = math.inf
    known = {link.name: _errors(link, grids[link.name], possible) for link in node.links}
    for scale in possible:
        error = _error(node, grids, scale, peaks, known)
        if error < best_error * (1 - 1e-9):
            best, best_error = scale, error
    return best, best_error


def _errors(link: NormalisedLink, grid: WeightGrid, scales: Sequence[float]) -> dict[float, float]:
    """Squared error of the weights at each number of grid units per unit of v that the scales come to."""
    units = list(dict.fromkeys(scale / 2.0 ** grid.exponent(scale) for scale in scales))
    return dict(zip(units, grid.errors(link, np.array(units)).tolist()))


def _error(
    node: NormalisedNode,
    grids: Mapping[str, WeightGrid],
    scale: float,
    peaks: Peaks | None,
    known: Mapping[str, Mapping[float, float]],
) -> float:
    """Squared relative error of weights, threshold and negative shifts, and cost of headroom."""
    wrong = total = 0.0
    threshold = node.threshold
    if distinct(threshold).size == 1:
        threshold = distinct(threshold)
    coarse = float(np.mean(threshold**-2.0))
    room = headroom_cost(scale, peaks, node.decays.keeps_surplus)
    shift = (0.5 / scale) ** 2 * coarse + room**2
    for link in node.links:
        grid = grids[link.name]
        exponent = grid.exponent(scale)
        share = float(link.input_max) ** 2
        wrong += share * known[link.name][scale / 2.0**exponent]
        total += share * grid.power
        shift += (0.5 / scale) ** 2 if exponent < 0 else 0.0
    return (wrong / total if total else 0.0) + shift


def _quantize_link(link: NormalisedLink, grid: WeightGrid, scale: float) -> QuantizedLink:
    exponent = grid.exponent(scale)
    rounded = grid.rounded(link, scale / 2.0**exponent)
    return QuantizedLink(
        weight=rounded.weight,
        weight_exp=exponent,
        weight_bits=link.weight_bits,
        sign_mode=grid.mode,
        facts=_link_facts(link, grid, scale, exponent, rounded),
    )


def _with_registers(
    node: NormalisedNode,
    links: Mapping[str, QuantizedLink],
    scale: float,
    choice: _Choice,
    chip: ChipProfile,
) -> QuantizedNode:
    """Threshold and bias at the chosen scale, and what is known about them."""
    vth = _thresholds(node, scale, chip)
    wanted = distinct(node.bias) * scale * (1 << WEIGHT_SHIFT)
    mantissa, bias_exp = bias_registers(wanted, chip.bias_mant_max, chip.bias_exp_max)
    got = mantissa << bias_exp
    finite = {key: value for key, value in choice.limits.items() if math.isfinite(value)}
    facts = {
        "scale": scale,
        "vth": int(vth.max()),
        "vth_min": int(vth.min()),
        "bias_exp": bias_exp,
        "bias_error": float(np.abs(got - wanted).max()) / (scale * (1 << WEIGHT_SHIFT)),
        "overflow_bound": choice.bound,
        "headroom": headroom(scale),
        "limits": finite,
        "margins": {key: value / scale for key, value in finite.items()},
    }
    mantissas = np.broadcast_to(mantissa, node.bias.shape)
    return QuantizedNode(scale, vth, mantissas, bias_exp, links, facts)


def _thresholds(node: NormalisedNode, scale: float, chip: ChipProfile) -> IntArray:
    """Threshold registers; never 0, at which neurons spike by themselves."""
    if not node.decays.spiking:
        return np.array(chip.vth_max)
    threshold = distinct(node.threshold)
    if np.all(threshold == 1.0):
        return round_half_away(np.asarray(scale))
    return np.broadcast_to(np.maximum(round_half_away(threshold * scale), 1), node.threshold.shape)


def _link_facts(
    link: NormalisedLink, grid: WeightGrid, scale: float, exponent: int, rounded: RoundedWeights
) -> dict[str, Any]:
    found = rounded.deviations
    largest = int(found.largest)
    # Bits of the largest weight of each neuron (channel of a convolution) that has weights.
    rows = np.frexp(rounded.row_peaks // grid.step)[1][link.survey.row_peaks > 0]
    weights = int(rounded.weight.size)
    return {
        "scale": scale,
        "weight_exp": exponent,
        "sign_mode": grid.mode.value,
        "step": grid.step,
        "largest": largest,
        "bits_used": (largest // grid.step).bit_length(),
        "bits_worst": int(rows.min(initial=int(rows.max(initial=0)))),
        "neurons_below": int(np.sum(rows < min(FEW_BITS, (grid.top // grid.step).bit_length()))),
        "clipped": int(found.clipped),
        "max_error": found.worst,
        "relative_error": math.sqrt(found.error / found.power) if found.power else 0.0,
        "zeros": int(found.zeros),
        "vanished": bool(found.vanished > 0 and found.zeros == weights),
        "weights": weights,
    }
