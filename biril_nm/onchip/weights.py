"""The network without what taught it, with the weights that were learned, all of their bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Dense, LoihiGraph
from biril_nm.loihi import SignMode

__all__ = ["learned_layers"]


@checked
def learned_layers(graph: LoihiGraph) -> LoihiGraph:
    """The layers of a network of :func:`biril_nm.onchip.dfa_network`, which answer as they learned.

    Weights that learn may be odd, while a connection of both signs that does not learn holds even ones:
    each becomes two, its even part and, as ``NAME.ones``, what is left over, 0 and 1.

    Raises:
        ConfigError: the graph is of another kind.
    """
    layers = {name for name, node in graph.neurons.items() if name == "out" or _is_hidden(name)}
    ends = {
        name: ends
        for name, ends in graph.ends.items()
        if ends[1] in layers and (ends[0] in layers or ends[0] == "input")
    }
    if "out" not in layers or not ends or "input" not in graph.inputs:
        raise ConfigError(
            f"the graph has nodes {', '.join(graph.nodes)}; expected a network of dfa_network, with layers "
            f"from 'input' to 'out'"
        )
    nodes: dict[str, Any] = {"input": graph.nodes["input"]}
    edges: list[tuple[str, str]] = []
    for name, (source, target) in ends.items():
        for part, node in _parts(name, graph.nodes[name]).items():
            nodes[part] = node
            edges += [(source, part), (part, target)]
    nodes |= {name: graph.nodes[name] for name in graph.neurons if name in layers}
    outputs = {name: end for name, end in graph.outputs.items() if end in layers}
    nodes |= {name: graph.nodes[name] for name in outputs}
    edges += [(end, name) for name, end in outputs.items()]
    return LoihiGraph(nodes, tuple(edges), graph.metadata)


def _is_hidden(name: str) -> bool:
    return name.startswith("hidden") and name.removeprefix("hidden").isdigit()


def _parts(name: str, node: Any) -> dict[str, Dense]:
    if not isinstance(node, Dense):
        raise ConfigError(f"connection '{name}' is {type(node).__name__}; expected a Dense")
    if node.rule is None:
        return {name: node}
    fixed = replace(node, rule=None, modulators={}, tag_t=None, tag_d=None)
    odd = node.weight & 1
    parts = {name: replace(fixed, weight=node.weight - odd)}
    if np.any(odd):
        parts[f"{name}.ones"] = replace(fixed, weight=odd, sign_mode=SignMode.EXCITATORY)
    return parts
