"""LoihiGraph: the integer network between the exporter and every target."""

from __future__ import annotations

from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.hw_graph.nodes import (
    Connection,
    Conv,
    Dense,
    Input,
    Neurons,
    Node,
    Output,
    Sparse,
    conv_output_shape,
)
from biril_nm.hw_graph.values import Shape

__all__ = [
    "Connection",
    "Conv",
    "Dense",
    "Input",
    "LoihiGraph",
    "Neurons",
    "Node",
    "Output",
    "Shape",
    "Sparse",
    "conv_output_shape",
]
