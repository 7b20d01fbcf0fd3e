"""One neuron node and its links with all gains folded in: weights and biases per unit of v."""

from __future__ import annotations

from dataclasses import dataclass

from biril_nm.arrays import FloatArray
from biril_nm.export.nir_nodes.linear_maps import LinearMap, stored
from biril_nm.loihi import WEIGHT_BITS

__all__ = ["Decays", "NormalisedLink", "NormalisedNode"]


@dataclass(frozen=True)
class Decays:
    """How u and v of one node fall.

    Attributes:
        u, v: decay fractions, flat.
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
class NormalisedLink:
    """One link with all gains folded in: W per unit of v, the largest value that it receives, its sign, and
    the bits that its integers may have.
    """

    name: str
    linear: LinearMap
    input_max: int
    input_signed: bool = False
    weight_bits: int = WEIGHT_BITS

    @property
    def values(self) -> FloatArray:
        """Stored weights, flat."""
        return stored(self.linear.weight)


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
