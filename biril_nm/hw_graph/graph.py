"""LoihiGraph: the integer network between the exporter and every target.

Edges join names. A connection (Dense, Sparse, Conv) has one source (Input or Neurons) and one
destination (Neurons). Time: every connection costs one step plus its delay
(:mod:`biril_nm.hw_graph.timing`). Nodes: :mod:`biril_nm.hw_graph.nodes`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from biril_nm.arguments import checked, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.drawing import Drawing, draw_graph
from biril_nm.hw_graph.files import load_graph, save_graph
from biril_nm.hw_graph.nodes import (
    CONNECTIONS,
    Connection,
    Dense,
    Input,
    Neurons,
    Node,
    Output,
    Sparse,
)
from biril_nm.hw_graph.table import summary_html, summary_text
from biril_nm.hw_graph.timing import Timing
from biril_nm.hw_graph.values import Shape
from biril_nm.hw_graph.wiring import check_wiring

__all__ = ["LoihiGraph"]


@checked
@dataclass(frozen=True, eq=False)
class LoihiGraph:
    """An integer network: named nodes, edges between names, and what is known about them.

    Attributes:
        nodes: name -> node, in the order given.
        edges: (source name, destination name).
        metadata: JSON-able facts: dt_s, reset, coding, decision (how the output decides, see
            :mod:`biril_nm.decision`), rounding (of weights that learn: "connection" as in Lava, or
            "synapse"), scales, quantisation errors, versions.

    Raises:
        ConfigError: the wiring or a shape is wrong; all findings are listed.
    """

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str], ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        object.__setattr__(self, "edges", tuple((str(a), str(b)) for a, b in self.edges))
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        check_wiring(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LoihiGraph):
            return NotImplemented
        return (
            dict(self.nodes) == dict(other.nodes)
            and sorted(self.edges) == sorted(other.edges)
            and dict(self.metadata) == dict(other.metadata)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.nodes), self.edges, dict(self.metadata))

    def __repr__(self) -> str:
        kinds = ", ".join(f"{name}: {type(node).__name__}" for name, node in self.nodes.items())
        return f"LoihiGraph({kinds})"

    def _of_type(self, kind: Any) -> Iterator[tuple[str, Any]]:
        return ((name, node) for name, node in self.nodes.items() if isinstance(node, kind))

    @cached_property
    def inputs(self) -> dict[str, Input]:
        """Input nodes by name."""
        return dict(self._of_type(Input))

    @cached_property
    def neurons(self) -> dict[str, Neurons]:
        """Neurons nodes by name."""
        return dict(self._of_type(Neurons))

    @cached_property
    def connections(self) -> dict[str, Connection]:
        """Dense, Sparse and Conv nodes by name."""
        return dict(self._of_type(CONNECTIONS))

    @cached_property
    def plastic(self) -> dict[str, Dense | Sparse]:
        """Connections with a learning rule, by name."""
        return {
            name: node
            for name, node in self.connections.items()
            if isinstance(node, (Dense, Sparse)) and node.rule is not None
        }

    @cached_property
    def modulator_inputs(self) -> tuple[str, ...]:
        """Inputs that modulate learning and drive nothing; without learning they need no values."""
        driving = {source for source, _ in self.ends.values()}
        named = {name for node in self.plastic.values() for name in node.modulators.values()}
        return tuple(name for name in self.inputs if name in named - driving)

    @cached_property
    def ends(self) -> dict[str, tuple[str, str]]:
        """Connection name -> (source name, destination name)."""
        source = {b: a for a, b in self.edges if b in self.connections}
        destination = {a: b for a, b in self.edges if a in self.connections}
        return {name: (source[name], destination[name]) for name in self.connections}

    @cached_property
    def outputs(self) -> dict[str, str]:
        """Output node name -> name of the Neurons node that it marks."""
        return {b: a for a, b in self.edges if isinstance(self.nodes[b], Output)}

    @staticmethod
    def _known(what: str, name: str, named: Mapping[str, Any]) -> Any:
        if name not in named:
            raise ConfigError(unknown_name(what, name, named))
        return named[name]

    @checked
    def incoming(self, neurons: str) -> list[str]:
        """Names of the connections that end at a Neurons node."""
        return list(self._incoming.get(neurons, ()))

    @cached_property
    def _incoming(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name, (_, target) in self.ends.items():
            found.setdefault(target, []).append(name)
        return found

    @checked
    def shape_of(self, name: str) -> Shape:
        """Shape of the spikes of an Input or Neurons node."""
        node = self._known("node", name, self.nodes)
        if not isinstance(node, (Input, Neurons)):
            raise ConfigError(f"node '{name}' ({type(node).__name__}) sends no spikes")
        return node.shape

    @checked
    def message_bits_into(self, connection: str) -> int:
        """Message bits of the source of a connection without a sign: 0 for spikes of 0 and 1."""
        source = self._known("connection", connection, self.ends)[0]
        if source in self.neurons:
            return self.neurons[source].compartment.message_bits
        return self.inputs[source].message_bits

    @cached_property
    def timing(self) -> Timing:
        """Latency of each node and slack of each connection (:mod:`biril_nm.hw_graph.timing`)."""
        return Timing.of(
            inputs=tuple(self.inputs),
            neurons=tuple(self.neurons),
            links={name: (*self.ends[name], node.delay) for name, node in self.connections.items()},
        )

    @property
    def latency(self) -> Mapping[str, int]:
        """Steps from input to each Neurons node (0 for inputs)."""
        return self.timing.latency

    @checked
    def sample_period(self, n_steps: int) -> int:
        """Chip steps from one sample's start to the next when samples stream back to back."""
        return self.timing.sample_period(n_steps)

    @checked
    def with_node(self, name: str, **changes: Any) -> LoihiGraph:
        """A copy in which the fields or registers ``changes`` of one node are replaced."""
        changed = replace(self._known("node", name, self.nodes), **changes)
        nodes = {**self.nodes, name: changed}
        return LoihiGraph(nodes, self.edges, self.metadata)

    @checked
    def with_metadata(self, **changes: Any) -> LoihiGraph:
        """A copy with changed metadata."""
        return LoihiGraph(self.nodes, self.edges, {**self.metadata, **changes})

    def summary(self) -> str:
        """Plain-text tables: scale, bits used, clipped weights and rounding error of each node.

        Units: scale in integer weight units per threshold, of which v has 64 each (docs/graphs.md).
        """
        return summary_text(self)

    def _repr_html_(self) -> str:
        return summary_html(self)

    @checked
    def draw(self, rates: Mapping[str, float] | None = None, tall: bool | None = None) -> Drawing:
        """Draw the network: populations as boxes by latency, connections as arrows.

        Args:
            rates: node -> spikes per neuron and step, shown by the colour of its box.
            tall: from top to bottom; None: where it would be too wide otherwise.

        Raises:
            ConfigError: rates of unknown nodes.
        """
        return draw_graph(self, rates, tall)

    def report(self) -> str:
        """The old name of :meth:`summary`."""
        warnings.warn("'LoihiGraph.report' is now 'summary'", DeprecationWarning, stacklevel=2)
        return self.summary()

    @checked
    def save(self, path: str | Path, force: bool = False) -> None:
        """Write ``x.loihi.npz`` atomically: arrays and one JSON string, no pickle."""
        save_graph(path, self.nodes, self.edges, self.metadata, force=force)

    @staticmethod
    @checked
    def load(path: str | Path) -> LoihiGraph:
        """Read a file of :meth:`save`; sizes and shapes are checked first.

        Raises:
            FileFormatError: the file is damaged, not a LoihiGraph, or has a compartment model that is
                not registered.
        """
        return load_graph(path, LoihiGraph)
