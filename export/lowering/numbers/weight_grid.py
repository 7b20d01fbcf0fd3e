"""The integers that one connection's weights can be, and the range of floats they should cover."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from biril_nm.arrays import FloatArray
from biril_nm.errors import RangeError
from biril_nm.export.lowering.numbers.balanced_rounding import round_keeping_sums
from biril_nm.export.lowering.numbers.normalised import BLOCK, NormalisedLink
from biril_nm.export.lowering.numbers.rounding_kernels import deviations, grid_errors
from biril_nm.export.lowering.numbers.units import row_peaks
from biril_nm.export.nir_nodes.linear_maps import Convolution
from biril_nm.loihi import MIXED_WEIGHT_MIN, WEIGHT_MAX, ChipProfile, SignMode
from biril_nm.loihi.fixed_point import sign_mode_of, weight_step

__all__ = ["AUTO", "SCALE_SEARCHES", "Deviations", "RoundedWeights", "WeightGrid"]

AUTO = "auto"
SCALE_SEARCHES = (AUTO, "max", "percentile", "mse")
# From so many bits on, "auto" clips nothing.
PLENTY_BITS = 5
# Share of weights that "percentile" keeps from clipping.
PERCENTILE = 99.9
# Clip levels that "mse" tries, from CLIP_LOWEST of the largest weight to all of it.
CLIP_LEVELS = 36
CLIP_LOWEST = 0.3
# No grid holds more different magnitudes than half of this, zero not counted.
LEVELS_MAX = 2 * WEIGHT_MAX
# Share of the largest weight that float32 cannot resolve.
UNIT_TOLERANCE = 1e-6
# Share of the largest weight by which no two weights of one grid point differ.
APART = 3 * UNIT_TOLERANCE


class Deviations(NamedTuple):
    """How integers differ from the ideal values, over all weights.

    Attributes:
        power, error: sums of squares of the ideal values and of the differences.
        worst: the largest difference.
        largest: the largest integer.
        clipped: ideal values beyond the grid.
        zeros: integers that are 0.
        vanished: those of weights that are not 0.
    """

    power: float
    error: float
    worst: float
    largest: float
    clipped: float
    zeros: float
    vanished: float


class RoundedWeights(NamedTuple):
    """Integers of a link, in a container like that of its weights, and what they keep of them.

    Attributes:
        weight: the integers.
        row_peaks: the largest of each row of a matrix, or of each output channel.
        deviations: from the ideal values.
    """

    weight: Any
    row_peaks: FloatArray
    deviations: Deviations


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
        weights, weight_bits = link.survey, link.weight_bits
        if search == AUTO:
            search = "max" if weight_bits >= PLENTY_BITS else "mse"
        mode = sign_mode_of(np.array([weights.low, weights.high]))
        step = weight_step(weight_bits, mode)
        top = -MIXED_WEIGHT_MIN - step if mode is SignMode.MIXED else (WEIGHT_MAX // step) * step
        low = 0 if isinstance(link.linear, Convolution) else chip.weight_exp_min
        if top == 0:
            raise RangeError(
                f"connection '{link.name}' has weights of both signs, of which {weight_bits} bit keeps "
                f"only the negative ones; expected weights of one sign. Split it by sign, or use weight_bits "
                f"of 2 or more"
            )
        grid = WeightGrid(mode, step, top, low, chip.weight_exp_max, weights.peak, weights.power)
        if search == "max" or grid.peak == 0.0:
            return grid
        return replace(grid, peak=grid._clip(link, search))

    def _clip(self, link: NormalisedLink, search: str) -> float:
        if search == "percentile":
            magnitude = np.abs(link.values)
            return float(np.percentile(magnitude[magnitude > 0], PERCENTILE))
        levels = self.peak * np.linspace(CLIP_LOWEST, 1.0, CLIP_LEVELS)
        return float(levels[int(np.argmin(self.errors(link, self.top / levels)))])

    def exponent(self, scale: float) -> int:
        """Smallest exponent at which the peak fits; may exceed ``exp_max``."""
        if self.peak == 0.0:
            return 0
        return max(self.exp_min, math.ceil(math.log2(scale * self.peak / self.top) - 1e-12))

    def scales(self) -> list[float]:
        """Scales at which the peak fills the range, one per exponent."""
        exponents = range(self.exp_min, self.exp_max + 1)
        return [self.top * 2.0**k / self.peak for k in exponents] if self.peak > 0 else []

    def exact_scales(self, link: NormalisedLink) -> list[float]:
        """Scales at which every weight is a grid point; none where they share no common unit."""
        levels = np.zeros(0)
        for block in link.blocks():
            if not levels.size and np.unique(np.abs(block[:LEVELS_MAX])).size * 2 > LEVELS_MAX:
                return []
            levels = np.union1d(levels, np.abs(block))
            apart = np.diff(levels) > APART * self.peak
            if 2 * int(apart.sum()) > LEVELS_MAX:
                return []
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

    def errors(self, link: NormalisedLink, units: FloatArray) -> FloatArray:
        """Squared error of rounding to the nearest grid point and clipping, at some units per weight."""
        totals = np.zeros(len(units))
        for block in link.blocks():
            grid_errors(block, units, (self.step, self.low, self.high), totals)
        return totals

    def rounded(self, link: NormalisedLink, units: float) -> RoundedWeights:
        """Grid integers of all stored weights, rows and kernels keeping their sums."""
        weight: Any = link.linear.weight
        found = np.zeros(7)
        if link.is_sparse:
            integers = self._rounded_sparse(weight, units, found)
            peaks = row_peaks(integers)
        else:
            integers, peaks = self._rounded_rows(link, units, found)
        return RoundedWeights(integers, peaks, Deviations(*found.tolist()))

    def _rounded_rows(
        self, link: NormalisedLink, units: float, found: FloatArray
    ) -> tuple[NDArray[np.int32], FloatArray]:
        weight: Any = link.linear.weight
        integers = np.empty(weight.shape, np.int32)
        rows, peaks = integers.reshape(len(weight), -1), np.empty(len(weight))
        kernel = int(np.prod(weight.shape[weight.ndim // 2 :]))
        for part, block in link.row_blocks():
            np.multiply(block, units, out=block)
            ideal, grid = np.ascontiguousarray(block), rows[part]
            kernels, out = ideal.reshape(-1, kernel), grid.reshape(-1, kernel)
            round_keeping_sums(kernels, self.step, self.low, self.high, out)
            deviations(ideal.ravel(), grid.ravel(), self.clipped_above, found)
            peaks[part] = np.maximum(-grid.min(axis=1), grid.max(axis=1))
        integers.setflags(write=False)
        return integers, peaks

    def _rounded_sparse(self, weight: Any, units: float, found: FloatArray) -> Any:
        integers = np.empty(weight.nnz, np.int32)
        length = np.diff(weight.indptr)
        width = int(length.max(initial=1))
        height = max(1, BLOCK // width)
        for first in range(0, len(length), height):
            counts = length[first : first + height]
            start, stop = weight.indptr[first], weight.indptr[first + len(counts)]
            row = np.repeat(np.arange(len(counts)), counts)
            column = np.arange(start, stop) - np.repeat(
                weight.indptr[first:][: len(counts)], counts
            )
            padded = np.zeros((len(counts), width))
            padded[row, column] = weight.data[start:stop] * units
            grid = round_keeping_sums(padded, self.step, self.low, self.high)[row, column]
            deviations(padded[row, column], grid, self.clipped_above, found)
            integers[start:stop] = grid
        return scipy.sparse.csr_matrix((integers, weight.indices, weight.indptr), weight.shape)

    @property
    def clipped_above(self) -> float:
        """Ideal values beyond it are clipped."""
        return self.top + self.step / 2
