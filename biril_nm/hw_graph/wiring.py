"""Wiring and shape checks of a LoihiGraph: all findings are collected, then raised once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from biril_nm.errors import ConfigError, bullet_list
from biril_nm.hw_graph.nodes import (
    Conv,
    Dense,
    Input,
    Neurons,
    Output,
    Sparse,
    convolved_shape,
)
from biril_nm.hw_graph.values import Shape
from biril_nm.learning.rule import POST_TRACES
from biril_nm.loihi import TRACE_BITS
from biril_nm.storage import name_problem

if TYPE_CHECKING:
    from biril_nm.hw_graph.graph import LoihiGraph

__all__ = ["check_wiring"]

SIGNED_SPIKES = "sends spikes of -1 and 1; traces have no sign. Use neurons of another model there"


def check_wiring(graph: LoihiGraph) -> None:
    """Raise :class:`ConfigError` listing every wiring or shape mistake of ``graph``."""
    findings = [*_name_findings(graph), *_edge_findings(graph)]
    if not findings:
        findings = [*_shape_findings(graph), *_plasticity_findings(graph)]
    if findings:
        raise ConfigError(bullet_list("the graph is not wired correctly:", findings))


def _name_findings(graph: LoihiGraph) -> Iterator[str]:
    """Files have members that are called after nodes."""
    for name in graph.nodes:
        problem = name_problem(name)
        if problem:
            yield f"the name {name!r:.60} {problem}"


def _edge_findings(graph: LoihiGraph) -> Iterator[str]:
    if not graph.inputs:
        yield "there is no Input node"
    for a, b in graph.edges:
        for name in (a, b):
            if name not in graph.nodes:
                yield f"edge {a} -> {b}: node '{name}' does not exist"
    if len(set(graph.edges)) != len(graph.edges):
        yield "an edge occurs twice"
    into, out_of = _neighbours(graph)
    for name, node in graph.nodes.items():
        sources, targets = into[name], out_of[name]
        kind = type(node).__name__
        if name in graph.connections:
            yield from _ends_findings(graph, name, kind, sources, targets)
        elif isinstance(node, Output):
            yield from _output_findings(graph, name, sources, targets)
        else:
            yield from _population_findings(graph, name, kind, sources, targets)


def _neighbours(graph: LoihiGraph) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Sources and targets of every node, as far as they exist."""
    into: dict[str, list[str]] = {name: [] for name in graph.nodes}
    out_of: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        if a in into and b in into:
            into[b].append(a)
            out_of[a].append(b)
    return into, out_of


def _output_findings(
    graph: LoihiGraph, name: str, sources: list[str], targets: list[str]
) -> Iterator[str]:
    if len(sources) != 1 or not isinstance(graph.nodes[sources[0]], Neurons):
        yield f"Output '{name}' has sources {sources}; expected one Neurons node"
    if targets:
        yield f"Output '{name}' has targets {targets}; expected none"


def _population_findings(
    graph: LoihiGraph, name: str, kind: str, sources: list[str], targets: list[str]
) -> Iterator[str]:
    if isinstance(graph.nodes[name], Input) and sources:
        yield f"Input '{name}' has sources {sources}; expected none"
    ends = [b for b in targets if not isinstance(graph.nodes[b], Output)]
    wrong = [b for b in (*sources, *ends) if b not in graph.connections]
    if wrong:
        yield f"{kind} '{name}' is joined to {wrong}; expected connections"


def _ends_findings(
    graph: LoihiGraph, name: str, kind: str, sources: list[str], targets: list[str]
) -> Iterator[str]:
    if len(sources) != 1 or not isinstance(graph.nodes[sources[0]], (Input, Neurons)):
        yield f"{kind} '{name}' has sources {sources}; expected one Input or Neurons node"
    if len(targets) != 1 or not isinstance(graph.nodes[targets[0]], Neurons):
        yield f"{kind} '{name}' has targets {targets}; expected one Neurons node"
    delay = graph.connections[name].delay
    if delay < 0:
        yield f"{kind} '{name}' has delay {delay}; expected whole steps from 0"


