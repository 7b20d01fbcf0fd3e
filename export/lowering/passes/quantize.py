"""Choice of scale and exponents: float links of one neuron node to integer registers.

All connections into a node share one scale S (integer weight units per threshold), each has its
own exponent. With row gains folded in, ``w = round(S W / 2**exp)`` on the grid of its sign mode, rows and
kernels keeping their sums (:mod:`balanced_rounding`),
``vth = round(S)``, ``bias = 64 S b``. S is searched over the values at which some connection fills
its weight range; the one with the smallest error within all limits is taken. The limit on |u| is
proven from the weights where that costs no precision, else taken from calibration data.

v clips at -2**23, so S also decides how far below zero a membrane can go: ``2**17 / S`` thresholds.
The error therefore has three parts: rounding (and clipping) of weights, rounding of the threshold
(0.5 / S), and what a lack of that headroom costs (:func:`state_bounds.headroom_cost`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.state_bounds import (
    MARGIN,
    Decays,
    Peaks,
    calibrated_limits,
    headroom,
    headroom_cost,
    proven_limits,
    register_limits,
)
from biril_nm.export.lowering.numbers.weight_grid import Scaled, WeightGrid
from biril_nm.loihi import WEIGHT_MAX, WEIGHT_SHIFT, ChipProfile, SignMode
from biril_nm.loihi.fixed_point import bias_registers, round_half_away

__all__ = ["QuantizedNode", "quantize_node"]

PROOF_PRICE = 1.05  # a proven bound on |u| may cost this factor in error
SCALE_MIN = 2.0  # below this the threshold register has no resolution at all


@dataclass(frozen=True)
class QuantizedNode:
    """Integers of one neuron node and its connections.

    Attributes:
        scale: S, integer weight units per threshold.
        vth: threshold mantissa.
        bias_mant: bias mantissas.
        bias_exp: their exponent.
        weights: connection -> integer weights, same container as the link's.
        weight_exp: connection -> exponent.
        sign_mode: connection -> sign mode.
        facts: JSON-able facts for the report.
        link_facts: the same per connection.
    """

    scale: float
    vth: int
    bias_mant: IntArray
    bias_exp: int
    weights: Mapping[str, Any]
    weight_exp: Mapping[str, int]
    sign_mode: Mapping[str, SignMode]
    facts: Mapping[str, Any]
    link_facts: Mapping[str, Mapping[str, Any]]


def quantize_node(
    name: str,
    links: Sequence[Scaled],
    bias: FloatArray,
    decays: Decays,
    chip: ChipProfile,
    weight_bits: int,
    peaks: Peaks | None = None,
    scale_search: str = "max",
) -> QuantizedNode:
    """Quantise one neuron node with all connections into it.

    Args:
        name: node name, for messages.
        links: incoming links, gains and threshold folded in.
        bias: constant drive per threshold, shape of the node.
        decays: how u and v decay, and whether the node spikes.
        chip: register limits.
        weight_bits: bits per weight, 1 to 8.
        peaks: what calibration has seen, or None.
        scale_search: how the largest weight is chosen (:class:`WeightGrid`).

    Raises:
        RangeError: no scale satisfies all limits.
    """
    grids = {link.name: WeightGrid.of(link, chip, weight_bits, scale_search) for link in links}
    registers = register_limits(bias, decays.spiking, chip)
    limits = {**registers, **proven_limits(links, bias, decays)}
    chosen, error = _search(links, grids, limits, peaks)
    bound = "proven"
    if peaks is not None:
        seen = {**registers, **calibrated_limits(peaks, decays.spiking)}
        other, other_error = _search(links, grids, seen, peaks)
        if other is not None and (chosen is None or error > PROOF_PRICE * other_error):
            chosen, bound, limits = other, f"calibrated, margin {MARGIN:g}", seen
        if decays.spiking and peaks.v_below > 0:
            limits = {**limits, "v below zero (seen)": headroom(1.0) / peaks.v_below}
    if chosen is None:
        told = ", ".join(f"{key}: S <= {value:.3g}" for key, value in limits.items())
        raise RangeError(
            f"node '{name}': no scale keeps weights, threshold, bias, u and v in range ({told}); reduce "
            f"the largest weights or biases, or pass calibration data"
        )
    return _registers(links, grids, bias, decays.spiking, chosen, chip, bound, limits)


def _search(
    links: Sequence[Scaled],
    grids: Mapping[str, WeightGrid],
    limits: Mapping[str, float],
    peaks: Peaks | None,
) -> tuple[float | None, float]:
    """Scale with the smallest error below all limits, and that error."""
    ceiling = min(limits.values(), default=math.inf)
    candidates = {scale for grid in grids.values() for scale in grid.scales()}
    candidates |= {s for link in links for s in grids[link.name].exact_scales(link.values)}
    if math.isfinite(ceiling):
        candidates.add(ceiling)
    if not candidates:
        candidates = {float(WEIGHT_MAX)}
    best: float | None = None
    best_error = math.inf
    known: dict[tuple[str, float], float] = {}
    for scale in sorted(candidates, reverse=True):
        if not SCALE_MIN <= scale <= ceiling or any(
            g.exponent(scale) > g.exp_max for g in grids.values()
        ):
            continue
        error = _error(links, grids, scale, peaks, known)
        if error < best_error * (1 - 1e-9):
            best, best_error = scale, error
    return best, best_error


def _error(
    links: Sequence[Scaled],
    grids: Mapping[str, WeightGrid],
    scale: float,
    peaks: Peaks | None,
    known: dict[tuple[str, float], float],
) -> float:
    """Squared relative error of weights, threshold and negative shifts, and cost of headroom.

    ``known``: errors of weights at grid units per threshold that were seen before.
    """
    wrong = total = 0.0
    shift = (0.5 / scale) ** 2 + headroom_cost(scale, peaks) ** 2
    for link in links:
        grid = grids[link.name]
        exponent = grid.exponent(scale)
        key = (link.name, scale / 2.0**exponent)
        if key not in known:
            known[key] = grid.error(link.values, scale, exponent)
        share = float(link.input_max) ** 2
        wrong += share * known[key]
        total += share * grid.power
        shift += (0.5 / scale) ** 2 if exponent < 0 else 0.0
    return (wrong / total if total else 0.0) + shift


def _registers(
    links: Sequence[Scaled],
    grids: Mapping[str, WeightGrid],
    bias: FloatArray,
    spiking: bool,
    scale: float,
    chip: ChipProfile,
    bound: str,
    limits: Mapping[str, float],
) -> QuantizedNode:
    weights, exponents, modes, link_facts = {}, {}, {}, {}
    for link in links:
        grid = grids[link.name]
        exponent = grid.exponent(scale)
        integers = grid.round_map(link.linear, scale, exponent)
        weights[link.name] = _refill(link.linear.weight, integers)
        exponents[link.name], modes[link.name] = exponent, grid.mode
        link_facts[link.name] = _link_facts(link, grid, scale, exponent, integers)
    vth = int(round_half_away(scale)) if spiking else chip.vth_max
    wanted = bias * scale * (1 << WEIGHT_SHIFT)
    mantissa, bias_exp = bias_registers(wanted, chip.bias_mant_max, chip.bias_exp_max)
    got = mantissa << bias_exp
    facts = {
        "scale": scale,
        "vth": vth,
        "bias_exp": bias_exp,
        "bias_error": float(np.abs(got - wanted).max()) / (scale * (1 << WEIGHT_SHIFT)),
        "overflow_bound": bound,
        "headroom": headroom(scale),
        "limits": {key: value for key, value in limits.items() if math.isfinite(value)},
        "margins": {k: value / scale for k, value in limits.items() if math.isfinite(value)},
    }
    return QuantizedNode(
        scale, vth, mantissa, bias_exp, weights, exponents, modes, facts, link_facts
    )


def _refill(weight: Any, integers: IntArray) -> Any:
    if scipy.sparse.issparse(weight):
        return scipy.sparse.csr_matrix(
            (integers, weight.indices, weight.indptr), shape=weight.shape
        )
    return integers.reshape(weight.shape)


def _link_facts(
    link: Scaled, grid: WeightGrid, scale: float, exponent: int, integers: IntArray
) -> dict[str, Any]:
    ideal = link.values * scale / 2.0**exponent
    difference = integers - ideal
    rms = math.sqrt(float(np.mean(ideal**2))) if ideal.size else 0.0
    largest = int(np.abs(integers).max()) if integers.size else 0
    return {
        "scale": scale,
        "weight_exp": exponent,
        "sign_mode": grid.mode.value,
        "step": grid.step,
        "largest": largest,
        "bits_used": (largest // grid.step).bit_length(),
        "clipped": int(np.sum(np.abs(ideal) > grid.top + grid.step / 2)),
        "max_error": float(np.abs(difference).max()) if difference.size else 0.0,
        "relative_error": math.sqrt(float(np.mean(difference**2))) / rms if rms else 0.0,
        "zeros": int(np.sum(integers == 0)),
        "vanished": bool(np.any(link.values) and not np.any(integers)),
        "weights": int(integers.size),
    }
