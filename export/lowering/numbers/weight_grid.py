"""The integers that one connection's weights can be, and the range of floats they should cover."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray, IntArray
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.balanced_rounding import round_keeping_sums
from biril_nm.export.lowering.numbers.normalised import NormalisedLink
from biril_nm.export.lowering.numbers.rounding_kernels import grid_error
from biril_nm.export.nir_nodes.linear_maps import Convolution, LinearMap
from biril_nm.loihi import MIXED_WEIGHT_MIN, WEIGHT_MAX, ChipProfile, SignMode
from biril_nm.loihi.fixed_point import sign_mode_of, weight_step

__all__ = ["AUTO", "SCALE_SEARCHES", "WeightGrid"]

AUTO = "auto"
SCALE_SEARCHES = (AUTO, "max", "percentile", "mse")
# From so many bits on, "auto" clips nothing.
PLENTY_BITS = 5
# Share of weights that "percentile" keeps from clipping.
PERCENTILE = 99.9
# Clip levels that "mse" tries, from CLIP_LOWEST of the largest weight to all of it.
CLIP_LEVELS = 36
CLIP_LOWEST = 0.3
# No grid holds more different magnitudes than half of this.
LEVELS_MAX = 2 * WEIGHT_MAX
# Share of the largest weight that float32 cannot resolve.
UNIT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class WeightGrid:
    """Integer grid of one connection.

    Attributes:
        mode: sign mode.
        step: distance of grid points at exponent 0.
        top: largest magnitude at exponent 0.
        exp_min: smallest exponent.
        exp_max: largest exponent.
        peak: float magnitude that ``top`` stands for; weights above it are clipped.
        power: sum of squares of the weights.
    """

    mode: SignMode
    step: int
    top: int
    exp_min: int
    exp_max: int
    peak: float
    power: float

    @staticmethod
    def of(link: NormalisedLink, chip: ChipProfile, search: str = AUTO) -> WeightGrid:
        """Grid of a link; ``search`` chooses its peak (:data:`SCALE_SEARCHES`).

        ``max`` clips nothing, ``percentile`` lets the largest 0.1 % of weights clip, ``mse`` takes the
        clip level at which rounding and clipping together have the smallest squared error. ``auto`` is
        ``mse`` below 5 bits, else ``max``.

        Raises:
            RangeError: one bit cannot hold weights of both signs.
        """
        values, weight_bits = link.values, link.weight_bits
        if search == AUTO:
            search = "max" if weight_bits >= PLENTY_BITS else "mse"
        mode = sign_mode_of(values)
        step = weight_step(weight_bits, mode)
        top = -MIXED_WEIGHT_MIN - step if mode is SignMode.MIXED else (WEIGHT_MAX // step) * step
        low = 0 if isinstance(link.linear, Convolution) else chip.weight_exp_min
        if top == 0:
            raise RangeError(
                f"connection '{link.name}' has weights of both signs, of which {weight_bits} bit keeps "
                f"only the negative ones; expected weights of one sign. Split it by sign, or use weight_bits "
                f"of 2 or more"
            )
        peak = float(np.abs(values).max()) if values.size else 0.0
        power = float(np.sum(values**2))
        grid = WeightGrid(mode, step, top, low, chip.weight_exp_max, peak, power)
        if search == "max" or peak == 0.0:
            return grid
        return replace(grid, peak=grid._clip(values, search))

    def _clip(self, values: FloatArray, search: str) -> float:
        magnitude = np.abs(values)
        if search == "percentile":
            return float(np.percentile(magnitude[magnitude > 0], PERCENTILE))
        levels = self.peak * np.linspace(CLIP_LOWEST, 1.0, CLIP_LEVELS)
        errors = [self.error(values, self.top / level, 0) for level in levels]
        return float(levels[int(np.argmin(errors))])

    def exponent(self, scale: float) -> int:
        """Smallest exponent at which the peak fits; may exceed ``exp_max``."""
        if self.peak == 0.0:
            return 0
        return max(self.exp_min, math.ceil(math.log2(scale * self.peak / self.top) - 1e-12))

    def scales(self) -> list[float]:
        """Scales at which the peak fills the range, one per exponent."""
        exponents = range(self.exp_min, self.exp_max + 1)
        return [self.top * 2.0**k / self.peak for k in exponents] if self.peak > 0 else []

    def exact_scales(self, values: FloatArray) -> list[float]:
        """Scales at which every weight is a grid point; none where they share no common unit."""
        if np.unique(np.abs(values[:LEVELS_MAX])).size * 2 > LEVELS_MAX:
            return []
        levels = np.unique(np.abs(values))
        levels = levels[levels > 0]
        if not levels.size or self.peak < levels[-1]:
            return []
        unit = float(levels[0])
        for level in levels[1:]:
            rest = float(level)
            while rest > UNIT_TOLERANCE * self.peak:
                unit, rest = rest, unit % rest
        counts = levels / unit
        room = self.top // self.step // max(1, int(np.rint(counts[-1])))
        if room < 1 or np.any(np.abs(counts - np.rint(counts)) > UNIT_TOLERANCE * counts[-1]):
            return []
        exponents = range(self.exp_min, self.exp_max + 1)
        return [room * self.step * 2.0**k / unit for k in exponents]

    @property
    def low(self) -> int:
        """Smallest integer of the grid."""
        return -self.top if self.mode is not SignMode.EXCITATORY else 0

    @property
    def high(self) -> int:
        """Largest integer of the grid."""
        return self.top if self.mode is not SignMode.INHIBITORY else 0

    def error(self, values: FloatArray, scale: float, exponent: int) -> float:
        """Squared error of rounding to the nearest grid point and clipping, summed."""
        return float(grid_error(values, scale / 2.0**exponent, self.step, self.low, self.high))

    def round_map(self, linear: LinearMap, scale: float, exponent: int) -> IntArray:
        """Grid integers of all stored weights of a map, flat, rows and kernels keeping their sums."""
        weight: Any = linear.weight
        units = scale / 2.0**exponent
        if not scipy.sparse.issparse(weight):
            rows = weight.reshape(-1, int(np.prod(weight.shape[weight.ndim // 2 :]))) * units
            return round_keeping_sums(rows, self.step, self.low, self.high).ravel()
        length = np.diff(weight.indptr)
        row = np.repeat(np.arange(len(length)), length)
        column = np.arange(weight.nnz) - np.repeat(weight.indptr[:-1], length)
        padded = np.zeros((len(length), int(length.max(initial=1))))
        padded[row, column] = weight.data * units
        rounded = round_keeping_sums(padded, self.step, self.low, self.high)
        return np.asarray(rounded[row, column], dtype=np.int64)
