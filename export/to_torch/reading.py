"""``from_nir``: a NIR graph as a torch module, to train on, to test, or to export again.

The graph passes the checks of the lowering first, so that what is open (the width of a step, the reset)
is decided in the same way, and the module has the spikes that the lowered network has, up to the rounding
of weights and decays.

nirtorch, which snnTorch's own reader uses, is not: nirtorch 2.6 puts the bias of an Affine where no layer
reads it, passes states in and out as arguments, and knows no reset, no width of a step and no ``lag``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import nir
import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import nn

from biril_nm.arguments import checked
from biril_nm.arrays import Shape
from biril_nm.errors import ConfigError, UnsupportedNodeError, bullet_list
from biril_nm.export.lowering.passes.plain_graph import plain_graph
from biril_nm.export.lowering.passes.settle import settle, settle_dt
from biril_nm.export.nir_files.files import read_nir
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS, dynamics_of
from biril_nm.export.nir_nodes.stateless import STATELESS, each
from biril_nm.export.nir_nodes.typed_convolutions import restored
from biril_nm.export.to_torch.modules import layers_of, neuron_of
from biril_nm.loihi import LOIHI2
from biril_nm.models.nir_net import CONSTANTS, NirNet, Part, make_net

__all__ = ["from_nir"]

Edges = list[tuple[str, str]]


@checked
def from_nir(
    graph: nir.NIRGraph | str | Path,
    dt_s: float | None = None,
    reset: str | None = None,
    if_integration: str | None = None,
    double: bool = False,
) -> NirNet:
    """A torch module of snnTorch neurons with the spikes of a NIR graph.

    Args:
        graph: a graph of any producer, or an ``x.nir`` file.
        dt_s: width of a step in seconds; needed if the file does not say and something depends on it.
        reset: as :func:`biril_nm.export.lower` takes it, where the file does not say it.
        if_integration: the same for the growth of IF.
        double: weights and states of 64 bits, instead of 32.

    Returns:
        A module of one time step, ``(batch, *shape)`` to spikes; ``net.run(x)`` takes all steps. Its
        parameters train, and :func:`biril_nm.export.to_nir` takes it back.

    Raises:
        UnsupportedNodeError: snnTorch cannot say what a node means; all are listed.
        ConfigError: as for :func:`biril_nm.export.lower`.
        FileFormatError: no such file, or a damaged one.
    """
    found = graph if isinstance(graph, nir.NIRGraph) else read_nir(graph)
    plain = restored(plain_graph(found))
    settled = settle(plain, settle_dt(plain, dt_s), reset, None, if_integration, LOIHI2)
    edges = [(str(a), str(b)) for a, b in settled.graph.edges]
    late = _late(settled.graph, edges)
    waits = _sources(edge for edge in edges if edge in late)
    shapes = _Shapes(settled.graph, edges)
    names = _Names(settled.graph.nodes)
    inputs = {n for n, node in settled.graph.nodes.items() if isinstance(node, nir.Input)}
    parts: list[Part] = []
    modules: dict[str, nn.Module] = {}
    buffers: dict[str, torch.Tensor] = {}
    findings = []
    for name in _order(settled.graph, edges, late):
        try:
            made = _made(settled.graph.nodes[name], name, shapes, settled.step_s)
        except UnsupportedNodeError as error:
            findings.append(str(error))
            continue
        facts = settled.graph.nodes[name].metadata if name in inputs else {}
        calls = _parts(name, made[0], shapes, frozenset(waits.get(name, ())), names, facts)
        parts += calls
        modules |= {part.attribute: module for part, (_, module) in zip(calls, made[0])}
        buffers |= {f"{calls[-1].attribute}_{key}": value for key, value in made[1].items()}
    if findings:
        raise UnsupportedNodeError(
            findings[0] if len(findings) == 1 else bullet_list("not in torch:", findings)
        )
    return make_net(parts, modules, buffers, torch.float64 if double else torch.float32)


Made = tuple[list[tuple[str, nn.Module]], dict[str, torch.Tensor]]


def _made(node: Any, name: str, shapes: _Shapes, step_s: float) -> Made:
    """Modules of one node, and the constants that its input is multiplied by and added to."""
    shape = shapes.received(name)
    if isinstance(node, (nir.Input, nir.Output)):
        return [], {}
    if type(node) in NEURON_KINDS:
        module, constants = neuron_of(name, dynamics_of(node, name, step_s, shape), shape)
        return [("", module)], constants
    constants = {}
    if isinstance(node, nir.Scale):
        constants["gain"] = torch.from_numpy(np.array(each(node, name, node.scale, shape)))
    return layers_of(node, name, shape, shapes.sent(name)), constants


def _parts(
    name: str,
    layers: list[tuple[str, nn.Module]],
    shapes: _Shapes,
    waits: frozenset[str],
    names: _Names,
    facts: dict[str, Any],
) -> list[Part]:
    """The calls of one node: one for each of its modules."""
    sources, shape = tuple(shapes.sources.get(name, ())), shapes.received(name)
    if not layers:
        return [Part(name, "", sources, waits, shape, False, facts)]
    parts = []
    for suffix, module in layers:
        full = names.call(name, suffix)
        attribute = names.attribute(f"{name}{suffix}")
        membrane = bool(getattr(module, "output", False))
        parts.append(Part(full, attribute, sources, waits, shape, membrane, facts))
        sources, waits = (full,), frozenset()
    return parts


class _Names:
    """Names that are free: of calls, and of attributes of the network."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._calls = set(nodes)
        # Of an instance: torch's and NirNet's own attributes are there, too.
        self._attributes = set(dir(NirNet([], {}, {}, torch.float32)))

    def call(self, node: str, suffix: str) -> str:
        """Name of one of the calls of a node; the last has no suffix."""
        if not suffix:
            return node
        full = f"{node}{suffix}"
        while full in self._calls:
            full = f"{full}_"
        self._calls.add(full)
        return full

    def attribute(self, name: str) -> str:
        """A name that a module can have, and the constants beside it."""
        plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name) or "_"
        while not self._attributes.isdisjoint(_with_constants(plain)):
            plain = f"{plain}_"
        self._attributes |= _with_constants(plain)
        return plain