def _shape_findings(graph: LoihiGraph) -> Iterator[str]:
    for name, node in graph.connections.items():
        source, destination = graph.ends[name]
        pre, post = graph.shape_of(source), graph.shape_of(destination)
        if isinstance(node, Conv):
            yield from _conv_findings(name, node, pre, post)
        elif node.weight.shape != (int(np.prod(post)), int(np.prod(pre))):
            yield (
                f"{type(node).__name__} '{name}' has weights {node.weight.shape}; expected "
                f"({int(np.prod(post))}, {int(np.prod(pre))}) for {source}{pre} -> {destination}{post}"
            )


def _conv_findings(name: str, node: Conv, pre: Shape, post: Shape) -> Iterator[str]:
    out_channels, in_channels = node.weight.shape[:2]
    if min(*node.stride, *node.dilation, node.groups) < 1 or min(node.padding) < 0:
        yield f"Conv '{name}': stride, dilation and groups start at 1, padding at 0"
        return
    if len(pre) != 3 or len(post) != 3:
        yield f"Conv '{name}' joins shapes {pre} and {post}; expected (C, H, W) for both"
        return
    if pre[0] != in_channels * node.groups or out_channels % node.groups:
        yield (
            f"Conv '{name}': {pre[0]} input and {out_channels} output channels do not fit weights "
            f"{node.weight.shape} in {node.groups} groups"
        )
    elif convolved_shape(node, pre) != post:
        made = convolved_shape(node, pre)
        yield f"Conv '{name}' makes {made} from {pre}, but its target is {post}"


def _plasticity_findings(graph: LoihiGraph) -> Iterator[str]:
    for name, node in graph.connections.items():
        modulators = getattr(node, "modulators", {})
        if name not in graph.plastic:
            if modulators:
                yield f"connection '{name}' has modulators {dict(modulators)} but no learning rule"
            continue
        plastic = graph.plastic[name]
        if plastic.delay:
            yield (
                f"connection '{name}' learns and has delay {plastic.delay}; learning connections have "
                f"no delay, put it on another connection"
            )
        for role, end in zip(("source", "target"), graph.ends[name]):
            if end in graph.neurons and graph.neurons[end].compartment.signed:
                yield f"connection '{name}': {role} '{end}' {SIGNED_SPIKES}"
        yield from _modulator_findings(graph, name, plastic)


def _modulator_findings(graph: LoihiGraph, name: str, node: Dense | Sparse) -> Iterator[str]:
    rule = node.rule
    if rule is None:
        return
    if node.modulators and not rule.three_factor:
        yield (
            f"connection '{name}' has modulators {dict(node.modulators)}, but rule '{rule.name}' has "
            f"two factors; set three_factor in the rule"
        )
        return
    missing = [factor for factor in rule.third_factors if factor not in node.modulators]
    if missing:
        yield (
            f"connection '{name}': rule '{rule.name}' needs {', '.join(missing)} from outside; name "
            f"their Input or Neurons in modulators"
        )
    size = int(np.prod(graph.shape_of(graph.ends[name][1])))
    for factor, source in node.modulators.items():
        known = factor in POST_TRACES and (source in graph.inputs or source in graph.neurons)
        if not known:
            yield (
                f"connection '{name}': modulator {factor}: '{source}' is not allowed; expected one of "
                f"{', '.join(POST_TRACES)} and the name of an Input or Neurons node"
            )
            continue
        elements = int(np.prod(graph.shape_of(source)))
        if elements not in (1, size):
            yield (
                f"connection '{name}': modulator '{source}' has {elements} elements; expected 1 or "
                f"{size}, one per destination neuron"
            )
        if source in graph.neurons and graph.neurons[source].compartment.signed:
            yield f"connection '{name}': modulator '{source}' {SIGNED_SPIKES}"
        if source in graph.inputs and graph.inputs[source].signed:
            yield (
                f"connection '{name}': modulator '{source}' is signed; traces hold 0 to "
                f"{(1 << TRACE_BITS) - 1}. Use one input for rewards and one for punishments"
            )
        if source in graph.inputs and graph.inputs[source].message_bits > TRACE_BITS:
            yield (
                f"connection '{name}': modulator '{source}' has {graph.inputs[source].message_bits} "
                f"message bits; traces have {TRACE_BITS}"
            )
