"""``simulate(..., learn=True)``: plastic networks, one stream of samples in chip time.

Bit for bit as Lava's ``LearningDense`` and ``LearningSparse`` (lava-nc 0.10.0, ``fixed_pt``) in every
weight, tag, trace, u, v and spike. Samples follow each other as they stream through the chip: u and v
start each sample from rest, while weights, tags, traces and learning epochs go on. A run begins with
traces at 0 and fresh random streams, as a fresh run of Lava does.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.errors import ConfigError
from biril_nm.hardware_sim.engine.blocks import Worker, block_shape, new_memory
from biril_nm.hardware_sim.engine.components import Component, execution_order
from biril_nm.hardware_sim.engine.feeds import Feed
from biril_nm.hardware_sim.engine.first_run import said_while_compiling
from biril_nm.hardware_sim.engine.program import Program, compile_graph, ordered
from biril_nm.hardware_sim.engine.recorder import Recorder, Wanted, run_meta
from biril_nm.hardware_sim.engine.state import Chunk
from biril_nm.hardware_sim.engine.stream import ChipStream, Stream, chip_stream
from biril_nm.hardware_sim.kernels.learning.plan import GroupProbes
from biril_nm.hardware_sim.kernels.learning.steps import run_group
from biril_nm.hardware_sim.learning.connections import dependencies
from biril_nm.hardware_sim.learning.group import Group
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.hw_graph.outputs import output_neurons
from biril_nm.learning.rule import TRACES
from biril_nm.recording import ConnectionRecording, NodeRecording, Recording

__all__ = [
    "ConnectionRecorder",
    "GroupCounter",
    "learned_graph",
    "learning_loops",
    "learning_program",
    "make_groups",
    "simulate_learning",
]

logger = logging.getLogger(__name__)

TAG_FIELDS = {"t": "tag_t", "d": "tag_d"}


def simulate_learning(
    graph: LoihiGraph,
    feeds: Mapping[str, Feed],
    variables: tuple[str, ...],
    learning_variables: tuple[str, ...],
    nodes: tuple[str, ...],
) -> Recording:
    """Run a graph with plastic connections; arguments are checked by ``simulate``."""
    program = learning_program(graph)
    stream = chip_stream(graph, program, feeds)
    length = stream.clock.n_steps
    wanted = dict.fromkeys(nodes, variables)
    for name in output_neurons(graph):  # the last v of the readout is part of the result
        wanted[name] = tuple(dict.fromkeys((*wanted.get(name, ()), "v")))
    recorder = Recorder(Wanted.of(program, wanted), length, 1)
    groups = make_groups(graph, program)
    kept = [ConnectionRecorder(group, learning_variables, length) for group in groups]
    counter = SampleCounter(stream, program.compartments)
    steps, _ = block_shape(program, stream.clock, 1)
    loops = learning_loops(groups, stream, recorder, kept)
    memory = new_memory(program, stream.feeds, stream.clock, recorder, (steps, 1))
    worker = Worker(
        program, stream.feeds, stream.clock, recorder, memory, loops=loops, watch=counter.watch
    )
    with said_while_compiling(run_group):
        worker.run(0)

    chip = {name: {v: a[0] for v, a in recorder.rows(name).items()} for name in wanted}
    shown = {name: {v: chip[name][v] for v in variables} for name in nodes}
    return Recording(
        nodes={
            name: NodeRecording(**{v: stream.node_time(name, a) for v, a in rows.items()})
            for name, rows in shown.items()
        },
        n_spikes=counter.n_spikes,
        v_last={
            name: stream.node_time(name, rows["v"])[-1]
            for name, rows in chip.items()
            if "v" in rows
        },
        chip=lambda: {name: NodeRecording(**rows) for name, rows in shown.items()},
        meta={**run_meta(stream.n_steps, stream.batch), "learn": True},
        connections={name: each for k in kept for name, each in k.recordings().items()},
        graph=learned_graph(graph, groups),
    )


def learning_program(graph: LoihiGraph) -> Program:
    """The graph's program with plastic connections taken out; their targets run step by step."""
    program = compile_graph(graph)
    targets = {graph.ends[name][1] for name in graph.plastic}
    order = tuple(
        Component(component.names, component.looped or bool(targets & set(component.names)))
        for component in ordered(execution_order(graph, dependencies(graph)), program.paths)
    )
    for component in order:
        signed = [name for name in component.names if name in program.graded]
        if signed and targets & set(component.names):
            raise ConfigError(
                f"population '{signed[0]}' sends spikes of -1 and 1 and lies in a loop with a "
                f"connection that learns; expected spikes of 0 and 1 there. Use neurons of another "
                f"model, or learn=False"
            )
    return replace(
        program,
        incoming={
            name: tuple(link for link in links if link.name not in graph.plastic)
            for name, links in program.incoming.items()
        },
        order=order,
    )


