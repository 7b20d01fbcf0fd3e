"""Paths through stateless nodes: what a source sends to the next neurons, as one linear map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import IntArray, Shape
from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export.nir_nodes.filter_node import Filter
from biril_nm.export.nir_nodes.linear_maps import LinearMap, compose, diagonal, naming
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS
from biril_nm.export.nir_nodes.stateless import STATELESS, each
from biril_nm.loihi import CHIPS

__all__ = ["Path", "Walk"]

# Steps; delays that are further from a whole number are noted.
ROUNDED = 0.01
# Steps of a walk from one source; networks of real producers need a few.
MAX_STEPS = 20_000
DELAY_MAX = max(chip.delay_max for chip in CHIPS.values())


@dataclass(frozen=True)
class Path:
    """The way from a source through stateless nodes.

    Attributes:
        linear: what it does to the values.
        names: of the nodes, as in the link's name; a part of a Delay is called ``NAME[STEPS]``.
        nodes: the nodes themselves.
        delay: steps on top of the usual one.
    """

    linear: LinearMap
    names: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    delay: int = 0

    def beyond(self, node: str, linear: LinearMap, delay: int = 0, name: str = "") -> Path:
        """The path behind one more node, which has ``name`` in the name of the link."""
        names = (*self.names, name or node)
        return Path(linear, names, (*self.nodes, node), self.delay + delay)


class Walk:
    """Paths through stateless nodes, from sources forward to the next neurons.

    Attributes:
        graph: NIR graph without nested graphs.
        dt_s: width of a step in seconds.
        notes: what was rounded on the way.
        shapes: what each stateless node sends.
        next: node -> the nodes behind it.
        before: node -> the nodes in front of it.
    """

    def __init__(self, graph: nir.NIRGraph, dt_s: float) -> None:
        self.graph, self.dt_s = graph, dt_s
        self.notes: list[str] = []
        self.shapes: dict[str, Shape] = {}
        self.next: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for a, b in graph.edges:
            self.next[a].append(b)
            self.before[b].append(a)

    def forward(self, source: str, start: Path) -> Iterator[tuple[str, Path]]:
        """Yield (neuron or final Output, path) for every path behind ``source``."""
        waiting = self._onward(source, start)
        for _ in range(MAX_STEPS):
            if not waiting:
                return
            at, path = waiting.pop()
            if self._ends(at):
                yield at, path
            else:
                waiting += self._onward(at, path)
        raise UnsupportedNodeError(
            f"the number of paths from '{source}' through nodes without spikes is above {MAX_STEPS}; "
            f"expected fewer. Put neurons in between"
        )

    def _onward(self, at: str, path: Path) -> list[tuple[str, Path]]:
        """The next nodes and the paths through them, the last one first."""
        found = [(name, p) for name in self.next[at] for p in self._through(name, path)]
        return found[::-1]

    def _ends(self, name: str) -> bool:
        node = self.graph.nodes[name]
        return type(node) in NEURON_KINDS or (isinstance(node, nir.Output) and not self.next[name])

    def _through(self, name: str, path: Path) -> list[Path]:
        """The path behind one more node; a Delay of several lengths gives one part for each."""
        if self._ends(name):
            return [path]
        if name in path.nodes:
            raise UnsupportedNodeError(
                f"the loop {' -> '.join(path.names)} has no neuron; expected one or more. Put neurons into it"
            )
        node, linear = self.graph.nodes[name], path.linear
        with naming(name):
            whole = compose(linear, self.linear(name, node, linear.out_shape))
        known = self.shapes.setdefault(name, whole.out_shape)
        if known != whole.out_shape:
            raise ConfigError(
                f"node '{name}' ({type(node).__name__}) sends shape {whole.out_shape} for one source; "
                f"expected {known}, as for another. Give both sources one shape"
            )
        if not isinstance(node, nir.Delay):
            return [path.beyond(name, whole)]
        steps = self._delay_steps(name, node, linear.out_shape)
        values = [int(value) for value in np.unique(steps)]
        if len(values) == 1:
            return [path.beyond(name, linear, values[0])]
        return [
            path.beyond(name, compose(linear, diagonal(steps == value)), value, f"{name}[{value}]")
            for value in values
        ]

    def linear(self, name: str, node: nir.NIRNode, shape: Shape) -> LinearMap:
        """Linear part of one stateless node, or of a filter."""
        if isinstance(node, Filter):
            return diagonal(each(node, name, node.scale, shape))
        return STATELESS[type(node)].linear(node, name, shape)

    def _delay_steps(self, name: str, node: Any, shape: Shape) -> IntArray:
        """Whole steps of a Delay node, one per neuron."""
        exact = np.asarray(node.delay, dtype=np.float64) / self.dt_s
        steps = np.rint(exact)
        if np.any(steps < 0):
            raise UnsupportedNodeError(
                f"node '{name}' (Delay): delay is {exact.min() * self.dt_s:g} s; expected 0 or more"
            )
        if np.any(steps > DELAY_MAX):
            raise RangeError(
                f"node '{name}' (Delay): delay is {steps.max():g} steps; expected 0 to {DELAY_MAX}. Choose "
                f"a longer dt_s, or put neurons in between"
            )
        if np.abs(exact - steps).max(initial=0.0) > ROUNDED:
            self.notes.append(
                f"delays of '{name}' are {exact.min():.2f} to {exact.max():.2f} steps, rounded to whole ones"
            )
        return np.broadcast_to(steps.astype(np.int64), shape)
