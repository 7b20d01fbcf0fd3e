"""From a LoihiGraph to what the kernels run: connections, registers, order of execution.

Everything here is computed once per graph and never changed.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import IntArray
from biril_nm.compartments import CUBA_LIF, RESET_MODELS, SpikeReset
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.components import Component, execution_order
from biril_nm.hardware_sim.engine.layout import internal_order
from biril_nm.hardware_sim.engine.spare import Spare
from biril_nm.hardware_sim.engine.synapses import Synapses, make_synapses
from biril_nm.hardware_sim.kernels.jit import BoundKernels
from biril_nm.hardware_sim.kernels.models import model_registers
from biril_nm.hardware_sim.kernels.records import Registers, ResetMasks
from biril_nm.hw_graph import LoihiGraph, Neurons, Shape
from biril_nm.loihi import DECAY_UNITY, INT32_BITS, STATE_LIMIT, WEIGHT_SHIFT, ResetMode

__all__ = ["Compartments", "Program", "compile_graph"]


@dataclass(frozen=True)
class Compartments:
    """A population as the kernels take it, neurons in internal order.

    Attributes:
        name, shape: of the Neurons node.
        registers: a :class:`~biril_nm.hardware_sim.kernels.records.Registers`, or the record of another
            compartment model (:mod:`biril_nm.hardware_sim.kernels.models`).
        n_words: state words beyond u and v.
        memoryless: u is forgotten at each step, v decays alike in all neurons, and what arrives is proven
            to stay inside 24 bits, so that the step needs neither u nor its wrap.
        graded: spikes carry other payloads than 0 and 1; the rows of spikes have 32 bits then.
    """

    name: str
    shape: Shape
    registers: Any
    n_words: int = 0
    memoryless: bool = False
    graded: bool = False

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


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
        return tuple(
            name
            for name, links in self.incoming.items()
            if name in looped or len(links) != 1 or not self._has_pair(links[0])
        )

    def _has_pair(self, link: Synapses) -> bool:
        """Whether a kernel runs this connection and its target together: binary spikes, CUBA-LIF's kind."""
        cuba_lif = isinstance(self.compartments[link.target].registers, Registers)
        return cuba_lif and link.sum_type is not np.int64 and link.source not in self.graded

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


def compile_graph(graph: LoihiGraph) -> Program:
    """Program of a graph; a graph (which is immutable) is compiled once in its life.

    Raises:
        ConfigError: a Conv with a negative weight_exp, or inputs wider than 31 bits.
        RangeError: weights that do not fit what Lava's Conv takes.
    """
    key = id(graph)
    known = _compiled.get(key)
    if known is not None and known[0]() is graph:
        return known[1]
    program = _compile(graph)
    _compiled[key] = (weakref.ref(graph, lambda _: _compiled.pop(key, None)), program)
    return program


def _compile(graph: LoihiGraph) -> Program:
    links = {name: make_synapses(graph, name) for name in graph.connections}
    incoming = {name: tuple(links[link] for link in graph.incoming(name)) for name in graph.neurons}
    return Program(
        shapes={name: graph.shape_of(name) for name in (*graph.inputs, *graph.neurons)},
        message_bits={
            name: _message_bits(name, node.message_bits) for name, node in graph.inputs.items()
        },
        compartments={
            name: _compartments(name, node, incoming[name]) for name, node in graph.neurons.items()
        },
        incoming=incoming,
        order=execution_order(graph),
        latency=dict(graph.latency),
        max_slack=graph.timing.max_slack,
    )


def _message_bits(name: str, bits: int) -> int:
    if not 0 <= bits < INT32_BITS:
        raise ConfigError(
            f"input '{name}' has message_bits {bits}; expected 0 (binary) to {INT32_BITS - 1}"
        )
    return int(bits)


def _compartments(name: str, node: Neurons, links: tuple[Synapses, ...]) -> Compartments:
    """Constants of the model's step as the kernel takes them; overflows of illegal values are Lava's."""
    model = node.compartment
    constants = model.prepare(node.registers)
    shared = all(np.ndim(constant) == 0 for constant in constants)
    if model is CUBA_LIF:
        return _cuba_lif(name, node.shape, constants, shared, links)
    if any(model is other for other in RESET_MODELS) and not _is_wide(constants):
        found = _cuba_lif(name, node.shape, constants, shared, links)
        masks = reset_masks(model.reset)
        return replace(found, registers=found.registers._replace(masks=masks))
    rows = [_internal(constant, node.shape, shared, np.int64) for constant in constants]
    return Compartments(
        name,
        node.shape,
        model_registers(model, np.stack(rows)),
        n_words=len(model.state) - 2,
        graded=model.message_bits > 0,
    )


def _cuba_lif(
    name: str,
    shape: Shape,
    constants: tuple[IntArray, ...],
    shared: bool,
    links: tuple[Synapses, ...],
) -> Compartments:
    wide = _is_wide(constants)
    shared = shared and not wide
    keep_u, keep_v, bias, vth = (_internal(c, shape, shared, np.int32) for c in constants)
    forgets = not wide and not keep_u.any() and np.all(keep_v == keep_v[0])
    return Compartments(
        name,
        shape,
        Registers(keep_u, keep_v, bias, vth, bool(wide)),
        memoryless=bool(forgets) and _stays_inside(links),
    )


def _is_wide(constants: tuple[IntArray, ...]) -> bool:
    """Whether decays lie outside of what registers hold."""
    return any(keep.min() < 0 or keep.max() > DECAY_UNITY for keep in constants[:2])


def reset_masks(reset: SpikeReset) -> ResetMasks:
    """What a spike does to v as the kernels take it."""
    zero, fall = reset.mode is ResetMode.ZERO, reset.mode is ResetMode.SUBTRACT
    late, lossy = reset.delayed, reset.loses_input
    chosen = (
        zero and not late,
        fall and not late,
        zero and late and not lossy,
        fall and late,
        lossy,
        reset.guarded,
    )
    return ResetMasks(*(np.int32(-int(each)) for each in chosen))


def _stays_inside(links: tuple[Synapses, ...]) -> bool:
    """Whether the input, times 64, stays inside 24 bits, and that of one connection needs a factor only."""
    if len(links) == 1:
        finish = links[0].finish
        if finish.right or finish.modulo or links[0].sum_type is np.int64:
            return False
    return sum(link.bound for link in links) < STATE_LIMIT >> WEIGHT_SHIFT


def _internal(value: IntArray, shape: Shape, shared: bool, dtype: Any) -> NDArray[Any]:
    """A constant in internal order, (n,), or (1,) where all neurons share it."""
    if shared:
        return np.asarray(value).reshape(1).astype(dtype)
    full = np.broadcast_to(value, shape).ravel()[internal_order(shape)]
    return np.ascontiguousarray(full, dtype=dtype)
