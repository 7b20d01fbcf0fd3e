"""From a NIR graph to neurons joined by linear links: the float network that gets quantised.

Stateless nodes between neurons dissolve: each path from a source to the next neuron becomes one
link with one linear map, each bias arrives at the neurons as a constant, or, where it would pass a
synaptic filter, from a neuron ``NODE.always_on`` that spikes at every step. Names of the nodes on a
path are joined by ``+``; Flatten and the ends of nested graphs leave no trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.passes.linear_maps import (
    LinearMap,
    Matrix,
    as_matrix,
    compose,
    diagonal,
    identity,
)
from biril_nm.export.passes.neuron_kinds import NEURON_KINDS, Dynamics, dynamics_of
from biril_nm.export.passes.stateless import STATELESS

__all__ = ["FloatLink", "FloatNet", "flatten_graph", "float_net"]

FloatArray = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class FloatLink:
    """One linear map between two nodes, with a delay in steps on top of the usual one.

    ``late``: the network says that this link carries the spikes of the previous step.
    """

    name: str
    source: str
    destination: str
    linear: LinearMap
    delay: int = 0
    late: bool = False


@dataclass(frozen=True)
class FloatNet:
    """Neurons, links and constants in float; the inputs' metadata tell their coding.

    Attributes:
        inputs: input name -> (shape, metadata of the NIR node).
        neurons: neuron name -> (shape, dynamics).
        links: all links.
        bias: neuron name -> summed affine bias in front of it.
        outputs: output name -> neuron name.
        notes: what a reader of the result must know.
    """

    inputs: Mapping[str, tuple[Shape, Mapping[str, Any]]]
    neurons: Mapping[str, tuple[Shape, Dynamics]]
    links: tuple[FloatLink, ...]
    bias: Mapping[str, FloatArray]
    outputs: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def links_into(self, neurons: str) -> list[FloatLink]:
        """Links that end at a neuron node."""
        return [link for link in self.links if link.destination == neurons]


_NAMELESS = (nir.Flatten, nir.Input, nir.Output)
ROUNDED = 0.01  # steps; delays further from a whole number are told
SCALARS: tuple[Shape, ...] = ((), (1,))  # parameters that hold for neurons of any shape
ALWAYS_ON, ON_BIAS = "always_on", "bias"


def flatten_graph(graph: nir.NIRGraph) -> nir.NIRGraph:
    """Dissolve nested graphs; inner nodes are called ``outer.inner``."""
    nodes: dict[str, nir.NIRNode] = {}
    edges: list[tuple[str, str]] = []
    entry: dict[str, list[str]] = {}
    leave: dict[str, list[str]] = {}
    for name, node in graph.nodes.items():
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner = flatten_graph(node)
        ends = [
            [n for n, m in inner.nodes.items() if isinstance(m, k)] for k in (nir.Input, nir.Output)
        ]
        if any(len(names) != 1 for names in ends):
            raise UnsupportedNodeError(
                f"nested graph '{name}' has {len(ends[0])} inputs and {len(ends[1])} outputs, and NIR edges "
                f"do not say which of them they mean; give it one of each"
            )
        entry[name] = [f"{name}.{n}" for n, m in inner.nodes.items() if isinstance(m, nir.Input)]
        leave[name] = [f"{name}.{n}" for n, m in inner.nodes.items() if isinstance(m, nir.Output)]
        nodes.update({f"{name}.{n}": m for n, m in inner.nodes.items()})
        edges += [(f"{name}.{a}", f"{name}.{b}") for a, b in inner.edges]
    for a, b in graph.edges:
        edges += [(x, y) for x in leave.get(a, [a]) for y in entry.get(b, [b])]
    return nir.NIRGraph(nodes, edges, metadata=dict(graph.metadata or {}), type_check=False)


Step = tuple[str, LinearMap, int]  # name on the path, map so far, delay of this node


class _Walk:
    """Paths through stateless nodes, from sources forward to the next neurons."""

    def __init__(self, graph: nir.NIRGraph, dt_s: float) -> None:
        self.graph, self.dt_s = graph, dt_s
        self.notes: list[str] = []
        self.next: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for a, b in graph.edges:
            self.next[a].append(b)
            self.before[b].append(a)

    def forward(
        self, at: str, linear: LinearMap, names: tuple[str, ...], delay: int
    ) -> Iterator[tuple[str, LinearMap, tuple[str, ...], int]]:
        """Yield (neuron or final Output, map, names of the path, delay) behind node ``at``."""
        for name in self.next[at]:
            node = self.graph.nodes[name]
            if type(node) in NEURON_KINDS or (isinstance(node, nir.Output) and not self.next[name]):
                yield name, linear, names, delay
                continue
            if name in names or len(names) > len(self.graph.nodes):
                raise UnsupportedNodeError(
                    f"nodes {' -> '.join(names)} form a loop without a neuron; a loop needs a neuron"
                )
            for told, step, extra in self._through(name, node, linear):
                yield from self.forward(name, step, (*names, told), delay + extra)

    def _through(self, name: str, node: nir.NIRNode, linear: LinearMap) -> list[Step]:
        """The map behind one stateless node; a Delay of several lengths gives one part for each."""
        if not isinstance(node, nir.Delay):
            return [(name, compose(linear, self.linear(name, node, linear.out_shape)), 0)]
        steps = self._delay_steps(name, node, linear.out_shape)
        values = np.unique(steps)
        if len(values) == 1:
            return [(name, linear, int(values[0]))]
        return [
            (f"{name}[{value}]", compose(linear, diagonal(steps == value)), int(value))
            for value in values
        ]

    def linear(self, name: str, node: nir.NIRNode, shape: Shape) -> LinearMap:
        """Linear part of one stateless node."""
        for field in ("weight", "bias", "scale"):
            if not np.all(np.isfinite(np.asarray(getattr(node, field, 0.0), dtype=np.float64))):
                raise UnsupportedNodeError(
                    f"node '{name}' ({type(node).__name__}): {field} holds values that are not finite; "
                    f"train the network again, or write the file anew"
                )
        return STATELESS[type(node)](node, name, shape)

    def _delay_steps(self, name: str, node: Any, shape: Shape) -> NDArray[np.int64]:
        """Whole steps of a Delay node, one per neuron."""
        exact = np.asarray(node.delay, dtype=np.float64) / self.dt_s
        steps = np.rint(exact)
        if np.any(steps < 0) or not np.all(np.isfinite(steps)):
            raise UnsupportedNodeError(
                f"node '{name}' (Delay) has a delay of {exact.min() * self.dt_s:g} s; a delay is 0 or more"
            )
        if np.abs(exact - steps).max(initial=0.0) > ROUNDED:
            self.notes.append(
                f"delays of '{name}' are {exact.min():.2f} to {exact.max():.2f} steps, rounded to whole ones"
            )
        return np.broadcast_to(steps.astype(np.int64), shape)


def float_net(graph: nir.NIRGraph, dt_s: float) -> FloatNet:
    """Build the float network of a NIR graph without nested graphs.

    Raises:
        UnsupportedNodeError: a node has no counterpart, or the wiring has no meaning on chip.
    """
    unknown = [
        f"'{name}' ({type(node).__name__})"
        for name, node in graph.nodes.items()
        if type(node) not in STATELESS and type(node) not in NEURON_KINDS
    ]
    if unknown:
        supported = sorted(kind.__name__ for kind in (*STATELESS, *NEURON_KINDS))
        raise UnsupportedNodeError(
            f"nodes {', '.join(unknown)} have no counterpart on the chip; supported: "
            f"{', '.join(supported)}"
        )
    walk = _Walk(graph, dt_s)
    inputs, neurons = _sources(walk)
    links, outputs, shapes = _links(walk, inputs, neurons)
    full = {
        name: (shapes[name], dynamics_of(graph.nodes[name], name, dt_s, shapes[name]))
        for name in neurons
    }
    _refuse_silent_sources(graph, full, links)
    _note_resets(graph, walk)
    return _with_sources(
        FloatNet(
            inputs={n: (s, dict(graph.nodes[n].metadata or {})) for n, s in inputs.items()},
            neurons=full,
            links=tuple(links),
            bias=_biases(walk, shapes, inputs),
            outputs=outputs,
            notes=tuple(dict.fromkeys(walk.notes)),
        )
    )


def _refuse_silent_sources(
    graph: nir.NIRGraph,
    neurons: Mapping[str, tuple[Shape, Dynamics]],
    links: Sequence[FloatLink],
) -> None:
    findings = [
        f"'{link.source}' ({type(graph.nodes[link.source]).__name__}) feeds '{link.destination}'"
        for link in links
        if link.source in neurons and not np.all(np.isfinite(neurons[link.source][1].threshold))
    ]
    if findings:
        raise UnsupportedNodeError(
            f"integrators send no spikes, and the chip sends nothing else: {', '.join(findings)}. "
            f"Integrators can be the last layer only; give them a threshold"
        )


def _note_resets(graph: nir.NIRGraph, walk: _Walk) -> None:
    for name, node in graph.nodes.items():
        if type(node) in NEURON_KINDS and np.any(np.asarray(getattr(node, "v_reset", 0.0)) != 0):
            walk.notes.append(f"v of '{name}' is counted from its v_reset, and starts there")


def _with_sources(net: FloatNet) -> FloatNet:
    """Biases that pass a synaptic filter come from a neuron that spikes at every step."""
    neurons, bias, links = dict(net.neurons), dict(net.bias), list(net.links)
    one = np.ones(1)
    for name, (shape, dynamics) in net.neurons.items():
        if not dynamics.filtered_bias or not np.any(net.bias[name]):
            continue
        source = f"{name}.{ALWAYS_ON}"
        neurons[source] = ((1,), Dynamics(one, 0 * one, one, one, 0 * one, 0.5 * one))
        weight = np.asarray(net.bias[name]).reshape(-1, 1)
        links.append(FloatLink(f"{name}.{ON_BIAS}", source, name, Matrix(weight, (1,), shape)))
        bias[source], bias[name] = one, np.zeros(shape)
    return replace(net, neurons=neurons, bias=bias, links=tuple(links))


def _sources(walk: _Walk) -> tuple[dict[str, Shape], dict[str, Shape]]:
    nodes = walk.graph.nodes
    inputs = {
        name: tuple(int(n) for n in np.atleast_1d(node.input_type["input"]))
        for name, node in nodes.items()
        if isinstance(node, nir.Input) and not walk.before[name]
    }
    neurons: dict[str, Shape] = {}
    for name, node in nodes.items():
        if type(node) in NEURON_KINDS:
            parameter: Any = getattr(node, "r", None)
            parameter = node.threshold if parameter is None else parameter
            neurons[name] = tuple(np.shape(parameter))
    if not inputs or not neurons:
        raise UnsupportedNodeError(
            f"the graph has {len(inputs)} inputs and {len(neurons)} neuron nodes; it needs both"
        )
    return inputs, neurons


def _links(
    walk: _Walk, inputs: dict[str, Shape], neurons: dict[str, Shape]
) -> tuple[list[FloatLink], dict[str, str], dict[str, Shape]]:
    links: list[FloatLink] = []
    outputs: dict[str, str] = {}
    shapes, reached = dict(neurons), set[str]()
    waiting = [*inputs, *neurons]
    while waiting:
        known = (n for n in waiting if n in inputs or shapes[n] not in SCALARS or n in reached)
        source = next(known, waiting[0])
        waiting.remove(source)
        shape = inputs.get(source) or shapes[source]
        for end, linear, path, delay in walk.forward(source, identity(shape), (), 0):
            names = [n for n in path if not isinstance(walk.graph.nodes.get(n), _NAMELESS)]
            if isinstance(walk.graph.nodes[end], nir.Output):
                if names or source in inputs:
                    raise UnsupportedNodeError(
                        f"output '{end}' reads from {' -> '.join([source, *names])}, which is no neuron; "
                        f"pass readout='accumulate' to sum it up over the steps, or end the network in a "
                        f"neuron (LI integrates without spikes)"
                    )
                outputs[end] = source
                continue
            shapes[end] = _destination_shape(end, shapes[end], linear)
            reached.add(end)
            whole = linear
            if isinstance(linear, Matrix):
                whole = replace(linear, out_shape=shapes[end])
            name = "+".join(names) or f"{source}_to_{end}"
            plain = [walk.graph.nodes[n] for n in path if n in walk.graph.nodes]
            late = any(int((node.metadata or {}).get("lag", 0)) for node in plain)
            links.append(FloatLink(name, source, end, whole, delay, late))
    seen = [link.name for link in links]
    taken = {*walk.graph.nodes} - set(seen)
    unique = [
        replace(link, name=f"{link.name}@{link.source}@{link.destination}")
        if seen.count(link.name) > 1 or link.name in taken
        else link
        for link in links
    ]
    return unique, outputs, shapes


def _destination_shape(name: str, shape: Shape, linear: LinearMap) -> Shape:
    """Shape of a neuron node: its parameters', or the incoming one where they are scalars."""
    if shape in SCALARS or shape == linear.out_shape:
        return linear.out_shape
    if int(np.prod(shape)) == int(np.prod(linear.out_shape)) and isinstance(linear, Matrix):
        return shape
    raise ConfigError(
        f"node '{name}' has parameters of shape {shape} and receives shape {linear.out_shape}; they "
        f"must agree"
    )


