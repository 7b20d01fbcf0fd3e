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

import biril_nm
from biril_nm.hardware_sim.engine.blocks import Block, RunClock, Worker, block_shape
from biril_nm.hardware_sim.engine.components import Component, execution_order
from biril_nm.hardware_sim.engine.feeds import Feed, StreamFeed
from biril_nm.hardware_sim.engine.program import Program, compile_graph
from biril_nm.hardware_sim.engine.recorder import Recorder
from biril_nm.hardware_sim.kernels.jit import is_loaded
from biril_nm.hardware_sim.kernels.learning.plan import GroupProbes
from biril_nm.hardware_sim.kernels.learning.steps import run_group
from biril_nm.hardware_sim.learning.connections import dependencies
from biril_nm.hardware_sim.learning.group import Group
from biril_nm.hw_graph import LoihiGraph, Sparse
from biril_nm.learning.rule import TRACES
from biril_nm.recording import ConnectionRecording, NodeRecording, Recording
from biril_nm.recording.channels_last import torch_view

__all__ = ["simulate_learning"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]
TAG_FIELDS = {"t": "tag_t", "d": "tag_d"}


def simulate_learning(
    graph: LoihiGraph,
    feeds: Mapping[str, Feed],
    variables: tuple[str, ...],
    learning_variables: tuple[str, ...],
    nodes: Iterable[str],
) -> Recording:
    """Run a graph with plastic connections; arguments are checked by ``simulate``."""
    program = _learning_program(graph)
    n_steps, batch = next(iter(feeds.values())).values.shape[:2]
    period = graph.sample_period(n_steps)
    length = (batch - 1) * period + n_steps + max(program.latency.values())
    streams = {
        name: StreamFeed(feed.values, feed.shape, feed.graded, period)
        for name, feed in feeds.items()
    }
    gate = n_steps if program.max_slack > 0 else 0
    clock = RunClock(length, 1, True, period, gate)
    recorder = _Recorder(program, length, nodes, variables, _read_out(graph))
    steps, _ = block_shape(program, streams, clock, 1)
    groups = [
        Group(graph, program, streams, component.names, (period, gate))
        for component in program.order
        if any(graph.ends[name][1] in component.names for name in graph.plastic)
    ]
    if not is_loaded(run_group):
        logger.info(
            "loading the compiled learning loop; the first run on a machine compiles it (half a minute)"
        )
    kept = _Kept(groups, learning_variables, length)
    worker = _Worker(program, streams, clock, recorder, steps, groups, kept, (n_steps, batch))
    worker.run(0)

    def in_node_time(name: str, rows: Array) -> Array:
        starts = np.arange(batch) * period + program.latency[name]
        return np.asarray(rows[starts[np.newaxis, :] + np.arange(n_steps)[:, np.newaxis]])

    chip = recorder.chip_rows()
    shown = {name: {v: rows[v] for v in variables} for name, rows in chip.items() if name in nodes}
    return Recording(
        nodes={
            name: NodeRecording(**{key: in_node_time(name, a) for key, a in rows.items()})
            for name, rows in shown.items()
        },
        n_spikes=worker.n_spikes,
        v_last={
            name: in_node_time(name, rows["v"])[-1] for name, rows in chip.items() if "v" in rows
        },
        chip=lambda: {name: NodeRecording(**rows) for name, rows in shown.items()},
        meta={
            "engine": "biril_nm.hardware_sim",
            "version": biril_nm.__version__,
            "n_steps": n_steps,
            "batch": batch,
            "learn": True,
        },
        connections=kept.traces(),
        graph=_learned_graph(graph, groups),
    )


def _learning_program(graph: LoihiGraph) -> Program:
    """The graph's program with plastic connections taken out; their targets run step by step."""
    program = compile_graph(graph)
    targets = {graph.ends[name][1] for name in graph.plastic}
    return replace(
        program,
        incoming={
            name: tuple(link for link in links if link.name not in graph.plastic)
            for name, links in program.incoming.items()
        },
        order=tuple(
            Component(component.names, component.looped or bool(targets & set(component.names)))
            for component in execution_order(graph, dependencies(graph))
        ),
    )


def _read_out(graph: LoihiGraph) -> tuple[str, ...]:
    """Neurons whose last v decides a prediction: marked by Output nodes, else those that feed nothing."""
    marked = tuple(dict.fromkeys(graph.outputs.values()))
    sources = {source for source, _ in graph.ends.values()}
    return marked or tuple(name for name in graph.neurons if name not in sources)


def _learned_graph(graph: LoihiGraph, groups: list[Group]) -> LoihiGraph:
    """The graph with the weights and tags that were learned."""
    for group in groups:
        for each in group.plastic:
            values = group.learned(each)
            node = graph.plastic[each.name]
            changes: dict[str, Any] = {
                field: values[name] for name, field in TAG_FIELDS.items() if name in values
            }
            changes["weight"] = values["w"]
            if isinstance(node, Sparse):
                changes["weight"] = node.weight.copy()
                changes["weight"].data = values["w"].astype(np.int32)
            graph = graph.with_node(each.name, **changes)
    return graph


