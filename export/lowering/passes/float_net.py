"""From a NIR graph to neurons joined by linear links: the float network that gets quantised.

Stateless nodes between neurons dissolve: each path from a source to the next neuron becomes one
link with one linear map, each bias arrives at the neurons as a constant, or, where it would pass a
synaptic filter, from a neuron ``NODE.always_on`` that spikes at every step. Names of the nodes on a
path are joined by ``+``; Flatten and the ends of nested graphs leave no trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np

from biril_nm.arrays import FloatArray, IntArray, Shape
from biril_nm.errors import ConfigError, RangeError, UnsupportedNodeError
from biril_nm.export.nir_nodes.linear_maps import (
    LinearMap,
    Matrix,
    as_matrix,
    compose,
    diagonal,
    identity,
    naming,
)
from biril_nm.export.nir_nodes.neurons import (
    NEURON_KINDS,
    Dynamics,
    dynamics_of,
    parameter_shape,
    v_reset,
)
from biril_nm.export.nir_nodes.stateless import STATELESS
from biril_nm.loihi import CHIPS

__all__ = ["FloatLink", "FloatNet", "float_net", "free_name"]


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
MAX_STEPS = 20_000  # of a walk from one source; networks of real producers need a few
DELAY_MAX = max(chip.delay_max for chip in CHIPS.values())
ALWAYS_ON, ON_BIAS = "always_on", "bias"


def free_name(name: str, taken: Container[str]) -> str:
    """``name``, or ``name#2``, ``name#3``, ... where it is taken."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


@dataclass(frozen=True)
class _Path:
    """The way from a source through stateless nodes."""

    linear: LinearMap
    names: tuple[str, ...] = ()  # as in the link's name; a part of a Delay is called NAME[STEPS]
    nodes: tuple[str, ...] = ()
    delay: int = 0

    def beyond(self, told: str, name: str, linear: LinearMap, delay: int = 0) -> _Path:
        return _Path(linear, (*self.names, told), (*self.nodes, name), self.delay + delay)


