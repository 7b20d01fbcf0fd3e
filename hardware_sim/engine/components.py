"""Execution order: strongly connected components of the graph, sources first."""

from __future__ import annotations

from dataclasses import dataclass

from biril_nm.hw_graph import LoihiGraph

__all__ = ["Component", "execution_order"]


@dataclass(frozen=True)
class Component:
    """Neurons nodes that depend on each other.

    Attributes:
        names: in an order in which slack-free connections point forward.
        looped: whether spikes can return, so that the nodes advance together, step by step.
    """

    names: tuple[str, ...]
    looped: bool


def execution_order(
    graph: LoihiGraph, extra: tuple[tuple[str, str], ...] = ()
) -> tuple[Component, ...]:
    """Components so that every connection from outside comes from an earlier one (Tarjan).

    ``extra`` are pairs (source, target) of nodes that depend on each other without a connection.
    """
    targets: dict[str, list[str]] = {name: [] for name in graph.neurons}
    for source, target in (*graph.ends.values(), *extra):
        if source in targets:
            targets[source].append(target)
    rank = {name: place for place, name in enumerate(graph.timing.order)}
    found = _tarjan(targets)
    return tuple(
        Component(
            names=tuple(sorted(names, key=rank.__getitem__)),
            looped=len(names) > 1 or names[0] in targets[names[0]],
        )
        for names in reversed(found)
    )


def _tarjan(targets: dict[str, list[str]]) -> list[list[str]]:
    """Strongly connected components, targets before sources; no recursion, nets may be deep."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []
    for root, first in targets.items():
        if root in index:
            continue
        work = [(root, iter(first))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            name, rest = work[-1]
            step = next(rest, None)
            if step is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    cut = stack.index(name)
                    found.append(stack[cut:])
                    del stack[cut:]
            elif step not in index:
                index[step] = low[step] = len(index)
                stack.append(step)
                work.append((step, iter(targets[step])))
            elif step in stack:
                low[name] = min(low[name], index[step])
    return found
