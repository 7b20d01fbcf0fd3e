"""The stages of one lowering, kept together so that later steps read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import nir

from biril_nm.display import brief_fields
from biril_nm.export.lowering.numbers.normalised import NormalisedNode
from biril_nm.export.lowering.passes.float_net import FloatNet
from biril_nm.export.lowering.passes.normalise import normalise
from biril_nm.export.lowering.passes.quantize import QuantizedNode
from biril_nm.export.lowering.passes.settle import Settled
from biril_nm.hw_graph import LoihiGraph
from biril_nm.loihi import LOIHI2, ChipProfile

__all__ = ["Lowering"]


@brief_fields
@dataclass(frozen=True, eq=False)
class Lowering:
    """What each pass of :func:`lower_stages` has made.

    A file that holds integers needs no float stages: then ``settled`` and ``float_net`` are None,
    ``normalised`` and ``quantised`` empty.

    Attributes:
        graph: the integer network.
        plain: the NIR graph, checked and without nested graphs.
        settled: the NIR graph with step width, reset kinds and readout decided.
        float_net: neurons joined by linear links, in the units of the file.
        quantised: neurons -> integers.
        chip: register limits that they keep.
    """

    graph: LoihiGraph
    plain: nir.NIRGraph
    settled: Settled | None = None
    float_net: FloatNet | None = None
    quantised: Mapping[str, QuantizedNode] = field(default_factory=dict)
    chip: ChipProfile = LOIHI2

    @cached_property
    def normalised(self) -> Mapping[str, NormalisedNode]:
        """Neurons -> weights and biases per threshold, computed from ``float_net``."""
        return {} if self.float_net is None else dict(normalise(self.float_net))
