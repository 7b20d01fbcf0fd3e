"""From a NIR graph to neurons joined by linear links: the float network that gets quantised.

Stateless nodes between neurons dissolve: each path from a source to the next neuron becomes one
link with one linear map, each bias arrives at the neurons as a constant, or, where it would pass a
synaptic filter, from a neuron ``NODE.always_on`` that spikes at every step. Names of the nodes on a
path are joined by ``+``; Flatten and the ends of nested graphs leave no trace.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import nir
import numpy as np

from biril_nm.arrays import FloatArray, Shape
from biril_nm.errors import ConfigError, UnsupportedNodeError
from biril_nm.export.lowering.passes.filters import Filtered, filtered_dynamics, with_filters
from biril_nm.export.lowering.passes.paths import Path, Walk
from biril_nm.export.nir_nodes.filter_node import Filter
from biril_nm.export.nir_nodes.fixed_map import is_fixed_map
from biril_nm.export.nir_nodes.linear_maps import (
    LinearMap,
    Matrix,
    Reshape,
    Weighted,
    as_matrix,
    identity,
    is_identity,
    naming,
)
from biril_nm.export.nir_nodes.neurons import (
    LARGEST,
    NEURON_KINDS,
    Dynamics,
    dynamics_of,
    parameter_shape,
    v_reset,
)
from biril_nm.export.nir_nodes.repeats import combined
from biril_nm.export.nir_nodes.shared_weights import with_shared_weights

__all__ = ["FloatLink", "FloatNet", "float_net", "free_name"]
from biril_nm.hw_graph import Input
from biril_nm.loihi import WEIGHT_BITS


@dataclass(frozen=True)
class FloatLink:
    """One linear map between two nodes, with a delay in steps on top of the usual one.

    ``late``: the network says that this link carries the spikes of the previous step. ``weight_bits``: how
    many its integers may have.
    """

    name: str
    source: str
    destination: str
    linear: Weighted
    delay: int = 0
    late: bool = False
    weight_bits: int = WEIGHT_BITS


@dataclass(frozen=True)
class FloatNet:
    """Neurons, links and constants in float; the inputs' metadata hold their coding.

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

    @property
    def input_nodes(self) -> dict[str, Input]:
        """The inputs as nodes of the chip."""
        return {
            name: Input(shape, int(facts.get("message_bits", 0)), bool(facts.get("signed", 0)))
            for name, (shape, facts) in self.inputs.items()
        }

    def links_into(self, neurons: str) -> list[FloatLink]:
        """Links that end at a neuron node."""
        return [link for link in self.links if link.destination == neurons]

    def outline(self) -> FloatNet:
        """The same network without weights: all that is left to know once they are integers."""
        none: Any = np.zeros(0)
        linear: Sequence[Any] = [link.linear for link in self.links]
        bare = [replace(each, weight=none) for each in linear]
        links = (replace(link, linear=each) for link, each in zip(self.links, bare))
        return replace(self, links=tuple(links))


# Nodes that leave no trace in the name of a link.
_NAMELESS = (nir.Flatten, nir.Input, nir.Output)
ALWAYS_ON, ON_BIAS = "always_on", "bias"