class _Walk:
    """Paths through stateless nodes, from sources forward to the next neurons."""

    def __init__(self, graph: nir.NIRGraph, dt_s: float) -> None:
        self.graph, self.dt_s = graph, dt_s
        self.notes: list[str] = []
        self.shapes: dict[str, Shape] = {}  # what each stateless node sends
        self.next: dict[str, list[str]] = {name: [] for name in graph.nodes}
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for a, b in graph.edges:
            self.next[a].append(b)
            self.before[b].append(a)

    def forward(self, source: str, start: _Path) -> Iterator[tuple[str, _Path]]:
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
            f"more than {MAX_STEPS} ways lead from '{source}' through nodes without spikes; put neurons "
            f"in between"
        )

    def _onward(self, at: str, path: _Path) -> list[tuple[str, _Path]]:
        """The next nodes and the paths through them, the last one first."""
        found = [(name, p) for name in self.next[at] for p in self._through(name, path)]
        return found[::-1]

    def _ends(self, name: str) -> bool:
        node = self.graph.nodes[name]
        return type(node) in NEURON_KINDS or (isinstance(node, nir.Output) and not self.next[name])

    def _through(self, name: str, path: _Path) -> list[_Path]:
        """The path behind one more node; a Delay of several lengths gives one part for each."""
        if self._ends(name):
            return [path]
        if name in path.nodes:
            raise UnsupportedNodeError(
                f"nodes {' -> '.join(path.names)} form a loop without a neuron; a loop needs a neuron"
            )
        node, linear = self.graph.nodes[name], path.linear
        with naming(name):
            whole = compose(linear, self.linear(name, node, linear.out_shape))
        known = self.shapes.setdefault(name, whole.out_shape)
        if known != whole.out_shape:
            raise ConfigError(
                f"node '{name}' ({type(node).__name__}) sends shape {known} for one source and "
                f"{whole.out_shape} for another; they must agree"
            )
        if not isinstance(node, nir.Delay):
            return [path.beyond(name, name, whole)]
        steps = self._delay_steps(name, node, linear.out_shape)
        values = [int(value) for value in np.unique(steps)]
        if len(values) == 1:
            return [path.beyond(name, name, linear, values[0])]
        return [
            path.beyond(f"{name}[{value}]", name, compose(linear, diagonal(steps == value)), value)
            for value in values
        ]

    def linear(self, name: str, node: nir.NIRNode, shape: Shape) -> LinearMap:
        """Linear part of one stateless node."""
        return STATELESS[type(node)](node, name, shape)

    def _delay_steps(self, name: str, node: Any, shape: Shape) -> IntArray:
        """Whole steps of a Delay node, one per neuron."""
        exact = np.asarray(node.delay, dtype=np.float64) / self.dt_s
        steps = np.rint(exact)
        if np.any(steps < 0):
            raise UnsupportedNodeError(
                f"node '{name}' (Delay) has a delay of {exact.min() * self.dt_s:g} s; a delay is 0 or more"
            )
        if np.any(steps > DELAY_MAX):
            raise RangeError(
                f"node '{name}' (Delay) has a delay of {steps.max():g} steps; allowed are 0 to {DELAY_MAX}. "
                f"Choose a longer dt_s, or put neurons in between"
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
            bias=_biases(walk, shapes),
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
        if type(node) in NEURON_KINDS and np.any(v_reset(node)):
            walk.notes.append(f"v of '{name}' is counted from its v_reset, and starts there")


def _with_sources(net: FloatNet) -> FloatNet:
    """Biases that pass a synaptic filter come from a neuron that spikes at every step."""
    neurons, bias, links = dict(net.neurons), dict(net.bias), list(net.links)
    one = np.ones(1)
    for name, (shape, dynamics) in net.neurons.items():
        if not dynamics.filtered_bias or not np.any(net.bias[name]):
            continue
        taken = {*neurons, *net.inputs, *net.outputs, *(link.name for link in links)}
        source = free_name(f"{name}.{ALWAYS_ON}", taken)
        link = free_name(f"{name}.{ON_BIAS}", {*taken, source})
        neurons[source] = ((1,), Dynamics(one, 0 * one, one, one, 0 * one, 0.5 * one))
        weight = np.asarray(net.bias[name]).reshape(-1, 1)
        links.append(FloatLink(link, source, name, Matrix(weight, (1,), shape)))
        bias[source], bias[name] = one, np.zeros(shape)
    return replace(net, neurons=neurons, bias=bias, links=tuple(links))


def _sources(walk: _Walk) -> tuple[dict[str, Shape], dict[str, Shape]]:
    nodes = walk.graph.nodes
    inputs = {
        name: tuple(int(n) for n in node.input_type["input"])
        for name, node in nodes.items()
        if isinstance(node, nir.Input) and not walk.before[name]
    }
    neurons = {
        name: parameter_shape(node) for name, node in nodes.items() if type(node) in NEURON_KINDS
    }
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
    shapes, reached = {n: shape or (1,) for n, shape in neurons.items()}, set[str]()
    waiting = [*inputs, *neurons]
    while waiting:
        known = (n for n in waiting if n in inputs or n in reached or 1 not in shapes[n])
        source = next(known, waiting[0])
        waiting.remove(source)
        reached.add(source)
        shape = inputs.get(source) or shapes[source]
        for end, path in walk.forward(source, _Path(identity(shape))):
            nodes = [walk.graph.nodes[n] for n in path.nodes]
            told = zip(path.names, nodes)
            names = [name for name, node in told if not isinstance(node, _NAMELESS)]
            if isinstance(walk.graph.nodes[end], nir.Output):
                _read_out(outputs, end, source, names, source in inputs)
                continue
            shapes[end] = _destination_shape(end, shapes[end], path.linear, end not in reached)
            reached.add(end)
            whole = path.linear
            if isinstance(whole, Matrix):
                whole = replace(whole, out_shape=shapes[end])
            name = "+".join(names) or f"{source}_to_{end}"
            late = any(node.metadata.get("lag", 0) for node in nodes)
            links.append(FloatLink(name, source, end, whole, path.delay, late))
    for name, node in walk.graph.nodes.items():
        if isinstance(node, nir.Output) and not walk.next[name] and name not in outputs:
            raise UnsupportedNodeError(f"no neurons reach output '{name}'; connect or remove it")
    return _uniquely_named(links, {*inputs, *neurons, *outputs}), outputs, shapes


def _read_out(
    outputs: dict[str, str], output: str, source: str, names: list[str], is_input: bool
) -> None:
    """Note the neurons that an output reads."""
    if names or is_input:
        raise UnsupportedNodeError(
            f"output '{output}' reads from {' -> '.join([source, *names])}, which is no neuron; "
            f"pass readout='accumulate' to sum it up over the steps, or end the network in a "
            f"neuron (LI integrates without spikes)"
        )
    if output in outputs:
        raise UnsupportedNodeError(
            f"output '{output}' adds up '{outputs[output]}' and '{source}', which the chip does not; give "
            f"each an output of its own"
        )
    outputs[output] = source


def _uniquely_named(links: Sequence[FloatLink], taken: set[str]) -> list[FloatLink]:
    """Links of one name get their ends appended; no name is that of another node."""
    counts = Counter(link.name for link in links)
    unique: list[FloatLink] = []
    for link in links:
        name = link.name
        if counts[name] > 1 or name in taken:
            name = f"{name}@{link.source}@{link.destination}"
        name = free_name(name, {*taken, *(other.name for other in unique)})
        unique.append(replace(link, name=name))
    return unique


def _destination_shape(name: str, shape: Shape, linear: LinearMap, first: bool) -> Shape:
    """Shape of a neuron node: its parameters', or the incoming one where they are shared."""
    incoming = linear.out_shape
    if shape == incoming:
        return shape
    shared = shape == (1,) or (
        len(shape) == len(incoming) and all(n in (1, m) for n, m in zip(shape, incoming))
    )
    if first and shared:
        return incoming
    if np.prod(shape) == np.prod(incoming) and isinstance(linear, Matrix):
        return shape
    raise ConfigError(
        f"node '{name}' has parameters of shape {shape} and receives shape {incoming}; they "
        f"must agree"
    )


def _biases(walk: _Walk, shapes: Mapping[str, Shape]) -> dict[str, FloatArray]:
    """Constant current that the affine nodes send into each neuron."""
    total = {name: np.zeros(shape) for name, shape in shapes.items()}
    for name, node in walk.graph.nodes.items():
        bias = getattr(node, "bias", None)
        if bias is None or not np.any(bias):
            continue
        if name not in walk.shapes:
            raise UnsupportedNodeError(
                f"node '{name}' ({type(node).__name__}) has a bias but no input reaches it; connect or "
                f"remove it"
            )
        shape = walk.shapes[name]
        value = bias.reshape(-1, *([1] * (len(shape) - 1)))
        constant = np.broadcast_to(value, shape).ravel()
        for end, path in walk.forward(name, _Path(identity(shape), (name,), (name,))):
            if isinstance(walk.graph.nodes[end], nir.Output):
                continue
            if path.delay:
                raise UnsupportedNodeError(
                    f"node '{name}' has a bias in front of a Delay ({' -> '.join(path.names)}); put the "
                    f"Delay in front of it"
                )
            with naming(name):
                sent = as_matrix(path.linear).weight @ constant
            total[end] = total[end] + sent.reshape(shapes[end])
    return total
