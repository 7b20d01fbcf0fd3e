"""Which neurons of a network are its output, and which of them are read by their membrane alone."""

from __future__ import annotations

import numpy as np

from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.loihi import LOIHI2

__all__ = ["integrators", "output_neurons"]


def output_neurons(graph: LoihiGraph) -> tuple[str, ...]:
    """Neurons nodes marked by Output nodes; without any, those that no connection starts from."""
    marked = tuple(dict.fromkeys(graph.outputs.values()))
    sources = {source for source, _ in graph.ends.values()}
    return marked or tuple(name for name in graph.neurons if name not in sources)


def integrators(graph: LoihiGraph) -> tuple[str, ...]:
    """Neurons nodes that add up without spiking: their threshold is the largest that the register holds."""
    return tuple(
        name
        for name, node in graph.neurons.items()
        if int(np.min(node.spike_threshold)) >= LOIHI2.vth_max
    )
