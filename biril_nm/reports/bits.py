"""Error by bits: what fewer bits per weight would cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biril_nm.errors import BirilError
from biril_nm.export.report.page import Image, Section, Table
from biril_nm.hardware_sim import simulate
from biril_nm.hw_graph import LoihiGraph
from biril_nm.recording.readout import predict
from biril_nm.reports.pictures import bits_png

if TYPE_CHECKING:
    from biril_nm.export.lowering import LoweringOptions

__all__ = ["BITS", "MAX_WEIGHTS", "BitsError", "bits_section", "errors_by_bits"]

BITS = (8, 6, 5, 4, 3, 2)
MAX_WEIGHTS = 2_000_000  # of a network that is lowered once for each number of bits


@dataclass(frozen=True)
class BitsError:
    """A network lowered to some bits per weight.

    Attributes:
        bits: bits per weight.
        errors: connection -> norm of what rounding changed over the norm of the float weights.
        same: share of samples with the prediction of the reported graph.
        right: share of right predictions; None without labels.
    """

    bits: int
    errors: Mapping[str, float]
    same: float
    right: float | None


def errors_by_bits(
    graph: LoihiGraph, nir_graph: Any, options: LoweringOptions, inputs: Any, labels: Any
) -> tuple[BitsError, ...]:
    """Lower with each number of bits, and run the same samples.

    Args:
        graph: the reported network.
        nir_graph: what it was lowered from.
        options: how.
        inputs: chip input.
        labels: classes of the samples, or None.
    """
    from biril_nm.export.lowering import lower_stages

    weights = sum(node.weight.size for node in graph.connections.values())
    if weights > MAX_WEIGHTS:
        return ()
    ours = predict(graph, simulate(graph, inputs, record=("s",)))
    found = []
    for bits in BITS:
        try:
            lowered = lower_stages(nir_graph, replace(options, weight_bits=bits)).graph
        except BirilError:  # too few bits for this network, or a file of integers
            continue
        known = lowered.metadata.get("quantisation", {})
        errors = {name: float(facts["relative_error"]) for name, facts in known.items()}
        theirs = predict(lowered, simulate(lowered, inputs, record=("s",)))
        right = None if labels is None else float(np.mean(theirs == labels))
        found.append(BitsError(bits, errors, float(np.mean(theirs == ours)), right))
    return tuple(found)


def bits_section(found: tuple[BitsError, ...], runs: str) -> Section:
    """Error of the weights and predictions, by bits."""
    rows = [
        (
            str(each.bits),
            f"{max(each.errors.values(), default=0.0):.2%}",
            f"{each.same:.2%}",
            "-" if each.right is None else f"{each.right:.2%}",
            each.same,
        )
        for each in found
    ]
    header = ("bits", "largest rel. error", "same predictions", "right", "")
    errors = {name: [each.errors.get(name, np.nan) for each in found] for name in found[0].errors}
    return Section(
        "Error by bits",
        f"The network lowered again with fewer bits per weight. Same predictions: as the reported "
        f"network, over {runs}. Connections from graded input keep 8 bits.",
        images=(Image("error of the weights by bits", bits_png([e.bits for e in found], errors)),),
        tables=(Table(header, rows),),
    )
