"""Delay balancing: where paths of different length meet, the shorter one gets synaptic delay.

Every connection costs one step, so a residual branch arrives earlier than the path beside it. Added
delay makes all connections into a node slack-free; the network then computes what the torch
network computes, later. Connections that close a loop are left alone: they are meant to be late.
"""

from __future__ import annotations

from collections.abc import Mapping

from biril_nm.errors import UnsupportedNodeError
from biril_nm.hw_graph import LoihiGraph

__all__ = ["balance_delays"]


def balance_delays(graph: LoihiGraph, delay_max: int) -> tuple[LoihiGraph, dict[str, int]]:
    """Return the balanced graph and the delay added to each changed connection.

    Raises:
        UnsupportedNodeError: a connection would need more than ``delay_max`` steps.
    """
    links = {name: (*graph.ends[name], node.delay) for name, node in graph.connections.items()}
    loops = _closing(links, tuple(graph.inputs))
    forward = {name: link for name, link in links.items() if name not in loops}
    latest = _longest(forward, tuple(graph.inputs), tuple(graph.neurons))
    added = {
        name: latest[dst] - latest[src] - 1 - delay
        for name, (src, dst, delay) in forward.items()
        if latest[dst] - latest[src] - 1 - delay > 0
    }
    for name, extra in added.items():
        total = graph.connections[name].delay + extra
        if total > delay_max:
            raise UnsupportedNodeError(
                f"connection '{name}' would need a delay of {total} steps to meet its longer sibling "
                f"path; allowed are {delay_max}. Shorten that path"
            )
        graph = graph.with_node(name, delay=total)
    return graph, added


def _closing(links: Mapping[str, tuple[str, str, int]], inputs: tuple[str, ...]) -> set[str]:
    """Connections that close a loop, found by a depth-first walk from the inputs."""
    out: dict[str, list[tuple[str, str]]] = {}
    for name, (src, dst, _) in links.items():
        out.setdefault(src, []).append((name, dst))
    closing: set[str] = set()
    state: dict[str, int] = {}
    roots = [*inputs, *(src for src, _, _ in links.values())]
    for root in roots:
        if root in state:
            continue
        state[root] = 1
        stack = [(root, iter(out.get(root, [])))]
        while stack:
            at, rest = stack[-1]
            for name, dst in rest:
                if state.get(dst) == 1:
                    closing.add(name)
                elif dst not in state:
                    state[dst] = 1
                    stack.append((dst, iter(out.get(dst, []))))
                    break
            else:
                state[at] = 2
                stack.pop()
    return closing


def _longest(
    links: Mapping[str, tuple[str, str, int]], inputs: tuple[str, ...], neurons: tuple[str, ...]
) -> dict[str, int]:
    """Longest way from any input, over loop-free links; nodes without a way start at 0."""
    latest = dict.fromkeys((*inputs, *neurons), 0)
    for _ in range(len(neurons) + 1):
        changed = False
        for src, dst, delay in links.values():
            if latest[src] + 1 + delay > latest[dst]:
                latest[dst] = latest[src] + 1 + delay
                changed = True
        if not changed:
            break
    return latest
