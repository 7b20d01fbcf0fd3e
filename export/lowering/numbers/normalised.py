"""One neuron node and its links with all gains folded in: weights and biases per unit of v."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse

from biril_nm.arrays import FloatArray
from biril_nm.export.lowering.numbers.units import row_peaks
from biril_nm.export.nir_nodes.linear_maps import Weighted, stored
from biril_nm.export.nir_nodes.repeats import repeated
from biril_nm.loihi import WEIGHT_BITS

__all__ = ["Decays", "NormalisedLink", "NormalisedNode", "Survey"]

BLOCK = 1 << 17  # weights that are read at a time, so that they stay in the cache


@dataclass(frozen=True)
class Decays:
    """How u and v of one node fall.

    Attributes:
        u, v: decay fractions, in the shape of the node.
        spiking: whether it has thresholds.
        n_steps: steps of a sample; 0: unknown.
        keeps_surplus: whether what v has above the threshold outlives a spike, so that v may grow.
    """

    u: FloatArray
    v: FloatArray
    spiking: bool
    n_steps: int = 0
    keeps_surplus: bool = False


@dataclass(frozen=True)
class Survey:
    """What the choice of a scale needs to know of all weights of a link.

    Attributes:
        low, high: the smallest and the largest weight, 0 where there is none.
        power: sum of squares.
        row_peaks: largest |w| of each row of a matrix, or of each output channel.
        row_sums: of each row, the most that binary input can add (1) and take (-1).
    """

    low: float
    high: float
    power: float
    row_peaks: FloatArray
    row_sums: Mapping[int, FloatArray]

    @property
    def peak(self) -> float:
        """Largest |w|."""
        return float(np.maximum(np.abs(self.low), np.abs(self.high)))


@dataclass(frozen=True)
class NormalisedLink:
    """One link with all gains folded in: W per unit of v.

    Large weights are read in blocks, and their gains applied there, so that no array of all of them is made.

    Attributes:
        name: of the connection.
        linear: the map in the units of the file.
        input_max: the largest value that it receives.
        input_signed: whether it receives negative ones too.
        weight_bits: bits that its integers may have.
        gains: factors of W, one for each row of a matrix or each output channel; a sparse matrix has none.
    """

    name: str
    linear: Weighted
    input_max: int
    input_signed: bool = False
    weight_bits: int = WEIGHT_BITS
    gains: tuple[FloatArray, ...] = ()

    @property
    def values(self) -> FloatArray:
        """Stored weights, flat."""
        return np.concatenate([block.copy() for block in self.blocks()])

    def blocks(self) -> Iterator[FloatArray]:
        """The same, some at a time, in an array that is used again for the next ones."""
        if self.is_sparse:
            yield stored(self.linear.weight)
        else:
            for _, block in self.row_blocks():
                yield np.ascontiguousarray(block).ravel()

    @property
    def is_sparse(self) -> bool:
        """Whether its rows have weights of different places."""
        return bool(scipy.sparse.issparse(self.linear.weight))

    def row_blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Some rows (output channels) of a dense matrix or a convolution, and their weights (rows, n).

        The array is used again for the next ones, and may be changed.
        """
        weight = self.linear.weight
        rows = weight.reshape(len(weight), -1)
        height = max(1, BLOCK // max(1, rows.shape[1]))
        room = np.empty_like(rows[:height], dtype=np.float64)
        for first in range(0, len(rows), height):
            part = slice(first, first + height)
            block = room[: len(rows[part])]
            block[:] = rows[part]
            for gain in self.gains:
                block *= gain[part, None]
            yield part, block

    @cached_property
    def survey(self) -> Survey:
        """What all weights have in common."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._survey_sparse() if self.is_sparse else self._survey_rows()

    def _survey_sparse(self) -> Survey:
        weight: Any = self.linear.weight
        values = weight.data if weight.nnz else np.zeros(1)
        sent = abs(weight) if self.input_signed else weight
        sums = {
            sign: repeated(np.asarray(part.maximum(0).sum(axis=1), dtype=np.float64).ravel())
            for sign, part in ((1, sent), (-1, sent if self.input_signed else -sent))
        }
        power, peaks = float(np.sum(values**2)), repeated(row_peaks(weight))
        return Survey(float(values.min()), float(values.max()), power, peaks, sums)

    def _survey_rows(self) -> Survey:
        n_rows = len(self.linear.weight)
        found = np.zeros((4, n_rows))
        power, room = 0.0, None
        for part, block in self.row_blocks():
            room = np.empty_like(block) if room is None else room[: len(block)]
            found[0, part], found[1, part] = block.min(axis=1), block.max(axis=1)
            if self.input_signed:
                found[2:, part] = np.abs(block, out=room).sum(axis=1)
            else:
                found[2, part] = np.maximum(block, 0, out=room).sum(axis=1)
                found[3, part] = -np.minimum(block, 0, out=room).sum(axis=1)
            power += float(np.square(block, out=room).sum())
        low, high, up, down = found
        return Survey(
            float(low.min()),
            float(high.max()),
            power,
            np.maximum(np.abs(low), np.abs(high)),
            {1: up, -1: down},
        )


@dataclass(frozen=True)
class NormalisedNode:
    """One neuron node with all links into it.

    Attributes:
        name: of the neurons.
        links: incoming links per unit of v.
        bias: constant drive per unit, in the shape of the node.
        decays: how u and v decay, and whether the node spikes.
        threshold: of each neuron in units, at most 1; 1 for all where the unit is the threshold.
    """

    name: str
    links: tuple[NormalisedLink, ...]
    bias: FloatArray
    decays: Decays
    threshold: FloatArray
