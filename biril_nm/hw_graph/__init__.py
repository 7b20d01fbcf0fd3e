"""LoihiGraph: the integer network between the exporter and every target."""

from __future__ import annotations

from biril_nm.hw_graph.graph import (
    Connection,
    Conv,
    Dense,
    Input,
    LoihiGraph,
    Neurons,
    Node,
    Output,
    Shape,
    Sparse,
    conv_output_shape,
)

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