class _Recorder(Recorder):
    """Records whole streams; v of the read-out always, because the last values are needed."""

    def __init__(
        self,
        program: Program,
        length: int,
        nodes: Iterable[str],
        variables: tuple[str, ...],
        read_out: tuple[str, ...],
    ) -> None:
        super().__init__(program, length, 1, nodes, variables)
        self._nodes = tuple(dict.fromkeys((*self._nodes, *read_out)))
        for name in read_out:
            if (name, "v") not in self._arrays:
                self._arrays[name, "v"] = np.empty((1, length, program.size(name)), np.int32)

    def chip_rows(self) -> dict[str, dict[str, Array]]:
        """All that was recorded, as views (n_chip_steps, *shape)."""
        rows: dict[str, dict[str, Array]] = {name: {} for name in self._nodes}
        for (name, variable), array in self._arrays.items():
            rows[name][variable] = torch_view(array[0], self._shapes[name])
        return rows


class _Kept:
    """Recordings of the plastic connections of all groups."""

    def __init__(self, groups: list[Group], variables: tuple[str, ...], length: int) -> None:
        self._groups, self._variables = groups, variables
        synapses = bool(set(variables) & {"w", "t", "d"})
        traces = bool(set(variables) & set(TRACES))
        self._synapses = [
            np.empty((length if synapses else 0, group.n_synapses), np.int16) for group in groups
        ]
        self._traces = [
            np.empty((length if traces else 0, group.n_traces), np.int16) for group in groups
        ]

    def rows(self, group: Group, t0: int, steps: int) -> tuple[Array, Array]:
        """Where a chunk of a group is recorded."""
        index = self._groups.index(group)
        return self._synapses[index][t0 : t0 + steps], self._traces[index][t0 : t0 + steps]

    def traces(self) -> dict[str, ConnectionRecording]:
        """Recorded variables by connection, in torch order."""
        if not self._variables:
            return {}
        found = {}
        for group, synapses, traces in zip(self._groups, self._synapses, self._traces):
            for each in group.plastic:
                values: dict[str, Array] = {}
                if len(synapses):
                    values.update(group.synapse_rows(each, synapses))
                if len(traces):
                    values.update(group.trace_rows(each, traces))
                wanted = {key: a for key, a in values.items() if key in self._variables}
                found[each.name] = ConnectionRecording(**wanted)
        return found


class _Worker(Worker):
    """Runs components as ever, but groups through their own loop; counts spikes within samples."""

    def __init__(
        self,
        program: Program,
        feeds: Mapping[str, Feed],
        clock: RunClock,
        recorder: Recorder,
        chunk: int,
        groups: list[Group],
        kept: _Kept,
        sample: tuple[int, int],
    ) -> None:
        super().__init__(program, feeds, clock, recorder, chunk, 1)
        self._groups = {group.names: group for group in groups}
        self._kept = kept
        self._n_steps, self._n_samples = sample
        self.n_spikes = dict.fromkeys(program.compartments, 0)

    def _run_chunk(self, block: Block, b0: int, t0: int, steps: int) -> None:
        super()._run_chunk(block, b0, t0, steps)
        for name in self.n_spikes:
            age = np.arange(t0, t0 + steps) - self._program.latency[name]
            inside = (
                (age >= 0)
                & (age < self._n_samples * self._clock.period)
                & (age % self._clock.period < self._n_steps)
            )
            rows = block["spikes"][name][0, self._past[name] :][:steps]
            self.n_spikes[name] += int(rows[inside].sum(dtype=np.int64))

    def _run_loop(self, block: Block, names: tuple[str, ...], b0: int, t0: int, steps: int) -> None:
        group = self._groups.get(names)
        if group is None:
            super()._run_loop(block, names, b0, t0, steps)
            return
        for name in names:
            self._receive(block, name, t0, 0, steps, outside=names)
        arrays = {name: self._recorder.probes(name) for name in names}
        records_u = any(probes.u.size for probes in arrays.values())
        records_v = any(probes.v.size for probes in arrays.values())
        u, v = (
            np.empty((steps if wanted else 0, group.n_neurons), np.int32)
            for wanted in (records_u, records_v)
        )
        synapses, traces = self._kept.rows(group, t0, steps)
        group.run(block, self._past, steps, t0, GroupProbes(u, v, synapses, traces))
        for name in names:
            size = self._program.size(name)
            spikes = block["spikes"][name][0, self._past[name] :][:steps, :size]
            columns = group.columns(name)
            parts: list[tuple[Array, Array]] = [
                (arrays[name].s, spikes),
                (arrays[name].u, u[:, columns]),
                (arrays[name].v, v[:, columns]),
            ]
            for record, rows in parts:
                if record.size:
                    record[0, t0 : t0 + steps] = rows
