"""NIR graphs of any producer made plain: arrays of float64, edges between known nodes, no nesting.

Producers leave torch tensors, lists and scalars in a graph, ``None`` for layers that they cannot write,
and metadata of any type. What the passes behind this one may rely on is settled here, on a copy:
every node is supported, parameters are finite arrays of numbers (time constants and gains may be
infinite, which :mod:`neuron_kinds` judges), geometry consists of integers, edges are there once, and
metadata that mean something to us have their type and range.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.nir_nodes.metadata import checked_metadata
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS, PARAMETERS, parameter_shape
from biril_nm.export.nir_nodes.stateless import SIZE_MAX, STATELESS

__all__ = ["plain_graph"]

Nodes = dict[str, Any]
Edges = list[tuple[str, str]]
REAL = ("weight", "bias", "scale", "delay", *PARAMETERS)
UNBOUNDED = ("tau", "tau_syn", "tau_mem", "r", "w_in")  # infinite where beta = 1 was written so
WHOLE = ("stride", "padding", "dilation", "groups", "kernel_size", "start_dim", "end_dim")
SINGLE = ("groups", "start_dim", "end_dim")
MAX_NESTING = 32


def plain_graph(graph: nir.NIRGraph) -> nir.NIRGraph:
    """A checked copy without nested graphs; inner nodes are called ``outer.inner``.

    Raises:
        UnsupportedNodeError: nodes have no counterpart on the chip (all are listed), or hold NaN.
        ConfigError: a parameter, an edge or metadata make no sense; the message names the node.
    """
    unknown = [f"'{name}' ({type(node).__name__})" for name, node in _unknown(graph, "", 0)]
    if unknown:
        supported = sorted(kind.__name__ for kind in (*STATELESS, *NEURON_KINDS))
        raise UnsupportedNodeError(
            f"nodes {', '.join(unknown)} have no counterpart on the chip; supported: "
            f"{', '.join(supported)}"
        )
    metadata = checked_metadata("graph", graph)
    nodes, edges = _flat(graph, "")
    return nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False)


def _unknown(graph: nir.NIRGraph, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MAX_NESTING:
        raise ConfigError(
            f"graphs nest deeper than {MAX_NESTING} at '{prefix.rstrip('.')}'; dissolve the inner ones"
        )
    for name, node in graph.nodes.items():
        if isinstance(node, nir.NIRGraph):
            yield from _unknown(node, f"{prefix}{name}.", depth + 1)
        elif type(node) not in STATELESS and type(node) not in NEURON_KINDS:
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
            raise ConfigError(f"two nodes would be called '{taken}'; rename one of them")
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
                f"edge {pair} joins no two nodes of the graph{_within(prefix)}: "
                f"{', '.join(map(str, missing)) or 'it has ' + str(len(pair)) + ' ends'}"
            )
        if pair in seen:
            raise ConfigError(
                f"edge {pair}{_within(prefix)} is given twice, and NIR's edges are a set; remove one"
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
                    f"edge ('{a}', '{b}') leads {side} '{name}', an {kind.__name__}; join the nodes "
                    f"themselves"
                )


def _ends(name: str, graph: nir.NIRGraph) -> tuple[str, str]:
    """Names of the only input and the only output of a nested graph."""
    ends = [
        [f"{name}.{n}" for n, node in graph.nodes.items() if isinstance(node, kind)]
        for kind in (nir.Input, nir.Output)
    ]
    if any(len(names) != 1 for names in ends):
        raise UnsupportedNodeError(
            f"nested graph '{name}' has {len(ends[0])} inputs and {len(ends[1])} outputs, and NIR edges "
            f"do not say which of them they mean; give it one of each"
        )
    return ends[0][0], ends[1][0]


# --- one node -----------------------------------------------------------------------------------


def _plain_node(name: str, node: Any) -> Any:
    kind = type(node).__name__
    plain = copy.copy(node)
    plain.metadata = checked_metadata(f"node '{name}' ({kind})", node)
    if isinstance(node, nir.Input):
        shape = _input_shape(name, (node.input_type or {}).get("input"))
        plain.input_type, plain.output_type = {"input": shape}, {"output": shape}
        return plain
    for field in dataclasses.fields(node):
        value = getattr(node, field.name, None)
        if field.name in REAL and not (field.name == "v_reset" and value is None):
            setattr(plain, field.name, _real(name, kind, field.name, value))
        elif field.name in WHOLE and not (
            field.name == "padding" and isinstance(value, (str, bytes))
        ):
            setattr(plain, field.name, _whole(name, kind, field.name, value))
    if type(node) in NEURON_KINDS:
        _check_shapes(name, kind, plain)
    return plain


def _numbers(value: Any) -> Any:
    """An array of real numbers of any producer's container, or None."""
    if hasattr(value, "detach"):  # torch and the like
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # ragged lists, other devices
        return None
    return array if array.dtype.kind in "biuf" else None


def _real(name: str, kind: str, field: str, value: Any) -> Any:
    array = _numbers(value)
    if array is None or array.size == 0:
        raise ConfigError(f"node '{name}' ({kind}): {field} is {_shown(value)}; needed are numbers")
    with np.errstate(invalid="ignore", over="ignore"):  # floats of other widths
        array = np.array(array, dtype=np.float64)
    wrong = np.isnan(array) if field in UNBOUNDED else ~np.isfinite(array)
    if wrong.any():
        raise UnsupportedNodeError(
            f"node '{name}' ({kind}): {field} is not finite in {int(wrong.sum())} of {array.size} "
            f"values; write finite numbers"
        )
    return array


def _whole(name: str, kind: str, field: str, value: Any) -> Any:
    array = _numbers(value)
    good = array is not None and array.size in ((1,) if field in SINGLE else (1, 2))
    if not good or np.any(array != np.rint(array)) or np.any(np.abs(array) > SIZE_MAX):
        raise ConfigError(
            f"node '{name}' ({kind}): {field} is {_shown(value)}; needed are "
            f"{'1 integer' if field in SINGLE else '1 or 2 integers'}"
        )
    integers = np.asarray(array).astype(np.int64)
    return int(integers.flat[0]) if field in SINGLE else integers


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of {value.dtype}, shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


def _check_shapes(name: str, kind: str, node: Any) -> None:
    """Parameters of a neuron node have one shape, with lengths of 1 where neurons share them."""
    values = [getattr(node, field, None) for field in PARAMETERS]
    shapes = {np.shape(v) for v in values if v is not None and np.shape(v) not in ((), (1,))}
    try:
        parameter_shape(node)
        agree = len({len(shape) for shape in shapes}) < 2
    except ValueError:
        agree = False
    if not agree:
        raise ConfigError(
            f"node '{name}' ({kind}) has parameters of shapes "
            f"{', '.join(map(str, sorted(shapes)))}; they must agree"
        )


def _input_shape(name: str, value: Any) -> Any:
    lengths = _numbers(value)
    if lengths is None or lengths.ndim > 1 or lengths.size == 0:
        raise ConfigError(
            f"input '{name}' has shape {_shown(value)}; needed are one or more lengths, such as (3,)"
        )
    lengths = np.atleast_1d(lengths).astype(np.float64)
    whole = np.all(lengths == np.rint(lengths)) and np.all(lengths >= 1)
    if not whole or np.prod(lengths) > SIZE_MAX:
        raise ConfigError(
            f"input '{name}' has shape {_shown(value)}; lengths are whole numbers from 1, "
            f"{SIZE_MAX} values in all at most"
        )
    return lengths.astype(np.int64)
