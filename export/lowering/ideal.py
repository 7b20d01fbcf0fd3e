"""Weights before rounding, for reports that compare them with the integers."""

from __future__ import annotations

import warnings

import nir
import numpy as np

from biril_nm.arrays import FloatArray
from biril_nm.export.lowering.passes.float_net import float_net
from biril_nm.export.lowering.passes.normalise import normalise
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.export.lowering.passes.settle import settle_integration, settle_readout
from biril_nm.export.lowering.passes.split import split_signs
from biril_nm.export.lowering.stages import Lowering
from biril_nm.export.nir_nodes.linear_maps import stored
from biril_nm.export.nir_nodes.typed_convolutions import restored
from biril_nm.hw_graph import LoihiGraph

__all__ = ["ideal_weights"]


def ideal_weights(
    lowering: Lowering | nir.NIRGraph, graph: LoihiGraph | None = None
) -> dict[str, FloatArray]:
    """Weights before rounding, in the integer units of each connection: ``S W / 2**weight_exp``.

    Args:
        lowering: from :func:`lower_stages`. Deprecated: the NIR graph that ``graph`` was lowered from.
        graph: with a NIR graph only: the result of :func:`lower`.

    Returns:
        Connection -> flat float64 array in the order of the stored weights.
    """
    if isinstance(lowering, nir.NIRGraph):
        warnings.warn(
            "ideal_weights(nir_graph, graph) is now ideal_weights(lower_stages(nir_graph))",
            DeprecationWarning,
            stacklevel=2,
        )
        return _recomputed(lowering, graph)
    # The file held integers, which need no rounding.
    if lowering.float_net is None:
        links = lowering.graph.connections.items()
        return {name: stored(link.weight).astype(np.float64) for name, link in links}
    ideal = {}
    for name, node in lowering.normalised.items():
        integers = lowering.quantised[name]
        for link in node.links:
            units = integers.scale / 2.0 ** integers.links[link.name].weight_exp
            ideal[link.name] = link.values * units
    return ideal


def _recomputed(nir_graph: nir.NIRGraph, graph: LoihiGraph | None) -> dict[str, FloatArray]:
    """The same from the metadata of ``graph``."""
    metadata = {} if graph is None else graph.metadata
    flat = settle_readout(restored(plain_graph(nir_graph)), metadata.get("readout") or None)
    dt_s = metadata.get("dt_s")
    flat = settle_integration(flat, dt_s, metadata.get("if_integration"))
    net = float_net(flat, 1.0 if dt_s is None else float(dt_s))
    net = split_signs(net, lambda link: link.name not in metadata["quantisation"])
    ideal = {}
    for _, node in normalise(net):
        for link in node.links:
            known = metadata["quantisation"][link.name]
            ideal[link.name] = link.values * (known["scale"] / 2.0 ** known["weight_exp"])
    return ideal