def _with_constants(attribute: str) -> set[str]:
    return {attribute, *(f"{attribute}_{key}" for key in CONSTANTS)}


class _Shapes:
    """Shape that each node receives and sends, and the nodes that it receives from."""

    def __init__(self, graph: nir.NIRGraph, edges: Edges) -> None:
        self._nodes, self.sources = graph.nodes, _sources(edges)
        targets = _sources((b, a) for a, b in edges)
        self._sent: dict[str, Shape] = {
            name: tuple(int(n) for n in node.output_type["output"])
            for name, node in graph.nodes.items()
            if isinstance(node, nir.Input) and name not in self.sources
        }
        waiting = deque(self._sent)
        while waiting:
            source = waiting.popleft()
            for name in targets.get(source, ()):
                if name not in self._sent:
                    self._sent[name] = self._behind(name, self._sent[source])
                    waiting.append(name)

    def _behind(self, name: str, shape: Shape) -> Shape:
        node = self._nodes[name]
        if type(node) in NEURON_KINDS:
            return shape
        return tuple(int(n) for n in STATELESS[type(node)].linear(node, name, shape).out_shape)

    def sent(self, name: str) -> Shape:
        """Shape of the values of a node.

        Raises:
            ConfigError: no input reaches it.
        """
        if name not in self._sent:
            raise ConfigError(
                f"no input reaches node '{name}'; expected a path from an Input. Remove the node"
            )
        return self._sent[name]

    def received(self, name: str) -> Shape:
        """Shape of the values that a node receives."""
        return self.sent(self.sources.get(name, [name])[0])


def _late(graph: nir.NIRGraph, edges: Edges) -> set[tuple[str, str]]:
    """Edges over which a value arrives one step later: into nodes with ``lag``, and out of looped neurons.

    Raises:
        UnsupportedNodeError: a loop of no neurons, or of several.
    """
    late = {(a, b) for a, b in edges if int((graph.nodes[b].metadata or {}).get("lag", 0))}
    for inside in _tangles(graph.nodes, [edge for edge in edges if edge not in late]):
        neurons = {a for a, _ in inside if type(graph.nodes[a]) in NEURON_KINDS}
        if len(neurons) == 1:  # each edge out of it is part of a loop
            cut = {(a, b) for a, b in inside if a in neurons}
            late |= cut
            late |= _opened(graph, [edge for edge in inside if edge not in cut])
        else:
            late |= _opened(graph, inside)
    return late


def _opened(graph: nir.NIRGraph, edges: Edges) -> set[tuple[str, str]]:
    """Edges that open all loops, one loop after the other."""
    late: set[tuple[str, str]] = set()
    while True:
        loop = _loop([edge for edge in edges if edge not in late])
        if not loop:
            return late
        neurons = [name for name in loop if type(graph.nodes[name]) in NEURON_KINDS]
        if len(neurons) != 1:
            raise UnsupportedNodeError(
                f"the loop {' -> '.join(loop)} has {len(neurons)} populations of neurons; expected 1, for "
                f"the chip takes one step for each connection, and torch one for the loop. Mark the node at "
                f"which it closes with lag = 1, or lower the graph itself"
            )
        late |= {(a, b) for a, b in edges if a == neurons[0] and b in loop}


def _tangles(nodes: Mapping[str, Any], edges: Edges) -> list[Edges]:
    """The edges between nodes that reach one another: those of each group."""
    number = {name: i for i, name in enumerate(nodes)}
    ends = np.array([(number[a], number[b]) for a, b in edges], dtype=np.int64).reshape(-1, 2)
    size = (len(number), len(number))
    matrix = scipy.sparse.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=size)
    _, group = connected_components(matrix, directed=True, connection="strong")
    found: dict[int, Edges] = {}
    for edge, (a, b) in zip(edges, ends):
        if group[a] == group[b]:
            found.setdefault(int(group[a]), []).append(edge)
    return list(found.values())


def _loop(edges: Edges) -> list[str]:
    """The nodes of one loop; empty where there is none."""
    try:
        TopologicalSorter(_sources(edges)).prepare()
    except CycleError as error:
        return list(dict.fromkeys(error.args[1]))
    return []


def _sources(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for a, b in edges:
        found.setdefault(b, []).append(a)
    return found


def _order(graph: nir.NIRGraph, edges: Edges, late: set[tuple[str, str]]) -> list[str]:
    """Nodes behind their sources, inputs in the order of the graph."""
    now = _sources([edge for edge in edges if edge not in late])
    order = TopologicalSorter({name: now.get(name, []) for name in graph.nodes})
    return list(order.static_order())
