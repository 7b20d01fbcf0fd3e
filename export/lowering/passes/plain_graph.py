"""NIR graphs of any producer made plain: arrays of floats, edges between known nodes, no nesting.

Producers leave torch tensors, lists and scalars in a graph, ``None`` for layers that they cannot write,
and metadata of any type. Later passes rely on what is settled here, on a copy: every node is
supported, its fields and metadata have passed the checks of its :class:`NodeKind`, and edges are there
once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.nir_nodes.fields import lengths
from biril_nm.export.nir_nodes.metadata import checked_metadata
from biril_nm.export.nir_nodes.neurons import NeuronKind, parameter_shape
from biril_nm.export.nir_nodes.registry import NESTED, NODE_KINDS, kind_names

__all__ = ["plain_graph", "with_own_weights"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]
MAX_NESTING = 32


def plain_graph(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A checked copy without nested graphs; inner nodes are called ``outer.inner``.

    Weights that are floats of 32 or 64 bits are not copied: they are views of the arrays of ``graph``.

    Raises:
        UnsupportedNodeError: nodes have no counterpart on the chip (all are listed), or hold NaN.
        ConfigError: a parameter, an edge or metadata make no sense; the message names the node.
    """
    found = list(_unknown(graph, "", 0))
    left_out = [f"'{name}'" for name, node in found if node is None]
    if left_out:
        raise UnsupportedNodeError(
            f"nodes {', '.join(left_out)} are None, which exporters write for modules that they do not know; "
            f"expected {', '.join(kind_names())}. Put the NIR node there that the module means"
        )
    unknown = [f"'{name}' ({type(node).__name__})" for name, node in found]
    if unknown:
        raise UnsupportedNodeError(
            f"nodes {', '.join(unknown)} have no counterpart on the chip; expected "
            f"{', '.join(kind_names())}. Replace these nodes"
        )
    metadata = checked_metadata("graph", graph, NESTED.metadata)
    nodes, edges = _flat(graph, "")
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)


def with_own_weights(plain: nir.NIRGraph) -> nir.NIRGraph:
    """The same plain graph with copies of all weights, which live on when those of the producer change."""
    nodes = {}
    for name, node in plain.nodes.items():
        nodes[name] = copy.copy(node)
        if getattr(node, "weight", None) is not None:
            nodes[name].weight = np.array(node.weight)
    return nir.NIRGraph(nodes, list(plain.edges), metadata=plain.metadata, type_check=False)


def _unknown(graph: nir.NIRGraph, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MAX_NESTING:
        raise ConfigError(
            f"the depth of nested graphs at '{prefix.rstrip('.')}' is {depth}; expected at most "
            f"{MAX_NESTING}. Dissolve the inner ones"
        )
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            yield from _unknown(node, f"{prefix}{name}.", depth + 1)
        elif type(node) not in NODE_KINDS:
            yield f"{prefix}{name}", node


def _flat(graph: nir.NIRGraph, prefix: str) -> tuple[Nodes, Edges]:
    """Nodes and edges of a graph and of all graphs in it, names after ``prefix``."""
    named = list(_edges(graph, prefix))
    _check_ends(graph, named, prefix)
    nodes: Nodes = {}
    edges: Edges = []
    entry: dict[str, str] = {}
    leave: dict[str, str] = {}
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if isinstance(node, nir.NIRGraph):
            entry[full], leave[full] = _ends(full, node)
            inner, between = _flat(node, f"{full}.")
            edges += between
        else:
            inner = {full: _plain_node(full, node)}
        for taken in inner.keys() & nodes.keys():
            raise ConfigError(
                f"'{taken}' is the name of two nodes; expected one. Rename one of them"
            )
        nodes.update(inner)
    edges += [(leave.get(a, a), entry.get(b, b)) for a, b in named]
    return nodes, edges


def _edges(graph: nir.NIRGraph, prefix: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for edge in graph.edges:
        pair = tuple(n.decode() if isinstance(n, bytes) else n for n in edge)
        missing = [n for n in pair if not isinstance(n, str) or n not in graph.nodes]
        if len(pair) != 2 or missing:
            raise ConfigError(
                f"edge {pair} has "
                f"{'the unknown ends ' + ', '.join(map(str, missing)) if missing else f'{len(pair)} ends'}; "
                f"expected two nodes of the graph{_within(prefix)}"
            )
        if pair in seen:
            raise ConfigError(
                f"edge {pair}{_within(prefix)} is given twice; expected a set of edges, as in NIR. Remove one"
            )
        seen.add(pair)
        yield f"{prefix}{pair[0]}", f"{prefix}{pair[1]}"


def _within(prefix: str) -> str:
    return f" '{prefix.rstrip('.')}'" if prefix else ""


def _check_ends(graph: nir.NIRGraph, edges: Edges, prefix: str) -> None:
    kinds = {f"{prefix}{name}": type(node) for name, node in graph.nodes.items()}
    for a, b in edges:
        for name, kind, side in ((b, nir.Input, "into"), (a, nir.Output, "out of")):
            if kinds[name] is kind:
                raise ConfigError(
                    f"edge ('{a}', '{b}') leads {side} '{name}', an {kind.__name__}; expected no such edge. "
                    f"Join the nodes themselves"
                )


def _ends(name: str, graph: nir.NIRGraph) -> tuple[str, str]:
    """Names of the only input and the only output of a nested graph."""
    ends = [
        [f"{name}.{n}" for n, node in graph.nodes.items() if isinstance(node, kind)]
        for kind in (nir.Input, nir.Output)
    ]
    if any(len(names) != 1 for names in ends):
        raise UnsupportedNodeError(
            f"nested graph '{name}' has {len(ends[0])} inputs and {len(ends[1])} outputs; expected one of "
            f"each, since NIR edges do not say which one they mean. Give it one of each"
        )
    return ends[0][0], ends[1][0]


# --- one node -----------------------------------------------------------------------------------


def _plain_node(name: str, node: Any) -> Any:
    kind = NODE_KINDS[type(node)]
    who = f"node '{name}' ({kind.name})"
    plain = copy.copy(node)
    plain.metadata = checked_metadata(who, node, kind.metadata)
    if isinstance(node, nir.Input):
        shape = lengths(f"shape of input '{name}'", (node.input_type or {}).get("input"))
        plain.input_type, plain.output_type = {"input": shape}, {"output": shape}
    for field, check in kind.fields.items():
        setattr(plain, field, check(f"{who}: {field}", getattr(node, field, None)))
    if isinstance(kind, NeuronKind):
        _check_shapes(who, kind, plain)
    return plain


def _check_shapes(who: str, kind: NeuronKind, node: Any) -> None:
    """Parameters of a neuron node have one shape, with lengths of 1 where neurons share them."""
    shapes = {np.shape(getattr(node, field)) for field in kind.fields} - {(), (1,)}
    try:
        parameter_shape(node)
        agree = len({len(shape) for shape in shapes}) < 2
    except ValueError:
        agree = False
    if not agree:
        raise ConfigError(
            f"{who} has parameters of shapes {', '.join(map(str, sorted(shapes)))}; expected one shape for "
            f"all, or one value for all neurons"
        )
