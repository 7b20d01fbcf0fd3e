"""A group of nodes that learn: its arrays, and one chunk of steps through the compiled loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arrays import Array
from biril_nm.hardware_sim.engine.layout import node_order
from biril_nm.hardware_sim.engine.program import Program
from biril_nm.hardware_sim.engine.state import Chunk
from biril_nm.hardware_sim.engine.stream import Stream
from biril_nm.hardware_sim.kernels.learning.plan import (
    GROUP_NODE,
    MOD_EXTERNAL,
    MOD_NEURONS,
    PLAN,
    STATIC_LINK,
    GroupCells,
    GroupClock,
    GroupNodes,
    GroupProbes,
    Outside,
    PlasticLinks,
    StaticLinks,
    Store,
)
from biril_nm.hardware_sim.kernels.learning.steps import run_group
from biril_nm.hardware_sim.learning.connections import (
    Arena,
    Plastic,
    lay_out,
    lie_outside,
    stack_tables,
    with_impulses,
)
from biril_nm.hw_graph import Conv, LoihiGraph, Sparse
from biril_nm.hw_graph.convolutions import conv_matrix
from biril_nm.learning.random_streams import RandomStreams
from biril_nm.learning.rule import POST_TRACES, PRE_TRACES, TRACES
from biril_nm.loihi import INT32_BITS
from biril_nm.loihi.fixed_point import prepare_weights

__all__ = ["Group", "GroupState"]


@dataclass(frozen=True)
class GroupState:
    """What a group carries from step to step.

    Attributes:
        u, v: (n,) state of its neurons.
        s: (past, n) their last spikes.
        store: weights, tags and traces of its plastic connections, and scratch.
    """

    u: NDArray[np.int32]
    v: NDArray[np.int32]
    s: NDArray[np.uint8]
    store: Store


class Group:
    """Nodes that advance step by step, with the plastic connections that end at them.

    Args:
        graph: the network.
        program: its program, static connections only.
        names: the nodes of the group.
    """

    def __init__(self, graph: LoihiGraph, program: Program, names: tuple[str, ...]) -> None:
        self._graph, self._program, self.names = graph, program, names
        self._start = _starts({name: program.sizes[name] for name in names})
        self._n = sum(program.sizes[name] for name in names)
        self._outside: dict[tuple[str, int], int] = {}  # (name, delay) -> first column of values
        self._width = 0
        arena, term_0 = Arena(), 0
        self.plastic: list[Plastic] = []
        for name in graph.plastic:
            if graph.ends[name][1] in names:
                each = lay_out(graph, name, arena, term_0, program.paths)
                term_0 += len(each.tables.terms)
                self._wire(each, arena)
                self.plastic.append(each)
        self._n_synapses = arena.n_synapses
        for each in self.plastic:
            each.plan["masks"] = arena.put_synapses(
                np.zeros(each.rule.t_epoch * int(each.plan["n_post"]), np.int16)
            )
        self._links = self._static_links()
        self._past = int(self._links.table["lag"].max(initial=0))
        self._nodes = self._kinds()
        self._plans = np.array([each.plan for each in self.plastic], dtype=PLAN)
        self._rules = stack_tables(self.plastic)
        self._limits = tuple(arena.limits)
        self._streams = [
            RandomStreams(each.rule, bool(each.plan["per_synapse"])) for each in self.plastic
        ]
        self.state = GroupState(
            u=np.zeros(self._n, np.int32),
            v=np.zeros(self._n, np.int32),
            s=np.zeros((self._past, self._n), np.uint8),
            store=arena.arrays(),
        )

    # --- layout ---------------------------------------------------------------------------------

    def _column(self, name: str, delay: int) -> int:
        """First column of what comes from outside ``delay`` steps late."""
        key = (name, delay)
        if key not in self._outside:
            self._outside[key] = self._width
            self._width += self._program.sizes[name]
        return self._outside[key]

    def _wire(self, each: Plastic, arena: Arena) -> None:
        """Places of source, target and modulators."""
        plan = each.plan
        plan["target"] = self._start[each.target]
        plan["inside"] = each.source in self._start
        plan["source"] = (
            self._start[each.source] if plan["inside"] else self._column(each.source, 0)
        )
        order = node_order(self._graph, each.target)
        for factor, name in self._graph.plastic[each.name].modulators.items():
            trace = POST_TRACES.index(factor)
            inside = name in self._start
            delay = self._program.latency[each.target] if name in self._graph.inputs else 0
            first = self._start[name] if inside else self._column(name, delay)
            plan["mod_kind"][trace] = MOD_NEURONS if inside else MOD_EXTERNAL
            own = np.argsort(node_order(self._graph, name))
            places = own[order] if len(own) == len(order) else np.zeros(len(order), np.int64)
            plan["mod_places"][trace] = arena.put_ints(first + places)

    def _kinds(self) -> tuple[GroupNodes, ...]:
        """The populations by the types of their registers."""
        kinds: dict[Any, list[str]] = {}
        for name in self.names:
            registers = self._program.compartments[name].registers
            kinds.setdefault(type(registers), []).append(name)
        return tuple(self._kind(names) for names in kinds.values())

    def _kind(self, names: list[str]) -> GroupNodes:
        nodes = [self._program.compartments[name] for name in names]
        held = [node.registers for node in nodes]
        table = np.zeros(len(names), dtype=GROUP_NODE)
        sizes = [each[0].shape[-1] for each in held]
        table["start"] = [self._start[name] for name in names]
        table["size"] = [node.size for node in nodes]
        table["first_cell"] = np.cumsum([0, *table["size"][:-1]])
        table["first_register"] = np.cumsum([0, *sizes[:-1]])
        table["n_registers"] = sizes
        table["latency"] = [self._program.latency[name] for name in names]
        for row, each in zip(table, held):
            masks = getattr(each, "masks", None)
            if masks is not None:
                row["masked"] = 1
                for field, mask in masks._asdict().items():
                    row[field] = mask
        joined = {
            field: np.concatenate([getattr(each, field) for each in held], axis=-1)
            for field, value in held[0]._asdict().items()
            if isinstance(value, np.ndarray)
        }
        if "masks" in held[0]._fields:
            joined["masks"] = None  # they are in the table
        more = np.zeros((nodes[0].n_words, sum(table["size"])), np.int64)
        return GroupNodes(table, held[0]._replace(**joined), more)

    def _static_links(self) -> StaticLinks:
        """Connections without a rule from one node of the group to another, as lists by source."""
        rows: list[tuple[int, ...]] = []
        pointers: list[Array] = []
        targets: list[Array] = []
        weights: list[Array] = []
        n_pointers = n_synapses = 0
        for name in self.names:
            for link in self._program.incoming[name]:
                if link.source not in self._start:
                    continue
                lists, finish = _source_lists(self._graph, link.name)
                ends = [
                    self._start[link.source],
                    link.n_pre,
                    self._start[name],
                    self._program.sizes[name],
                ]
                rows.append((*ends, link.lag, *finish, n_pointers, n_synapses))
                for column, part in zip((pointers, targets, weights), lists):
                    column.append(part)
                n_pointers += lists[0].size
                n_synapses += lists[1].size
        none = np.zeros(0, np.int32)
        return StaticLinks(
            np.array(rows, dtype=STATIC_LINK),
            np.concatenate([*pointers, none]).astype(np.int32),
            np.concatenate([*targets, none]).astype(np.int32),
            np.concatenate([*weights, none]).astype(np.int32),
            np.zeros(self._n, np.int64),
        )

    # --- running --------------------------------------------------------------------------------

    def run(self, chunk: Chunk, probes: GroupProbes, stream: Stream) -> None:
        """Advance by one chunk of a stream; reads what arrives from outside, writes spikes and state."""
        n_steps, clock = chunk.n_steps, stream.clock
        t0 = clock.age + chunk.t0
        a = np.concatenate([chunk.arriving[name][0, :n_steps] for name in self.names], axis=1)
        state = self.state
        spikes = np.concatenate([state.s, np.zeros((n_steps, self._n), np.uint8)])
        run_group(
            self._nodes,
            GroupCells(np.ascontiguousarray(a), spikes, self._past, state.u, state.v),
            self._links,
            PlasticLinks(self._plans, state.store, self._rules),
            Outside(self._values(chunk, stream), *self._draw(t0, n_steps)),
            probes,
            GroupClock(n_steps, t0, clock.period, clock.active),
        )
        for name in self.names:
            columns = self.columns(name)
            chunk.spikes(name, self._program.sizes[name])[0] = spikes[self._past :, columns]
            chunk.state.v[name][0] = state.v[columns]
        state.s[...] = spikes[n_steps:]

    def _values(self, chunk: Chunk, stream: Stream) -> Array:
        """Spikes and payloads from outside, one row per step."""
        values = np.zeros((chunk.n_steps, self._width), np.int32)
        for (name, delay), first in self._outside.items():
            size = self._program.sizes[name]
            if delay:
                feed = stream.feeds[name]
                late = max(0, delay - chunk.t0 - stream.clock.age)
                given: Array = np.zeros((1, max(0, chunk.n_steps - late), size), feed.dtype)
                if given.size:
                    feed.load(given, 0, chunk.t0 + late - delay)
                values[late:, first : first + size] = given[0]
            else:
                values[:, first : first + size] = chunk.spikes(name, size)[0]
        return values

    def _draw(self, t0: int, steps: int) -> tuple[Array, Array]:
        """Random numbers of each connection for the next steps."""
        drawn = [stream.draw(t0, steps) for stream in self._streams]
        return np.stack([u for u, _ in drawn]), np.stack([i for _, i in drawn])

    # --- memory ---------------------------------------------------------------------------------

    def memory(self) -> dict[str, Array]:
        """Arrays that go on from step to step, by name; views."""
        state = self.state
        more = {f"more{i}": kind.more for i, kind in enumerate(self._nodes)}
        return {"u": state.u, "v": state.v, "s": state.s, **more, **state.store._asdict()}

    def accepts(self, ints: Array) -> bool:
        """Whether integers of another memory lie where kernels may follow them."""
        own = self.state.store.ints
        return all(
            bool(np.array_equal(ints[a:b], own[a:b]))
            if top is None
            else bool(np.all((ints[a:b] >= 0) & (ints[a:b] <= top)))
            for a, b, top in self._limits
        )

    def see_weights(self) -> None:
        """After other weights were written: whether some must be clipped, as in a new group."""
        for row, each in zip(self._plans, self.plastic):
            first = int(row["weights"])
            weights = self.state.store.synapses[first : first + each.n_synapses]
            row["touch_all"] = lie_outside(row, each.rule, weights)

    def random_state(self) -> list[Any]:
        """State of the random streams, as JSON takes it."""
        return [stream.state() for stream in self._streams]

    def set_random_state(self, states: list[Any]) -> None:
        """Go on from :meth:`random_state`.

        Raises:
            ValueError, TypeError, KeyError: states of something else.
        """
        for stream, state in zip(self._streams, states, strict=True):
            stream.set_state(state)

    @property
    def impulses(self) -> Array:
        """Impulses of x1, x2, y1, y2, y3 of each connection: (connections, 5)."""
        return np.array([[float(e.rule.trace(t).impulse) for t in TRACES] for e in self.plastic])

    def set_impulses(self, impulses: Array) -> None:
        """Let traces grow by other impulses from now on.

        Raises:
            ValueError, TypeError, ConfigError: impulses that these rules cannot have.
        """
        changed = [with_impulses(e, row) for e, row in zip(self.plastic, impulses, strict=True)]
        self.plastic[:] = changed
        self._rules = stack_tables(changed)

    # --- results --------------------------------------------------------------------------------

    @property
    def n_neurons(self) -> int:
        """Neurons of all nodes."""
        return self._n

    @property
    def n_synapses(self) -> int:
        """Length of a row of recorded synapses."""
        return self._n_synapses

    @property
    def n_traces(self) -> int:
        """Length of a row of recorded traces."""
        return sum(2 * int(p["n_pre"]) + 3 * int(p["n_post"]) for p in self._plans)

    def columns(self, name: str) -> slice:
        """Place of a node among the neurons of the group."""
        return slice(self._start[name], self._start[name] + self._program.sizes[name])

    def learned(self, each: Plastic) -> dict[str, Array]:
        """Weights and tags as they are now, in the order of the node's own weights."""
        return self.synapse_rows(each, self.state.store.synapses)

    def synapse_rows(self, each: Plastic, rows: Array) -> dict[str, Array]:
        """w, t, d (those that exist) out of recorded rows (..., n_synapses)."""
        found = {}
        for name, column, switch in (
            ("w", "weights", None),
            ("t", "tags_t", "uses_t"),
            ("d", "tags_d", "uses_d"),
        ):
            if switch is None or each.plan[switch]:
                first = int(each.plan[column])
                found[name] = each.own_order(rows[..., first : first + each.n_synapses])
        return found

    def trace_rows(self, each: Plastic, rows: Array) -> dict[str, Array]:
        """x1, x2, y1, y2, y3 out of recorded rows, in torch order."""
        first = 0
        for other in self.plastic:
            sizes = [int(other.plan["n_pre"])] * 2 + [int(other.plan["n_post"])] * 3
            if other is each:
                break
            first += sum(sizes)
        found = {}
        for name, size in zip(TRACES, sizes):
            end = each.source if name in PRE_TRACES else each.target
            own = np.argsort(node_order(self._graph, end))
            found[name] = rows[..., first : first + size][..., own]
            first += size
        return found


