"""Choice of scale and exponents: float links of one neuron node to integer registers.

All connections into a node share one scale S (integer weight units per threshold), each has its
own exponent. With row gains folded in, ``w = round(S W / 2**exp)`` on the grid of its sign mode,
``vth = round(S)``, ``bias = 64 S b``. S is searched over the values at which some connection fills
its weight range; the one with the smallest error within all limits is taken. The limit on |u| is
proven from the weights where that costs no precision, else taken from calibration data.

v clips at -2**23, so S also decides how far below zero a membrane can go: ``2**17 / S`` thresholds.
The error therefore has three parts: rounding of weights, rounding of the threshold (0.5 / S), and
:data:`HEADROOM_COST` divided by that headroom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from biril_nm.errors import RangeError
from biril_nm.export.passes.linear_maps import Convolution, LinearMap
from biril_nm.fixed_point import bias_registers, round_half_away, sign_mode_of, weight_step
from biril_nm.loihi import (
    MIXED_WEIGHT_MIN,
    STATE_LIMIT,
    VTH_SHIFT,
    WEIGHT_MAX,
    WEIGHT_SHIFT,
    ChipProfile,
    SignMode,
)

__all__ = ["QuantizedNode", "Scaled", "quantize_node"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
CALIBRATION_MARGIN = 2.0  # calibrated peaks are doubled before they limit S
PROOF_PRICE = 1.05  # a proven bound on |u| may cost this factor in error
HEADROOM_COST = 0.05  # relative error that one threshold of room below zero is taken to cost
SCALE_MIN = 2.0  # below this the threshold register has no resolution at all


@dataclass(frozen=True)
class Scaled:
    """One link with all gains folded in: W per threshold, and the largest value it receives."""

    name: str
    linear: LinearMap
    input_max: int

    @property
    def values(self) -> FloatArray:
        """Stored weights, flat."""
        weight = self.linear.weight
        return np.asarray(weight.data if scipy.sparse.issparse(weight) else weight).ravel()


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


@dataclass(frozen=True)
class _Grid:
    """Integer grid of one connection: step and largest magnitude at exponent 0."""

    mode: SignMode
    step: int
    top: int
    exp_min: int
    exp_max: int
    peak: float

    @staticmethod
    def of(link: Scaled, chip: ChipProfile, weight_bits: int) -> _Grid:
        mode = sign_mode_of(link.values)
        step = weight_step(weight_bits, mode)
        top = -MIXED_WEIGHT_MIN - step if mode is SignMode.MIXED else (WEIGHT_MAX // step) * step
        low = 0 if isinstance(link.linear, Convolution) else chip.weight_exp_min
        peak = float(np.abs(link.values).max()) if link.values.size else 0.0
        if top == 0:
            raise RangeError(
                f"connection '{link.name}' has weights of both signs, of which {weight_bits} bit keeps "
                f"only the negative ones; use weight_bits of 2 or more"
            )
        return _Grid(mode, step, top, low, chip.weight_exp_max, peak)

    def exponent(self, scale: float) -> int:
        """Smallest exponent at which the largest weight fits; may exceed ``exp_max``."""
        if self.peak == 0.0:
            return 0
        return max(self.exp_min, math.ceil(math.log2(scale * self.peak / self.top) - 1e-12))

    def round(self, values: FloatArray, scale: float, exponent: int) -> IntArray:
        """Nearest grid point (halves away from zero) within the range."""
        nearest = round_half_away(values * (scale / 2.0**exponent / self.step)) * self.step
        low = -self.top if self.mode is not SignMode.EXCITATORY else 0
        high = self.top if self.mode is not SignMode.INHIBITORY else 0
        return np.clip(nearest, low, high)


def quantize_node(
    name: str,
    links: Sequence[Scaled],
    bias: FloatArray,
    spiking: bool,
    u_decay: float,
    chip: ChipProfile,
    weight_bits: int,
    calibrated_peak: float | None,
) -> QuantizedNode:
    """Quantise one neuron node with all connections into it.

    Args:
        name: node name, for messages.
        links: incoming links, gains and threshold folded in.
        bias: constant drive per threshold, shape of the node.
        spiking: whether the node has a threshold.
        u_decay: smallest fraction that u loses per step (1: no synaptic memory).
        chip: register limits.
        weight_bits: bits per weight, 1 to 8.
        calibrated_peak: largest summed input seen in calibration, per threshold, or None.

    Raises:
        RangeError: no scale satisfies all limits.
    """
    grids = {link.name: _Grid.of(link, chip, weight_bits) for link in links}
    limits = _limits(bias, spiking, chip)
    proven = _proven_limit(links, u_decay)
    chosen, error = _search(links, grids, bias, {**limits, "peak of u (proven)": proven})
    bound = "proven"
    if calibrated_peak is not None and calibrated_peak > 0:
        peak = calibrated_peak * CALIBRATION_MARGIN / u_decay
        limit = _input_limit() / peak
        other, other_error = _search(
            links, grids, bias, {**limits, "peak of u (calibrated)": limit}
        )
        if other is not None and (chosen is None or error > PROOF_PRICE * other_error):
            chosen, bound = other, f"calibrated, margin {CALIBRATION_MARGIN:g}"
    if chosen is None:
        raise RangeError(
            f"node '{name}': no scale keeps weights, threshold, bias and u in range "
            f"({', '.join(f'{k}: S <= {v:.3g}' for k, v in {**limits, 'u': proven}.items())}); "
            f"reduce the largest weights or biases"
        )
    return _registers(name, links, grids, bias, spiking, chosen, chip, bound, limits)


def _input_limit() -> float:
    return (STATE_LIMIT - 1) / (1 << WEIGHT_SHIFT)


def headroom(scale: float) -> float:
    """How many thresholds v can go below zero before it clips."""
    return STATE_LIMIT / (1 << VTH_SHIFT) / scale


def _limits(bias: FloatArray, spiking: bool, chip: ChipProfile) -> dict[str, float]:
    limits = {}
    if spiking:
        limits["threshold"] = float(chip.vth_max)
    peak = float(np.abs(bias).max()) if bias.size else 0.0
    if peak > 0:
        limits["bias"] = chip.bias_max / (peak * (1 << WEIGHT_SHIFT))
    return limits


def _proven_limit(links: Sequence[Scaled], u_decay: float) -> float:
    """S at which the largest possible summed input reaches the limit of u."""
    high = sum(_row_bound(link, +1) for link in links)
    low = sum(_row_bound(link, -1) for link in links)
    worst = max(float(high), float(low)) / u_decay
    return _input_limit() / worst * 0.98 if worst > 0 else math.inf


def _row_bound(link: Scaled, sign: int) -> float:
    weight: Any = link.linear.weight
    if isinstance(link.linear, Convolution):
        per_row = np.maximum(sign * weight, 0).reshape(weight.shape[0], -1).sum(axis=1)
    elif scipy.sparse.issparse(weight):
        per_row = np.asarray((sign * weight).maximum(0).sum(axis=1))
    else:
        per_row = np.maximum(sign * weight, 0).sum(axis=1)
    return float(per_row.max()) * link.input_max if per_row.size else 0.0


def _search(
    links: Sequence[Scaled],
    grids: Mapping[str, _Grid],
    bias: FloatArray,
    limits: Mapping[str, float],
) -> tuple[float | None, float]:
    """Scale with the smallest error below all limits, and that error."""
    ceiling = min(limits.values(), default=math.inf)
    candidates = {
        grid.top * 2.0**k / grid.peak
        for grid in grids.values()
        if grid.peak > 0
        for k in range(grid.exp_min, grid.exp_max + 1)
    }
    if math.isfinite(ceiling):
        candidates.add(ceiling)
    if not candidates:
        candidates = {float(WEIGHT_MAX)}
    best: float | None = None
    best_error = math.inf
    for scale in sorted(candidates, reverse=True):
        if not SCALE_MIN <= scale <= ceiling or any(
            g.exponent(scale) > g.exp_max for g in grids.values()
        ):
            continue
        error = _error(links, grids, scale)
        if error < best_error * (1 - 1e-9):
            best, best_error = scale, error
    return best, best_error


def _error(links: Sequence[Scaled], grids: Mapping[str, _Grid], scale: float) -> float:
    """Squared relative error of weights, threshold and negative shifts, and cost of headroom."""
    wrong = total = 0.0
    shift = (0.5 / scale) ** 2 + (HEADROOM_COST / headroom(scale)) ** 2
    for link in links:
        grid, values = grids[link.name], link.values
        exponent = grid.exponent(scale)
        back = grid.round(values, scale, exponent) * (2.0**exponent / scale)
        share = float(link.input_max) ** 2
        wrong += share * float(np.sum((back - values) ** 2))
        total += share * float(np.sum(values**2))
        shift += (0.5 / scale) ** 2 if exponent < 0 else 0.0
    return (wrong / total if total else 0.0) + shift


def _registers(
    name: str,
    links: Sequence[Scaled],
    grids: Mapping[str, _Grid],
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
        integers = grid.round(link.values, scale, exponent)
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
    link: Scaled, grid: _Grid, scale: float, exponent: int, integers: IntArray
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
        "clipped": int(np.sum(np.abs(difference) > grid.step / 2 + 1e-6)),
        "max_error": float(np.abs(difference).max()) if difference.size else 0.0,
        "relative_error": math.sqrt(float(np.mean(difference**2))) / rms if rms else 0.0,
        "zeros": int(np.sum(integers == 0)),
        "weights": int(integers.size),
    }
