"""Recurrent NIR files of 2023 (nir 0.2) that nir 1.0.8 refuses, mended where only one way is possible.

Exporters of that time wrote recurrent layers as nested graphs whose inner Input has the shape of another
layer, or whose inner edges lead to ``lif`` where the node is called ``lif1``. What is mended is noted in
the metadata of the graph; everything else is refused with the edge or shape to mend.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import Shape
from biril_nm.errors import FileFormatError
from biril_nm.storage.text import as_text

__all__ = ["REPAIRS", "mended_graph"]

# Metadata of a mended graph: one line for each repair.
REPAIRS = "repairs"

_MATRICES = ("Affine", "Linear")
_NEURONS = ("IF", "LIF", "CubaLIF", "I", "LI", "CubaLI", "Threshold")
_PARAMETERS = ("r", "v_threshold", "threshold")
_ENDS = ("Input", "Output")

Node = dict[str, Any]
Edges = list[tuple[str, str]]


def mended_graph(source: str, image: Node) -> nir.NIRGraph | None:
    """The graph of a file that nir refuses; None where nothing in it can be mended.

    Args:
        source: name of the file, for messages.
        image: content of the file as nested dicts.

    Raises:
        FileFormatError: an edge or a shape is wrong, and several repairs are possible.
    """
    repairs: list[str] = []
    mended = _graph(source, image, "", {}, repairs)
    if not repairs:
        return None
    graph = nir.dict2NIRNode(mended)
    graph.metadata = {**(graph.metadata or {}), REPAIRS: "\n".join(repairs)}
    return graph


def _graph(
    source: str, image: Node, prefix: str, outside: Mapping[str, Shape | None], repairs: list[str]
) -> Node:
    """One graph and those in it; ``outside``: what the graph around it sends and expects."""
    nodes: dict[str, Node] = dict(image["nodes"])
    edges = [(as_text(a), as_text(b)) for a, b in image["edges"]]
    if prefix:
        edges = _mend_edges(source, prefix, nodes, edges, repairs)
        _mend_ends(source, prefix, (nodes, edges), outside, repairs)
    for name, node in nodes.items():
        if node.get("type") == "NIRGraph":
            around = {
                "Input": _agreed(_shape(nodes.get(a, {}), 0) for a, b in edges if b == name),
                "Output": _agreed(_shape(nodes.get(b, {}), 1) for a, b in edges if a == name),
            }
            nodes[name] = _graph(source, node, f"{prefix}{name}.", around, repairs)
    return {**image, "nodes": nodes, "edges": edges}


# --- edges --------------------------------------------------------------------------------------


def _mend_edges(
    source: str, prefix: str, nodes: Mapping[str, Node], edges: Edges, repairs: list[str]
) -> Edges:
    """Edges whose unknown ends are replaced by the only node that can be meant."""
    missing = list(dict.fromkeys(end for edge in edges for end in edge if end not in nodes))
    for unknown in missing:
        possible = _candidates(unknown, missing, nodes, edges)
        if len(possible) != 1 or not _fits(possible[0], unknown, nodes, edges):
            edge = next(edge for edge in edges if unknown in edge)
            raise FileFormatError(
                f"'{source}': edge {edge} of graph '{prefix[:-1]}' ends at '{unknown}', which is not a node; "
                f"expected one of {', '.join(possible or nodes)}. Mend that edge in the file"
            )
        edges = [_replaced(edge, unknown, possible[0]) for edge in edges]
        repairs.append(
            f"edges of '{prefix[:-1]}' that end at '{unknown}', which is not a node, end at "
            f"'{possible[0]}', the only node that can be meant"
        )
    return edges


def _candidates(
    unknown: str, missing: Sequence[str], nodes: Mapping[str, Node], edges: Edges
) -> list[str]:
    """Nodes whose names differ in a number only, and nodes without any edge that no other name means."""
    named = {end for edge in edges for end in edge}
    others = {_stem(name) for name in missing if name != unknown}
    return [
        name
        for name in nodes
        if _stem(name) == _stem(unknown) or (name not in named and _stem(name) not in others)
    ]


def _stem(name: str) -> str:
    return name.rstrip("0123456789")


def _replaced(edge: tuple[str, str], old: str, new: str) -> tuple[str, str]:
    a, b = (new if end == old else end for end in edge)
    return a, b


def _fits(name: str, unknown: str, nodes: Mapping[str, Node], edges: Edges) -> bool:
    """Whether the edges make sense with ``name`` in the place of ``unknown``."""
    new = [_replaced(edge, unknown, name) for edge in edges]
    kind = nodes[name].get("type")
    return (
        len(set(new)) == len(new)
        and all(a != b for a, b in new)
        and not (kind == "Input" and any(b == name for _, b in new))
        and not (kind == "Output" and any(a == name for a, _ in new))
    )


# --- shapes of inner inputs and outputs -------------------------------------------------------------


def _mend_ends(
    source: str,
    prefix: str,
    graph: tuple[dict[str, Node], Edges],
    outside: Mapping[str, Shape | None],
    repairs: list[str],
) -> None:
    nodes, edges = graph
    for name, node in list(nodes.items()):
        kind = node.get("type")
        if kind not in _ENDS:
            continue
        beside = [b for a, b in edges if a == name] if kind == "Input" else [
            a for a, b in edges if b == name
        ]  # fmt: skip
        known = {n: _shape(nodes.get(n, {}), 1 if kind == "Input" else 0) for n in beside}
        wanted = {shape for shape in known.values() if shape is not None}
        has = tuple(int(n) for n in np.atleast_1d(node.get("shape", ())))
        if not wanted or wanted == {has}:
            continue
        around = outside.get(str(kind))
        if len(wanted) > 1 or (around is not None and {around} != wanted):
            expected = ", ".join(map(str, sorted({*wanted, *([around] if around else [])})))
            raise FileFormatError(
                f"'{source}': {kind} '{prefix}{name}' has shape {has}, and the nodes around it ask for "
                f"{expected}; expected one shape. Mend it in the file"
            )
        (shape,) = wanted
        nodes[name] = {**node, "shape": np.array(shape)}
        repairs.append(
            f"{kind} '{prefix}{name}' of shape {has} got {shape}, the shape of "
            f"{', '.join(repr(n) for n, found in known.items() if found)}"
        )


def _shape(node: Node, side: int) -> Shape | None:
    """What a node sends (side 0) or receives (side 1); None where it does not say."""
    kind = node.get("type")
    if kind in _MATRICES and np.ndim(node.get("weight", 0)) == 2:
        return (int(np.shape(node["weight"])[side]),)
    if kind in _NEURONS:
        shapes = [np.shape(node[name]) for name in _PARAMETERS if name in node]
        return next((shape for shape in shapes if shape not in ((), (1,))), None)
    if kind in _ENDS:
        return tuple(int(n) for n in np.atleast_1d(node.get("shape", ())))
    return None


def _agreed(shapes: Iterator[Shape | None]) -> Shape | None:
    """The shape on which all known ones agree."""
    known = {shape for shape in shapes if shape is not None}
    return known.pop() if len(known) == 1 else None
