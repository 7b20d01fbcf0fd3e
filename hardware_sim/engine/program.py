"""From a LoihiGraph to what the kernels run: connections, registers, order of execution.

Everything here is computed once per graph and never changed.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.components import Component, execution_order
from biril_nm.hardware_sim.engine.paths import Paths, refuse_path
from biril_nm.hardware_sim.engine.populations import Compartments, make_compartments
from biril_nm.hardware_sim.engine.spare import Spare
from biril_nm.hardware_sim.engine.synapses import Synapses, make_synapses
from biril_nm.hardware_sim.kernels.jit import BoundKernels
from biril_nm.hardware_sim.kernels.records import Registers
from biril_nm.hw_graph import LoihiGraph, Shape
from biril_nm.loihi import INT32_BITS

__all__ = ["Program", "compile_graph", "ordered"]


@dataclass(frozen=True)
class Program:
    """A compiled graph.

    Attributes:
        shapes: torch shape of each Input and Neurons node.
        message_bits: of each Input.
        compartments: per Neurons node.
        incoming: connections that end at a Neurons node.
        order: components in execution order; those with loops run step by step.
        latency, max_slack: of the graph (:mod:`biril_nm.hw_graph.timing`).
        paths: the way at each choice.
        kernels: compiled for the types of this graph's links and nodes.
        spare: memory of a run that has ended.
    """

    shapes: dict[str, Shape]
    message_bits: dict[str, int]
    compartments: dict[str, Compartments]
    incoming: dict[str, tuple[Synapses, ...]]
    order: tuple[Component, ...]
    latency: dict[str, int]
    max_slack: int
    paths: Paths = field(default_factory=Paths)
    kernels: BoundKernels = field(default_factory=BoundKernels, compare=False, repr=False)
    spare: Spare[Any] = field(default_factory=Spare, compare=False, repr=False)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of elements of each node."""
        return {name: math.prod(shape) for name, shape in self.shapes.items()}

    @cached_property
    def graded(self) -> frozenset[str]:
        """Inputs and populations whose spikes carry payloads."""
        inputs = {name for name, bits in self.message_bits.items() if bits}
        return frozenset(inputs | {n for n, node in self.compartments.items() if node.graded})

    @cached_property
    def meeting_points(self) -> tuple[str, ...]:
        """Nodes whose input is summed in a buffer: several connections, none, a loop, or a rare pair."""
        looped = {name for component in self.order if component.looped for name in component.names}
        met = tuple(
            name
            for name, links in self.incoming.items()
            if name in looped or len(links) != 1 or not self._has_pair(links[0])
        )
        if met and self.paths.receive == "fused":
            reason = "it has not one connection of a pair that is compiled, or it lies in a loop"
            raise refuse_path(f"population '{met[0]}'", "receive", "fused", reason)
        return met if self.paths.receive != "buffered" else tuple(self.incoming)

    def _has_pair(self, link: Synapses) -> bool:
        """Whether a kernel runs this connection and its target together: binary spikes, CUBA-LIF's kind.

        Threads cannot share such a kernel, so that a connection with parts has none.
        """
        cuba_lif = isinstance(self.compartments[link.target].registers, Registers)
        narrow = link.sum_type is not np.int64 and link.n_parts == 1
        return cuba_lif and narrow and link.source not in self.graded

    def history(self, chip_time: bool) -> dict[str, int]:
        """Steps of the past that a source must remember, by its name."""
        return self._histories[chip_time]

    @cached_property
    def _histories(self) -> tuple[dict[str, int], dict[str, int]]:
        slack, lag = dict.fromkeys(self.shapes, 0), dict.fromkeys(self.shapes, 0)
        for links in self.incoming.values():
            for link in links:
                slack[link.source] = max(slack[link.source], link.slack)
                lag[link.source] = max(lag[link.source], link.lag)
        return slack, lag


_compiled: dict[int, tuple[weakref.ref[LoihiGraph], Program]] = {}


def compile_graph(graph: LoihiGraph, paths: Paths | None = None) -> Program:
    """Program of a graph; a graph (which is immutable) is compiled once in its life.

    Whatever runs the graph afterwards takes the ``paths`` that are given here; by default the best ones.

    Raises:
        ConfigError: a Conv with a negative weight_exp, inputs wider than 31 bits, paths that a part of the
            graph cannot take, or others than it was compiled with.
        RangeError: weights that do not fit what Lava's Conv takes.
    """
    key = id(graph)
    known = _compiled.get(key)
    if known is not None and known[0]() is graph:
        if paths not in (None, known[1].paths):
            raise ConfigError(
                f"the graph is compiled with {known[1].paths}; expected {paths}. Compile an equal graph, "
                f"dataclasses.replace(graph)"
            )
        return known[1]
    program = _compile(graph, paths or Paths())
    _compiled[key] = (weakref.ref(graph, lambda _: _compiled.pop(key, None)), program)
    return program


def ordered(components: tuple[Component, ...], paths: Paths) -> tuple[Component, ...]:
    """Components that advance in the order of the paths.

    Raises:
        ConfigError: all steps at once for a loop.
    """
    looped = [component.names for component in components if component.looped]
    if looped and paths.order == "by node":
        raise refuse_path(f"population '{looped[0][0]}'", "order", "by node", "it lies in a loop")
    by_step = paths.order == "by step"
    return tuple(Component(each.names, each.looped or by_step) for each in components)


def _compile(graph: LoihiGraph, paths: Paths) -> Program:
    links = {name: make_synapses(graph, name, paths) for name in graph.connections}
    incoming = {name: tuple(links[link] for link in graph.incoming(name)) for name in graph.neurons}
    program = Program(
        shapes={name: graph.shape_of(name) for name in (*graph.inputs, *graph.neurons)},
        message_bits={
            name: _message_bits(name, node.message_bits) for name, node in graph.inputs.items()
        },
        compartments={
            name: make_compartments(name, node, incoming[name], paths)
            for name, node in graph.neurons.items()
        },
        incoming=incoming,
        order=ordered(execution_order(graph), paths),
        latency=dict(graph.latency),
        max_slack=graph.timing.max_slack,
        paths=paths,
    )
    if paths.receive == "fused":
        _ = program.meeting_points  # raises where it cannot be
    return program


def _message_bits(name: str, bits: int) -> int:
    if not 0 <= bits < INT32_BITS:
        raise ConfigError(
            f"input '{name}' has message_bits {bits}; expected 0 (binary) to {INT32_BITS - 1}"
        )
    return int(bits)
