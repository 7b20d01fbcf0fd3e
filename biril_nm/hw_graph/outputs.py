"""Which neurons of a network are its output."""

from __future__ import annotations

from biril_nm.hw_graph.graph import LoihiGraph

__all__ = ["output_neurons"]


def output_neurons(graph: LoihiGraph) -> tuple[str, ...]:
    """Neurons nodes marked by Output nodes; without any, those that no connection starts from."""
    marked = tuple(dict.fromkeys(graph.outputs.values()))
    sources = {source for source, _ in graph.ends.values()}
    return marked or tuple(name for name in graph.neurons if name not in sources)
