"""Delay balancing: where paths of different length meet, the shorter one gets synaptic delay.

Every connection costs one step, so a residual branch arrives earlier than the path beside it. Added
delay makes all connections into a node slack-free; the network then computes what the torch
network computes, later. What is meant to be late stays late: connections that close a loop, and
delays that the network has by itself. Connections from neurons that no input reaches (constant
sources) are left alone as well; their place in time follows from their targets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from biril_nm.errors import UnsupportedNodeError
from biril_nm.hw_graph import LoihiGraph

__all__ = ["balance_delays", "shared_delays"]


def balance_delays(
    graph: LoihiGraph, delay_max: int, late: Collection[str] = ()
) -> tuple[LoihiGraph, dict[str, int]]:
    """Return the balanced graph and the delay added to each changed connection.

    Args:
        graph: any graph.
        delay_max: largest synaptic delay.
        late: connections that are known to close loops; others are found.

    Raises:
        UnsupportedNodeError: a connection would need more than ``delay_max`` steps, or a connection
            of ``late`` takes more than one step around its loop.
    """
    forward = _forward(graph, late, {})
    absorbed = _absorbed(forward)
    nominal = {name: (src, dst, absorbed[dst]) for name, (src, dst, _) in forward.items()}
    latest = _longest(nominal, tuple(graph.inputs), tuple(graph.neurons))
    added = {
        name: latest[dst] - latest[src] - 1 - absorbed[dst]
        for name, (src, dst, _) in forward.items()
        if latest[dst] - latest[src] - 1 - absorbed[dst] > 0
    }
    for name, extra in added.items():
        total = graph.connections[name].delay + extra
        if total > delay_max:
            raise UnsupportedNodeError(
                f"the delay of connection '{name}' is {total} steps, to meet the longer path beside it; "
                f"expected at most {delay_max}. Shorten that path"
            )
        graph = graph.with_node(name, delay=total)
    slow = {name: graph.timing.slack[name] for name in late if graph.timing.slack[name] != 1}
    if slow:
        # Behind neurons that only the loop reaches, the distance says nothing.
        long = (f"{n!r} take {k if k > 1 else 'more than 1'} steps" for n, k in slow.items())
        raise UnsupportedNodeError(
            f"loops through {', '.join(long)} on chip, where "
            f"each connection costs one; expected 1 step, as in the network. Close the loop over one neuron "
            f"layer (RLeaky), or train with the delay"
        )
    return graph, added


def shared_delays(
    graph: LoihiGraph, late: Collection[str], added: Mapping[str, int]
) -> dict[str, int]:
    """Population -> steps by which the network itself delays all that it receives, where it does.

    Args:
        graph: the balanced graph.
        late: connections that are known to close loops.
        added: connection -> delay that balancing has added.
    """
    return {node: steps for node, steps in _absorbed(_forward(graph, late, added)).items() if steps}


def _forward(
    graph: LoihiGraph, late: Collection[str], added: Mapping[str, int]
) -> dict[str, tuple[str, str, int]]:
    """Connection -> source, target and delay, of those on the way from the inputs that close no loop."""
    links = {
        name: (*graph.ends[name], node.delay - added.get(name, 0))
        for name, node in graph.connections.items()
    }
    unmarked = {name: link for name, link in links.items() if name not in late}
    loops = {*late, *_closing(unmarked, tuple(graph.inputs))}
    reached = _reached(links, tuple(graph.inputs))
    return {name: link for name, link in links.items() if name not in loops and link[0] in reached}


def _absorbed(links: Mapping[str, tuple[str, str, int]]) -> dict[str, int]:
    """Delay that all connections into a node share: it only moves the node in time."""
    shared: dict[str, int] = {}
    for _, dst, delay in links.values():
        shared[dst] = min(delay, shared.get(dst, delay))
    return shared


def _reached(links: Mapping[str, tuple[str, str, int]], inputs: tuple[str, ...]) -> set[str]:
    """Nodes that spikes of an input can reach."""
    found, waiting = set(inputs), list(inputs)
    while waiting:
        at = waiting.pop()
        fresh = {dst for src, dst, _ in links.values() if src == at} - found
        found |= fresh
        waiting += fresh
    return found


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