def free_name(name: str, taken: Container[str]) -> str:
    """``name``, or ``name#2``, ``name#3``, ... where it is taken."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def float_net(graph: nir.NIRGraph, dt_s: float) -> FloatNet:
    """Build the float network of a NIR graph without nested graphs.

    Raises:
        UnsupportedNodeError: a node has no counterpart, or the wiring has no meaning on chip.
    """
    graph = with_filters(graph, dt_s)
    walk = Walk(graph, dt_s)
    inputs, neurons = _sources(walk)
    found = _links(walk, inputs, neurons)
    full = {
        name: (shape, dynamics_of(graph.nodes[name], name, dt_s, shape))
        for name, shape in found.shapes.items()
    }
    full = filtered_dynamics(walk, full, found.paths)
    _refuse_largest_of_values(graph, found.links)
    _note_resets(graph, walk)
    direct, filtered = _biases(walk, full)
    net = FloatNet(
        inputs={n: (s, dict(graph.nodes[n].metadata or {})) for n, s in inputs.items()},
        neurons=full,
        links=tuple(found.links),
        bias=direct,
        outputs=found.outputs,
        notes=tuple(dict.fromkeys(walk.notes)),
    )
    return _with_sources(net, filtered)


def _refuse_largest_of_values(graph: nir.NIRGraph, links: Sequence[FloatLink]) -> None:
    """The largest of some values is 1 where one of them is above 0 for spikes only."""
    for link in links:
        source = graph.nodes[link.source]
        if (graph.nodes[link.destination].metadata or {}).get(LARGEST) and (
            source.metadata or {}
        ).get("message_bits", 0):
            raise UnsupportedNodeError(
                f"'{link.destination}' takes the largest of values of '{link.source}', whose messages are "
                f"integers; expected spikes. Put it behind neurons, or use average pooling"
            )


def _note_resets(graph: nir.NIRGraph, walk: Walk) -> None:
    for name, node in graph.nodes.items():
        if type(node) in NEURON_KINDS and np.any(v_reset(node)):
            walk.notes.append(f"v of '{name}' is counted from its v_reset, and starts there")


def _with_sources(net: FloatNet, filtered: Mapping[str, FloatArray]) -> FloatNet:
    """Biases that pass a synaptic filter come from a neuron that spikes at every step."""
    neurons, bias, links = dict(net.neurons), dict(net.bias), list(net.links)
    one = np.ones(1)
    for name, (shape, _) in net.neurons.items():
        if not np.any(filtered[name]):
            continue
        taken = {*neurons, *net.inputs, *net.outputs, *(link.name for link in links)}
        source = free_name(f"{name}.{ALWAYS_ON}", taken)
        link = free_name(f"{name}.{ON_BIAS}", {*taken, source})
        neurons[source] = ((1,), Dynamics(one, 0 * one, one, one, 0 * one, 0.5 * one))
        weight = np.asarray(filtered[name]).reshape(-1, 1)
        links.append(FloatLink(link, source, name, Matrix(weight, (1,), shape)))
        bias[source] = one
    return replace(net, neurons=neurons, bias=bias, links=tuple(links))


def _sources(walk: Walk) -> tuple[dict[str, Shape], dict[str, Shape]]:
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
            f"the graph has {len(inputs)} inputs and {len(neurons)} neuron nodes; expected one or more "
            f"of each. Add what is missing"
        )
    return inputs, neurons


class _Found(NamedTuple):
    """Everything that walks from all sources meet."""

    links: list[FloatLink]
    paths: list[Filtered]
    outputs: dict[str, str]
    shapes: dict[str, Shape]


def _links(walk: Walk, inputs: dict[str, Shape], neurons: dict[str, Shape]) -> _Found:
    links: list[FloatLink] = []
    paths: list[Filtered] = []
    outputs: dict[str, str] = {}
    shapes, reached = {n: shape or (1,) for n, shape in neurons.items()}, set[str]()
    waiting = [*inputs, *neurons]
    while waiting:
        known = (n for n in waiting if n in inputs or n in reached or 1 not in shapes[n])
        source = next(known, waiting[0])
        waiting.remove(source)
        reached.add(source)
        shape = inputs.get(source) or shapes[source]
        for end, path in walk.forward(source, Path(identity(shape))):
            nodes = [walk.graph.nodes[n] for n in path.nodes]
            named = zip(path.names, nodes)
            names = [name for name, node in named if not isinstance(node, _NAMELESS)]
            goal = walk.graph.nodes[end]
            if isinstance(goal, nir.Output):
                _refuse_last(goal, end, [source, *names])
                _read_out(outputs, end, source, names, source in inputs)
                continue
            whole = as_matrix(path.linear) if isinstance(path.linear, Reshape) else path.linear
            shapes[end] = _destination_shape(end, shapes[end], whole, end not in reached)
            reached.add(end)
            if any(is_fixed_map(node) for node in nodes):
                whole = with_shared_weights(whole)
            if isinstance(whole, Matrix):
                whole = replace(whole, out_shape=shapes[end])
            name = "+".join(names) or f"{source}_to_{end}"
            late = any(node.metadata.get("lag", 0) for node in nodes)
            links.append(FloatLink(name, source, end, whole, path.delay, late))
            paths.append(Filtered(end, path.linear, path.nodes))
    for name, node in walk.graph.nodes.items():
        if isinstance(node, nir.Output) and not walk.next[name] and name not in outputs:
            raise UnsupportedNodeError(
                f"output '{name}' is not reached by neurons; expected one source. Connect or remove it"
            )
    links = _uniquely_named(links, {*inputs, *neurons, *outputs})
    return _Found(links, paths, _in_order(outputs, walk.graph), shapes)


def _in_order(outputs: Mapping[str, str], graph: nir.NIRGraph) -> dict[str, str]:
    """The outputs by their ``position``, else as in the graph: the first one classifies."""
    named = [name for name in graph.nodes if name in outputs]
    position = {name: (graph.nodes[name].metadata or {}).get("position", 0) for name in named}
    return {name: outputs[name] for name in sorted(named, key=lambda name: position[name])}


def _refuse_last(node: nir.NIRNode, output: str, path: list[str]) -> None:
    """Refuse a layer of the last step alone, which neurons that sum up would change."""
    if len(path) > 1 and (node.metadata or {}).get("readout") == "last":
        raise UnsupportedNodeError(
            f"output '{output}' reads from {' -> '.join(path)} at the last step; expected a neuron. Put "
            f"snntorch.Leaky(beta=0.0, reset_mechanism='none') behind it and return its membrane, which is "
            f"the same, or pass readout='accumulate' to sum it up over the steps, which is not"
        )


def _read_out(
    outputs: dict[str, str], output: str, source: str, names: list[str], is_input: bool
) -> None:
    """Note the neurons that an output reads."""
    if names or is_input:
        raise UnsupportedNodeError(
            f"output '{output}' reads from {' -> '.join([source, *names])}; expected a neuron. Pass "
            f"readout='accumulate' to sum it up over the steps, or end the network in a neuron (LI "
            f"integrates without spikes)"
        )
    if output in outputs:
        raise UnsupportedNodeError(
            f"output '{output}' adds up '{outputs[output]}' and '{source}'; expected one source, as on the "
            f"chip. Give each an output of its own"
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


def _destination_shape(name: str, shape: Shape, linear: Weighted, first: bool) -> Shape:
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
        f"node '{name}' has parameters of shape {shape}; expected {incoming}, the shape that it "
        f"receives. Give the parameters that shape, or one value for all neurons"
    )


def _biases(
    walk: Walk, neurons: Mapping[str, tuple[Shape, Dynamics]]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Constant current that affine nodes send into each neuron: at once, and through its filter."""
    direct = {name: np.broadcast_to(0.0, shape) for name, (shape, _) in neurons.items()}
    filtered = dict(direct)
    for name, node in walk.graph.nodes.items():
        bias = getattr(node, "bias", None)
        if bias is None or not np.any(bias):
            continue
        if name not in walk.shapes:
            raise UnsupportedNodeError(
                f"node '{name}' ({type(node).__name__}) has a bias and no input; expected a source. "
                f"Connect or remove it"
            )
        shape = walk.shapes[name]
        whole = np.size(bias) == np.prod(shape)
        value = bias.reshape(shape if whole else (-1, *([1] * (len(shape) - 1))))
        constant = np.broadcast_to(value, shape)
        for end, path in walk.forward(name, Path(identity(shape), (name,), (name,))):
            if isinstance(walk.graph.nodes[end], nir.Output):
                continue
            if path.delay:
                raise UnsupportedNodeError(
                    f"node '{name}' has a bias in front of a Delay ({' -> '.join(path.names)}); expected "
                    f"no bias there. Put the Delay in front of the node"
                )
            with naming(name):
                sent = _sent(path.linear, constant)
            shape, dynamics = neurons[end]
            through = any(isinstance(walk.graph.nodes[n], Filter) for n in path.nodes)
            slow = dynamics.filtered_bias or (through and bool(np.any(dynamics.u_decay != 1.0)))
            total = filtered if slow else direct
            total[end] = combined(np.add, shape, total[end], sent.reshape(shape))
    return direct, filtered


def _sent(linear: LinearMap, constant: FloatArray) -> FloatArray:
    """What a map makes of a constant."""
    if is_identity(linear):
        return constant
    return np.asarray(as_matrix(linear).weight @ constant.ravel())