def make_groups(graph: LoihiGraph, program: Program) -> list[Group]:
    """Groups of nodes with a connection that learns; the rest runs as without learning."""
    return [
        Group(graph, program, component.names)
        for component in program.order
        if any(graph.ends[name][1] in component.names for name in graph.plastic)
    ]


def learned_graph(graph: LoihiGraph, groups: list[Group]) -> LoihiGraph:
    """The graph with the weights and tags that were learned."""
    for group in groups:
        for each in group.plastic:
            values = group.learned(each)
            node = graph.plastic[each.name]
            changes: dict[str, Any] = {
                field: values[name] for name, field in TAG_FIELDS.items() if name in values
            }
            changes["weight"], changes["rule"] = values["w"], each.rule
            if isinstance(node, Sparse):
                changes["weight"] = node.weight.copy()
                changes["weight"].data = values["w"].astype(np.int32)
            graph = graph.with_node(each.name, **changes)
    return graph


class ConnectionRecorder:
    """Records the plastic connections of a group at every chip step."""

    def __init__(self, group: Group, variables: tuple[str, ...], length: int) -> None:
        self._group, self._variables = group, variables
        synapses = length if set(variables) & {"w", "t", "d"} else 0
        traces = length if set(variables) & set(TRACES) else 0
        self._synapses = np.empty((synapses, group.n_synapses), np.int16)
        self._traces = np.empty((traces, group.n_traces), np.int16)

    def rows(self, t0: int, n_steps: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Where a chunk is recorded: synapses and traces; no rows where nothing is."""
        return self._synapses[t0 : t0 + n_steps], self._traces[t0 : t0 + n_steps]

    def recordings(self) -> dict[str, ConnectionRecording]:
        """Recorded variables by connection, in torch order."""
        if not self._variables:
            return {}
        found = {}
        for each in self._group.plastic:
            values: dict[str, Array] = {}
            if len(self._synapses):
                values.update(self._group.synapse_rows(each, self._synapses))
            if len(self._traces):
                values.update(self._group.trace_rows(each, self._traces))
            wanted = {key: a for key, a in values.items() if key in self._variables}
            found[each.name] = ConnectionRecording(**wanted)
        return found


class LearningLoop:
    """Advances a group within a run, and records it."""

    def __init__(
        self, group: Group, stream: Stream, recorder: Recorder, kept: ConnectionRecorder
    ) -> None:
        self._group, self._stream, self._kept = group, stream, kept
        self._probes = {name: recorder.probes(name) for name in group.names}

    def run(self, chunk: Chunk) -> None:
        """Advance by a chunk."""
        group, probes = self._group, self._probes
        rows_u = chunk.n_steps if any(probe.u.size for probe in probes.values()) else 0
        rows_v = chunk.n_steps if any(probe.v.size for probe in probes.values()) else 0
        u = np.empty((rows_u, group.n_neurons), np.int32)
        v = np.empty((rows_v, group.n_neurons), np.int32)
        rows = self._kept.rows(chunk.t0, chunk.n_steps)
        group.run(chunk, GroupProbes(u, v, *rows), self._stream)
        steps = slice(chunk.t0, chunk.t0 + chunk.n_steps)
        for name, probe in probes.items():
            columns = group.columns(name)
            if probe.s.size:
                probe.s[0, steps] = chunk.spikes(name, probe.s.shape[2])[0]
            if probe.u.size:
                probe.u[0, steps] = u[:, columns]
            if probe.v.size:
                probe.v[0, steps] = v[:, columns]


def learning_loops(
    groups: Iterable[Group],
    stream: Stream,
    recorder: Recorder,
    kept: Iterable[ConnectionRecorder],
) -> dict[tuple[str, ...], LearningLoop]:
    """What advances each group, by the names of its nodes."""
    return {g.names: LearningLoop(g, stream, recorder, each) for g, each in zip(groups, kept)}


class GroupCounter:
    """Counts the spikes of groups for a recorder; kernels count those of other nodes."""

    def __init__(self, groups: Iterable[Group], recorder: Recorder) -> None:
        self._names = [name for group in groups for name in group.names]
        self._recorder = recorder

    def watch(self, chunk: Chunk) -> None:
        """Count the spikes of a chunk."""
        for name in self._names:
            self._recorder.count(name, int(np.count_nonzero(chunk.spikes(name))))


class SampleCounter:
    """Counts the spikes of each node within samples; those between samples do not count."""

    def __init__(self, stream: ChipStream, nodes: Iterable[str]) -> None:
        self._stream = stream
        self.n_spikes = dict.fromkeys(nodes, 0)

    def watch(self, chunk: Chunk) -> None:
        """Count the spikes of a chunk."""
        for name in self.n_spikes:
            inside = self._stream.inside(name, chunk.t0, chunk.n_steps)
            self.n_spikes[name] += int(np.count_nonzero(chunk.spikes(name)[0, inside]))
