"""Checksums by which facts of the lowering are known to belong to the weights and registers at hand."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from biril_nm.hw_graph.nodes import Connection, Neurons, Sparse

if TYPE_CHECKING:
    from biril_nm.hw_graph.graph import LoihiGraph

__all__ = ["DIGEST", "known_connection", "known_population", "with_digests"]

DIGEST = "digest"  # key of the facts
POSITIVE = (1 << 31) - 1  # metadata hold integers of 31 bits


def _sum(arrays: list[Any]) -> int:
    found = 0
    for array in arrays:
        values = np.asarray(array)
        integers = np.ascontiguousarray(values, "<i4" if values.dtype.itemsize <= 4 else "<i8")
        found = zlib.crc32(repr(integers.shape).encode(), found)
        found = zlib.crc32(integers.data, found)
    return found & POSITIVE


def _of_connection(node: Connection) -> int:
    parts = ("data", "indices", "indptr") if isinstance(node, Sparse) else ()
    arrays = [getattr(node.weight, part) for part in parts] or [node.weight]
    return _sum([*arrays, node.weight_exp])


def _of_population(graph: LoihiGraph, name: str, known: Mapping[str, int] | None = None) -> int:
    """``known``: connection -> its checksum, where it was computed before."""
    node: Neurons = graph.neurons[name]
    weights = [
        known[link] if known else _of_connection(graph.connections[link])
        for link in sorted(graph.incoming(name))
    ]
    return _sum([*node.registers.values(), *weights])


def with_digests(graph: LoihiGraph) -> LoihiGraph:
    """The graph whose facts of connections and populations are bound to its weights and registers."""
    known = {name: _of_connection(node) for name, node in graph.connections.items()}
    links = {
        name: {**facts, DIGEST: known[name]}
        for name, facts in graph.metadata.get("quantisation", {}).items()
    }
    populations = {
        name: {**facts, DIGEST: _of_population(graph, name, known)}
        for name, facts in graph.metadata.get("neurons", {}).items()
    }
    return graph.with_metadata(quantisation=links, neurons=populations)


def known_connection(graph: LoihiGraph, name: str) -> Mapping[str, Any]:
    """What the lowering noted of a connection; nothing once its weights have changed.

    Facts of version 0.1 have no checksum; they count if as many weights are zero as they say.
    """
    facts: Mapping[str, Any] = graph.metadata.get("quantisation", {}).get(name, {})
    node = graph.connections[name]
    if DIGEST in facts:
        return facts if facts[DIGEST] == _of_connection(node) else {}
    values = node.weight.data if isinstance(node, Sparse) else node.weight
    return facts if facts.get("zeros") == np.count_nonzero(values == 0) else {}


def known_population(graph: LoihiGraph, name: str) -> Mapping[str, Any]:
    """What the lowering noted of a population; nothing once its registers or weights have changed."""
    facts: Mapping[str, Any] = graph.metadata.get("neurons", {}).get(name, {})
    if DIGEST in facts:
        return facts if facts[DIGEST] == _of_population(graph, name) else {}
    return facts if all(known_connection(graph, link) for link in graph.incoming(name)) else {}
