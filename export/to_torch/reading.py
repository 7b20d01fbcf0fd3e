"""``from_nir``: a NIR graph as a torch module, to train on, to test, or to export again.

The graph passes the checks of the lowering first, so that what is open (the width of a step, the reset)
is decided in the same way, and the module has the spikes that the lowered network has, up to the rounding
of weights and decays.

nirtorch, which snnTorch's own reader uses, is not: nirtorch 2.6 puts the bias of an Affine where no layer
reads it, passes states in and out as arguments, and knows no reset, no width of a step and no ``lag``.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
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
from biril_nm.models.nir_net import NirNet, Part, make_net

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
    shapes = _Shapes(settled.graph, edges)
    inputs = {n for n, node in settled.graph.nodes.items() if isinstance(node, nir.Input)}
    parts: list[Part] = []
    modules: dict[str, nn.Module] = {}
    buffers: dict[str, torch.Tensor] = {}
    findings = []
    attributes: dict[str, str] = {}
    for name in _order(settled.graph, edges, late):
        try:
            made = _made(settled.graph.nodes[name], name, shapes, settled.step_s)
        except UnsupportedNodeError as error:
            findings.append(str(error))
            continue
        facts = settled.graph.nodes[name].metadata if name in inputs else {}
        parts += _parts(name, made, edges, late, shapes, attributes, facts)
        for suffix, module in made[0]:
            modules[attributes[f"{name}{suffix}"]] = module
        buffers |= {f"{attributes[name]}_{key}": value for key, value in made[1].items()}
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
    made: Made,
    edges: Edges,
    late: set[tuple[str, str]],
    shapes: _Shapes,
    attributes: dict[str, str],
    facts: dict[str, Any],
) -> Iterator[Part]:
    """The calls of one node: one for each of its modules."""
    sources = tuple(a for a, b in edges if b == name)
    waits = frozenset(a for a, b in late if b == name)
    shape = shapes.received(name)
    calls: list[tuple[str, nn.Module | None]] = [*made[0]] or [("", None)]
    for suffix, module in calls:
        full = f"{name}{suffix}"
        attribute = "" if module is None else _free(full, attributes)
        if module is not None:
            attributes[full] = attribute
        membrane = bool(getattr(module, "output", False))
        yield Part(full, attribute, sources, waits, shape, membrane, facts)
        sources, waits = (full,), frozenset()


def _free(name: str, attributes: dict[str, str]) -> str:
    """A name that a module's attribute can have."""
    plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    taken = {*attributes.values(), *dir(NirNet), "parts", "inputs", "outputs", "before"}
    while plain in taken:
        plain = f"{plain}_"
    return plain


class _Shapes:
    """Shape that each node receives and sends."""

    def __init__(self, graph: nir.NIRGraph, edges: Edges) -> None:
        self._nodes, self._edges = graph.nodes, edges
        self._sent: dict[str, Shape] = {}
        for name, node in graph.nodes.items():
            if isinstance(node, nir.Input) and not any(b == name for _, b in edges):
                self._sent[name] = tuple(int(n) for n in node.output_type["output"])
        while True:
            known = [(a, b) for a, b in edges if a in self._sent and b not in self._sent]
            if not known:
                break
            source, name = known[0]
            self._sent[name] = self._behind(name, self._sent[source])

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
        sources = [a for a, b in self._edges if b == name]
        return self.sent(sources[0] if sources else name)


def _late(graph: nir.NIRGraph, edges: Edges) -> set[tuple[str, str]]:
    """Edges over which a value arrives one step later: into nodes with ``lag``, and out of looped neurons.

    Raises:
        UnsupportedNodeError: a loop of no neurons, or of several.
    """
    late = {(a, b) for a, b in edges if int((graph.nodes[b].metadata or {}).get("lag", 0))}
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


def _loop(edges: Edges) -> list[str]:
    """The nodes of one loop; empty where there is none."""
    try:
        TopologicalSorter(_sources(edges)).prepare()
    except CycleError as error:
        return list(dict.fromkeys(error.args[1]))
    return []


def _sources(edges: Edges) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for a, b in edges:
        found.setdefault(b, []).append(a)
    return found


def _order(graph: nir.NIRGraph, edges: Edges, late: set[tuple[str, str]]) -> list[str]:
    """Nodes behind their sources, inputs in the order of the graph."""
    now = _sources([edge for edge in edges if edge not in late])
    order = TopologicalSorter({name: now.get(name, []) for name in graph.nodes})
    return list(order.static_order())
