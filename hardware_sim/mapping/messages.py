"""Messages between cores: what the spikes of a population send over the mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.mapping.fanout import reach
from biril_nm.hardware_sim.mapping.placement import Placement
from biril_nm.hardware_sim.mapping.traffic import tiles
from biril_nm.hw_graph import LoihiGraph

__all__ = ["Messages", "messages"]


@dataclass(frozen=True)
class Messages:
    """Messages that one population sends: one per spike and block that it reaches.

    Attributes:
        sent: messages.
        hops_x: tiles crossed east or west, summed over messages.
        hops_y: tiles crossed north or south.
    """

    sent: int
    hops_x: int
    hops_y: int


def messages(
    graph: LoihiGraph, placement: Placement, name: str, spikes: NDArray[np.int64]
) -> Messages:
    """Messages and hops of the spikes of population ``name``.

    Args:
        graph: the integer network.
        placement: where it was placed.
        name: the sender.
        spikes: spikes per neuron, in the node's shape.
    """
    volume = np.asarray(spikes).reshape(placement.splits[name].shape)
    place = {node: _positions(placement, node) for node in placement.parts}
    sent = hops_x = hops_y = 0
    for connection, (source, target) in graph.ends.items():
        if source != name:
            continue
        way = reach(graph, connection, placement.splits[target])
        for block, at in enumerate(place[name]):
            found = way.messages(volume, placement.splits[name].bounds(block))
            away = np.abs(place[target] - at)
            sent += int(found.sum())
            hops_x += int(found @ away[:, 0])
            hops_y += int(found @ away[:, 1])
    return Messages(sent, hops_x, hops_y)


def _positions(placement: Placement, name: str) -> NDArray[np.int64]:
    """(x, y) of the tile of each block, in block order."""
    core = np.array([part.core for part in placement.parts[name]], dtype=np.int64)
    return tiles(core, placement.limits)