def _biases(
    walk: _Walk, shapes: Mapping[str, Shape], inputs: Mapping[str, Shape]
) -> dict[str, FloatArray]:
    """Constant current that the affine nodes send into each neuron."""
    total = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name, node in walk.graph.nodes.items():
        bias = getattr(node, "bias", None)
        if bias is None or not np.any(bias):
            continue
        shape = _output_shape(walk, name, {**shapes, **inputs})
        value = np.asarray(bias, dtype=np.float64)
        value = value.reshape(-1, *([1] * (len(shape) - 1)))
        constant = np.broadcast_to(value, shape).ravel()
        for end, linear, path, delay in walk.forward(name, identity(shape), (name,), 0):
            if isinstance(walk.graph.nodes[end], nir.Output):
                continue
            if delay:
                raise UnsupportedNodeError(
                    f"node '{name}' has a bias in front of a Delay ({' -> '.join(path)}); put the Delay "
                    f"in front of it"
                )
            total[end] = total[end] + (as_matrix(linear).weight @ constant).reshape(shapes[end])
    return total


def _output_shape(walk: _Walk, name: str, sources: Mapping[str, Shape]) -> Shape:
    """Shape that a stateless node sends, found from any source that reaches it."""
    node = walk.graph.nodes[name]
    for before in walk.before[name]:
        shape = sources[before] if before in sources else _output_shape(walk, before, sources)
        return walk.linear(name, node, shape).out_shape
    raise UnsupportedNodeError(f"node '{name}' has no input")
