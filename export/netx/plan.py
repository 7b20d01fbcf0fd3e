"""The layers of a file to be written, and everything that stands against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biril_nm.export.netx.records import LayerRecord
from biril_nm.hw_graph import Connection, LoihiGraph

__all__ = ["LAVA_INSTEAD", "Plan", "links_between", "sequence"]

LAVA_INSTEAD = "The Lava back end (--to lava) runs it as it is"
SEQUENTIAL = f"netx is strictly sequential. {LAVA_INSTEAD}"


class Plan:
    """Layers so far, and everything that stands against them."""

    def __init__(self, graph: LoihiGraph, round_bias: bool) -> None:
        self.graph, self.round_bias = graph, round_bias
        self.findings: list[str] = []
        self.records: list[LayerRecord] = []
        self.names: dict[str, dict[str, str]] = {}

    def refuse(self, node: str, found: str, way_out: str) -> None:
        """Note what stands against writing a node."""
        self.findings.append(f"'{node}': {found}. {way_out}")

    def add(self, kind: str, names: Mapping[str, str] | None = None, **fields: Any) -> None:
        """Append a layer, and the node names that its parts came from."""
        index = len(self.records)
        self.records.append(LayerRecord(index, kind, **fields))
        if names:
            self.names[str(index)] = dict(names)


def sequence(plan: Plan) -> list[str]:
    """Input and populations in order; empty, with findings, if they are not one sequence."""
    graph = plan.graph
    after = {name: _others(graph, name, 1) for name in (*graph.inputs, *graph.neurons)}
    if not _is_sequential(plan, after):
        return []
    found = [next(iter(graph.inputs))]
    while after[found[-1]]:
        found.append(after[found[-1]][0])
        if found[-1] in found[:-1]:
            plan.refuse(found[-1], "closes a loop over several populations", SEQUENTIAL)
            return []
    for name in graph.neurons:
        if name not in found:
            plan.refuse(name, "is not reached from the input", SEQUENTIAL)
    for output, name in graph.outputs.items():
        if name != found[-1]:
            plan.refuse(output, f"reads '{name}' amid the chain", "netx sends the last layer only")
    return found


def _is_sequential(plan: Plan, after: Mapping[str, list[str]]) -> bool:
    """Whether there is one input, and one source and one target at most for each population."""
    graph, count = plan.graph, len(plan.findings)
    if len(graph.inputs) != 1 or not graph.neurons:
        inputs = ", ".join(graph.inputs)
        found = f"{len(graph.inputs)} inputs, {len(graph.neurons)} populations"
        plan.refuse(inputs, found, SEQUENTIAL)
    for name in graph.neurons:
        sources = _others(graph, name, 0)
        if len(sources) != 1:
            plan.refuse(name, f"receives from {len(sources)} nodes {sources}", SEQUENTIAL)
    for name, targets in after.items():
        if len(targets) > 1:
            plan.refuse(name, f"feeds {len(targets)} nodes {targets}", SEQUENTIAL)
    return len(plan.findings) == count


def _others(graph: LoihiGraph, name: str, end: int) -> list[str]:
    """Sources (end 0) or targets (end 1) of a node other than itself."""
    pairs = [ends for ends in graph.ends.values() if ends[1 - end] == name]
    return list(dict.fromkeys(ends[end] for ends in pairs if ends[end] != name))


def links_between(graph: LoihiGraph, source: str, target: str) -> dict[str, Connection]:
    """All connections from one node to another."""
    ends = (source, target)
    return {name: graph.connections[name] for name, found in graph.ends.items() if found == ends}
