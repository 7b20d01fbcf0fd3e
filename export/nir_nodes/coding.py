"""Coding of the Input nodes of a NIR graph: how values of the float network become the chip's input."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import nir

from biril_nm.arguments import checked
from biril_nm.coding import Coding
from biril_nm.errors import ConfigError
from biril_nm.export.nir_nodes.metadata import EXACT_REGISTERS

__all__ = ["coding_facts", "with_coding"]


def coding_facts(coding: Coding) -> dict[str, Any]:
    """Metadata of an Input node with this coding."""
    facts = {k: v for k, v in coding.to_dict().items() if k != "kind"}
    sign = {"signed": 1} if coding.signed else {}
    return {**facts, "coding": coding.kind, "scale": coding.scale, **sign}


@checked
def with_coding(graph: nir.NIRGraph, coding: Coding | Mapping[str, Coding]) -> nir.NIRGraph:
    """The graph with another coding of its input; weights stay what they are.

    Args:
        graph: a graph of floats, from a file or from :func:`biril_nm.export.to_nir`.
        coding: of the only input, or a dict of them by name of the Input node.

    Raises:
        ConfigError: names that are not the inputs', or a graph that holds integers already.
    """
    inputs = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if not isinstance(coding, Mapping):
        if len(inputs) != 1:
            raise ConfigError(
                f"one coding for {len(inputs)} inputs ({', '.join(inputs)}); expected a dict with a coding "
                f"by name of the input"
            )
        coding = {inputs[0]: coding}
    unknown = [str(name) for name in coding if name not in inputs]
    wrong = [value for value in coding.values() if not isinstance(value, Coding)]
    if unknown or wrong:
        found = f"an input {unknown[0]}" if unknown else f"{wrong[0]!r:.60}"
        raise ConfigError(
            f"coding names {found}; expected a biril_nm.coding.Coding for inputs of {', '.join(inputs)}"
        )
    metadata = dict(graph.metadata or {})
    if EXACT_REGISTERS in metadata:
        raise ConfigError(
            "the graph holds the integers of a chip, whose input is fixed. Give the coding to the network "
            "that it was lowered from"
        )
    nodes = dict(graph.nodes)
    for name, chosen in coding.items():
        node = nodes[name] = copy.copy(nodes[name])
        kept = {key: value for key, value in (node.metadata or {}).items() if key != "signed"}
        node.metadata = {**kept, **coding_facts(chosen)}
    return nir.NIRGraph(nodes, list(graph.edges), metadata=metadata, type_check=False)
