"""Time on the chip: latency of nodes, slack of connections, period of a sample.

Every connection costs one step plus its delay. The latency of a node is the shortest way from an
input, so that chip step ``latency + t`` is the node's response to input step ``t`` (node time).
Where a connection arrives later than the shortest way, the difference is its slack: in node time
it acts like a delay of that many steps. A feed-forward graph with equal paths has no slack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biril_nm.errors import ConfigError

__all__ = ["Timing"]


@dataclass(frozen=True)
class Timing:
    """When things happen in one graph.

    Attributes:
        latency: steps from input to each Input (0) and Neurons node.
        slack: steps, in node time, from a source's spike to its arrival, per connection.
        order: Neurons names so that every slack-free connection points forward.
    """

    latency: Mapping[str, int]
    slack: Mapping[str, int]
    order: tuple[str, ...]

    @staticmethod
    def of(
        inputs: tuple[str, ...],
        neurons: tuple[str, ...],
        links: Mapping[str, tuple[str, str, int]],
    ) -> Timing:
        """Compute the timing of a graph.

        Args:
            inputs: names of the inputs.
            neurons: names of the Neurons nodes.
            links: connection -> (source, destination, delay).
        """
        latency = _shortest(inputs, neurons, links)
        slack = {
            name: latency[src] + 1 + delay - latency[dst]
            for name, (src, dst, delay) in links.items()
        }
        order = tuple(sorted(neurons, key=lambda name: (latency[name], neurons.index(name))))
        return Timing(latency=latency, slack=slack, order=order)

    @property
    def max_slack(self) -> int:
        """Largest slack, 0 for a balanced feed-forward graph."""
        return max(self.slack.values(), default=0)

    def sample_period(self, n_steps: int) -> int:
        """``n_steps`` plus the gap that late arrivals need."""
        if n_steps < 1:
            raise ConfigError(f"n_steps is {n_steps}; a sample has at least one step")
        return n_steps + self.max_slack


def _shortest(
    inputs: tuple[str, ...],
    neurons: tuple[str, ...],
    links: Mapping[str, tuple[str, str, int]],
) -> dict[str, int]:
    latency = dict.fromkeys(inputs, 0)
    for _ in range(len(neurons) + 1):  # Bellman-Ford: at most one round per neuron node
        changed = False
        for src, dst, delay in links.values():
            if src in latency and latency[src] + 1 + delay < latency.get(dst, 1 << 30):
                latency[dst] = latency[src] + 1 + delay
                changed = True
        if not changed:
            break
    _place_sources(neurons, links, latency)
    late = [name for name, (src, dst, d) in links.items() if latency[src] + 1 + d < latency[dst]]
    if late:
        raise ConfigError(
            f"connections {', '.join(late)} come from nodes that no input reaches and that feed nodes "
            f"of different latency through a loop. Give each target its own source"
        )
    return latency


def _place_sources(
    neurons: tuple[str, ...],
    links: Mapping[str, tuple[str, str, int]],
    latency: dict[str, int],
) -> None:
    """Neurons that no input reaches (bias only): as late as their latest target allows, or 0."""
    waiting = [name for name in neurons if name not in latency]
    while waiting:
        ready = {
            name: max(latency[dst] - 1 - d for src, dst, d in links.values() if src == name)
            for name in waiting
            if any(src == name for src, _, _ in links.values())
            and all(dst in latency for src, dst, _ in links.values() if src == name and dst != name)
            and not any(src == dst == name for src, dst, _ in links.values())
        }
        if not ready:
            latency.update(dict.fromkeys(waiting, 0))
            return
        latency.update({name: max(0, steps) for name, steps in ready.items()})
        waiting = [name for name in waiting if name not in latency]