def _starts(sizes: Mapping[str, int]) -> dict[str, int]:
    ends = np.cumsum([0, *sizes.values()])
    return {name: int(end) for name, end in zip(sizes, ends)}


def _source_lists(graph: LoihiGraph, name: str) -> tuple[tuple[Array, ...], tuple[int, int, int]]:
    """A static connection as (pointers, targets, weights) by source; left and right shift, modulo."""
    import scipy.sparse

    node, (source, target) = graph.connections[name], graph.ends[name]
    orders = (node_order(graph, end) for end in (source, target))
    pre, post = orders
    exponent, modulo = node.weight_exp, isinstance(node, Conv)
    if isinstance(node, Conv):
        matrix = conv_matrix(node, graph.shape_of(source))
    else:
        own = node.weight.data if isinstance(node, Sparse) else node.weight
        prepared = prepare_weights(own, node.weight_bits, node.sign_mode)
        prepared = prepared if exponent < INT32_BITS else np.zeros_like(prepared)
        matrix = (
            scipy.sparse.csr_matrix(
                (prepared, node.weight.indices, node.weight.indptr), shape=node.weight.shape
            )
            if isinstance(node, Sparse)
            else scipy.sparse.csr_matrix(prepared)
        )
    by_source = matrix[post][:, pre].tocsc()
    left, right = (min(max(e, 0), INT32_BITS - 1) for e in (exponent, -exponent))
    return (by_source.indptr, by_source.indices, by_source.data), (left, right, int(modulo))
