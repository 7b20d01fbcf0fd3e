"""Plastic connections and the groups of nodes around them, laid out for the learning kernels.

A group is a set of neuron nodes that must advance together, step by step: targets of plastic
connections, with whatever feeds back into them or modulates them. All its numbers lie in a few long
arrays; :mod:`biril_nm.hardware_sim.kernels.learning.plan` says where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import unknown_name
from biril_nm.errors import ConfigError, RangeError
from biril_nm.hardware_sim.engine.layout import node_order
from biril_nm.hardware_sim.engine.paths import Paths, refuse_path
from biril_nm.hardware_sim.kernels.learning.plan import CHANGE_W, N_X, N_Y, PLAN, Rules, Store
from biril_nm.hardware_sim.learning.rule_tables import DEPENDENCY, RuleTables, compile_rule
from biril_nm.hw_graph import Dense, LoihiGraph, Sparse
from biril_nm.hw_graph.metadata import PER_SYNAPSE, rounding_of
from biril_nm.learning.rule import POST_TRACES, TRACES, LearningRule
from biril_nm.loihi import INT32_BITS, TRACE_MAX, SignMode
from biril_nm.loihi.fixed_point import truncate_weights, weight_limits

__all__ = [
    "Arena",
    "Plastic",
    "dependencies",
    "lay_out",
    "lie_outside",
    "new_impulses",
    "stack_tables",
    "with_impulses",
]


class ValueRange(NamedTuple):
    """What the integers ``start .. stop - 1`` of an arena may be: 0 to ``top``, None: what they are."""

    start: int
    stop: int
    top: int | None


@dataclass
class Arena:
    """Long arrays that grow while connections are laid out, and then stay."""

    ints: list[NDArray[np.int32]] = field(default_factory=list)
    synapses: list[NDArray[np.int16]] = field(default_factory=list)
    n_ints: int = 0
    n_synapses: int = 0
    limits: list[ValueRange] = field(default_factory=list)

    def put_ints(self, values: Any, top: int | None = None) -> int:
        """Append 32-bit integers (or that many zeros) and return where they begin.

        Integers that are given stay as they are; zeros may become up to ``top``, None: anything.
        """
        fixed = not isinstance(values, int)
        array = np.ravel(values) if fixed else np.zeros(values, np.int32)
        start = self.n_ints
        self.ints.append(array.astype(np.int32))
        self.n_ints += array.size
        if fixed or top is not None:
            self.limits.append(ValueRange(start, self.n_ints, None if fixed else top))
        return start

    def put_synapses(self, values: NDArray[Any]) -> int:
        """Append 16-bit integers and return where they begin."""
        start = self.n_synapses
        self.synapses.append(values.astype(np.int16))
        self.n_synapses += values.size
        return start

    def arrays(self) -> Store:
        """Everything that was put, in one array of each kind."""
        empty_ints, empty_synapses = np.zeros(0, np.int32), np.zeros(0, np.int16)
        return Store(
            np.concatenate([*self.ints, empty_ints]),
            np.concatenate([*self.synapses, empty_synapses]),
        )


@dataclass(frozen=True)
class Plastic:
    """One plastic connection as it was laid out.

    Attributes:
        name, source, target: names.
        rule: its rule.
        plan: its record of type PLAN.
        places: for each synapse in internal order, its flat place in the node's own weights.
        tables: its rule in numbers.
        shape: of the weights; of a Sparse, their number.
    """

    name: str
    source: str
    target: str
    rule: LearningRule
    plan: np.void
    places: NDArray[np.int64]
    tables: RuleTables
    shape: tuple[int, ...]

    @property
    def n_synapses(self) -> int:
        """Number of synapses."""
        return int(self.plan["n_synapses"])

    def own_order(self, internal: NDArray[Any]) -> NDArray[Any]:
        """Values (..., n_synapses) as the node's weights are: (..., post, pre), or CSR data."""
        own = np.empty_like(internal)
        own[..., self.places] = internal
        return own.reshape(*internal.shape[:-1], *self.shape)


def lay_out(graph: LoihiGraph, name: str, arena: Arena, term_0: int, paths: Paths) -> Plastic:
    """Lay out one connection; sources, targets and modulators are placed by the group.

    Raises:
        ConfigError: a path that the connection cannot take.
        RangeError: initial weights that 16 bits do not hold.
    """
    node = graph.plastic[name]
    source, target = graph.ends[name]
    rule: LearningRule = node.rule  # type: ignore[assignment]
    orders = node_order(graph, source), node_order(graph, target)
    weights = _initial_weights(name, node)
    tables = compile_rule(rule)
    plan = np.zeros(1, dtype=PLAN)[0]
    plan["n_pre"], plan["n_post"] = len(orders[0]), len(orders[1])
    if isinstance(node, Sparse):
        places = _place_sparse(plan, node, weights, orders, arena)
    else:
        places = np.arange(weights.size).reshape(weights.shape)[orders[1]][:, orders[0]].T.ravel()
        plan["block_size"] = len(orders[1])
    plan["n_synapses"] = places.size
    per_synapse = rounding_of(graph.metadata) == PER_SYNAPSE
    _place_switches(plan, node, rule, tables, weights, per_synapse)
    _place_short_cuts(plan, tables, term_0)
    _choose_short_cuts(plan, name, paths)
    _place_state(plan, rule, tables, arena, term_0)
    plan["weights"] = arena.put_synapses(weights.ravel()[places])
    for column, switch, tags in (
        ("tags_t", "uses_t", node.tag_t),
        ("tags_d", "uses_d", node.tag_d),
    ):
        if plan[switch]:
            values = np.zeros(places.size) if tags is None else np.ravel(tags)[places]
            plan[column] = arena.put_synapses(values)
    return Plastic(name, source, target, rule, plan, places, tables, weights.shape)


def new_impulses(each: Plastic, changes: Mapping[str, float]) -> list[float]:
    """Impulses of x1, x2, y1, y2, y3 after changes to some of them.

    Where a host sets one impulse of Lava's connection, Lava (0.10.0, ``on_var_update``) takes all taus and
    impulses again, from integers; filters of third factors are the host's own.

    Raises:
        ConfigError: a trace that the rule does not declare, or fractions that Lava would cut.
    """
    rule, name = each.rule, each.name
    for trace in set(changes) - set(rule.traces):
        raise ConfigError(unknown_name(f"trace of connection '{name}'", trace, rule.traces))
    filtered = POST_TRACES if rule.three_factor else ()
    of_lava = {n: t for n, t in rule.traces.items() if n not in filtered}
    if of_lava.keys() & changes:
        values = [(f"{n}: tau", t.tau) for n, t in of_lava.items()]
        values += [(f"{n}: impulse", changes.get(n, t.impulse)) for n, t in of_lava.items()]
        for what, value in values:
            if value % 1:
                raise ConfigError(
                    f"connection '{name}', trace {what} is {value:g}; expected whole numbers where an "
                    f"impulse changes, since Lava then cuts all taus and impulses of the rule to them. Round "
                    f"it, or make the graph with the impulse that is wanted"
                )
    return [float(changes.get(n, rule.trace(n).impulse)) for n in TRACES]


def with_impulses(each: Plastic, impulses: Sequence[float]) -> Plastic:
    """The connection under its rule with other impulses of x1, x2, y1, y2, y3.

    Raises:
        ConfigError: an impulse that the rule cannot have, or of a trace that it does not declare.
    """
    given = {name: value for name, value in zip(TRACES, impulses, strict=True) if value}
    traces = {
        name: replace(each.rule.trace(name), impulse=_plain(given.get(name, 0)))
        for name in {*each.rule.traces, *given}
    }
    unknown = sorted(set(traces) - set(each.rule.traces))
    if unknown:
        raise ConfigError(
            f"connection '{each.name}' has impulses of {', '.join(unknown)}; expected those of "
            f"{', '.join(each.rule.traces)} alone, the traces of its rule"
        )
    rule = replace(each.rule, traces=traces)
    return replace(each, rule=rule, tables=compile_rule(rule))


def _plain(value: float) -> float:
    """Whole numbers as integers, as rules write them."""
    number = float(value)
    return int(number) if number.is_integer() else number


def _initial_weights(name: str, node: Dense | Sparse) -> NDArray[np.int64]:
    """Truncated, but not clipped, as Lava's learning connections take them."""
    own = node.weight.data if isinstance(node, Sparse) else node.weight
    weights = truncate_weights(own, node.weight_bits, node.sign_mode)
    info = np.iinfo(np.int16)
    if weights.size and (weights.min() < info.min or weights.max() > info.max):
        raise RangeError(
            f"plastic connection '{name}' has weights from {weights.min()} to {weights.max()}; expected "
            f"{info.min} to {info.max} (the first learning phase clips them to 8 bits anyway)"
        )
    return weights


def _place_sparse(
    plan: np.void,
    node: Sparse,
    weights: NDArray[np.int64],
    orders: tuple[NDArray[np.int64], NDArray[np.int64]],
    arena: Arena,
) -> NDArray[np.int64]:
    """Synapses by source and by target; Lava drops those whose weight truncates to 0."""
    import scipy.sparse

    numbered = scipy.sparse.csr_matrix(
        (np.arange(1, weights.size + 1), node.weight.indices, node.weight.indptr),
        shape=node.weight.shape,
    )
    by_source = numbered[orders[1]][:, orders[0]].tocsc()
    by_source.sort_indices()
    places = np.asarray(by_source.data, dtype=np.int64) - 1
    n_pre, n_post = len(orders[0]), len(orders[1])
    sources = np.repeat(np.arange(n_pre), np.diff(by_source.indptr))
    by_target = np.argsort(by_source.indices, kind="stable")
    counts = np.bincount(by_source.indices, minlength=n_post)
    plan["is_sparse"] = 1
    plan["pointers"] = arena.put_ints(by_source.indptr)
    plan["targets"] = arena.put_ints(by_source.indices)
    plan["post_pointers"] = arena.put_ints(np.concatenate([[0], np.cumsum(counts)]))
    plan["post_synapses"] = arena.put_ints(by_target)
    plan["post_sources"] = arena.put_ints(sources[by_target])
    plan["alive"] = arena.put_ints(weights[places] != 0)
    longest = max(np.diff(by_source.indptr).max(initial=0), counts.max(initial=0))
    plan["block_size"] = int(longest)
    return np.asarray(places)


def _place_switches(
    plan: np.void,
    node: Dense | Sparse,
    rule: LearningRule,
    tables: RuleTables,
    weights: NDArray[np.int64],
    per_synapse: bool,
) -> None:
    terms, used = tables.terms, rule.used()
    plan["t_epoch"], plan["decimation"], plan["is_3f"] = (
        rule.t_epoch,
        rule.decimation,
        rule.three_factor,
    )
    plan["left"] = min(max(node.weight_exp, 0), INT32_BITS - 1)
    plan["right"] = min(max(-node.weight_exp, 0), INT32_BITS - 1)
    for column, dependency in (("uses_x0", "x0"), ("uses_y0", "y0"), ("uses_u", "u")):
        plan[column] = bool((terms["dependency"] == DEPENDENCY[dependency]).any())
    plan["uses_t"] = bool(rule.dt) or "t" in used
    plan["uses_d"] = bool(rule.dd) or "d" in used
    plan["weight_low"], plan["weight_high"] = weight_limits(node.sign_mode)
    plan["is_excitatory"] = node.sign_mode is SignMode.EXCITATORY
    plan["is_inhibitory"] = node.sign_mode is SignMode.INHIBITORY
    plan["per_synapse"] = per_synapse
    plan["touch_all"] = lie_outside(plan, rule, weights)


def lie_outside(plan: np.void, rule: LearningRule, weights: NDArray[Any]) -> bool:
    """Whether the next learning phase must visit every weight, to clip some."""
    low, high = int(plan["weight_low"]), int(plan["weight_high"])
    return bool(rule.dw and weights.size and (weights.min() < low or weights.max() > high))


def _place_short_cuts(plan: np.void, tables: RuleTables, term_0: int) -> None:
    """Which short cuts (``kernels/learning/short_cuts.py``) give the same integers for this rule."""
    terms, factors = tables.terms, tables.factors
    by = {name: np.flatnonzero(terms["dependency"] == d) for name, d in DEPENDENCY.items()}
    plain = (terms["variable"] == CHANGE_W) & (terms["syn_0"] == terms["syn_1"])
    of_source = plain & (terms["post_0"] == terms["post_1"])
    shared = not plan["per_synapse"]  # shifts of whole rows are rounded by one number
    plan["is_additive"] = shared and bool(of_source[by["y0"]].all())
    few = len(by["x0"]) == 1 and len(by["y0"]) <= 1 and not len(by["u"])
    plan["is_pair"] = few and bool(plain.all()) and bool(plan["is_additive"])
    plan["is_delta"] = len(terms) == 2 == len(by["u"]) and bool(plain.all())
    for column, name in (("pair_x0", "x0"), ("pair_y0", "y0")):
        plan[column] = term_0 + by[name][0] if len(by[name]) else -1
    codes = {
        int(code)
        for row in by["y0"]
        for code in factors["code"][terms["pre_0"][row] : terms["pre_1"][row]]
    }
    if len(codes) <= 1 and codes <= {1, 2}:
        plan["table_trace"] = codes.pop() if codes else 1


def _choose_short_cuts(plan: np.void, name: str, paths: Paths) -> None:
    """Leave out the short cuts that do not pay, or that the paths exclude."""
    part = f"plastic connection '{name}'"
    switch = {"pair": "is_pair", "shifts": "is_additive", "delta": "is_delta"}.get(
        str(paths.learned)
    )
    if switch is not None and (plan["is_sparse"] or not plan[switch]):
        reason = "the products of its rule have no such short cut"
        raise refuse_path(part, "learned", paths.learned, reason)
    left_out = {
        "shifts": ("is_pair", "is_delta"),
        "products": ("is_additive", "is_pair", "is_delta"),
    }
    for each in left_out.get(str(paths.learned), ()):
        plan[each] = 0
    possible = plan["is_additive"] and plan["table_trace"]
    if paths.shifts == "table" and not possible:
        reason = "its products with y0 take other factors than one trace of the source"
        raise refuse_path(part, "shifts", "table", reason)
    pays = plan["n_pre"] > TRACE_MAX or paths.shifts == "table"
    if not pays or paths.shifts == "single":
        plan["table_trace"] = 0
    if paths.first_phase == "all":
        plan["touch_all"] = 1


def _place_state(
    plan: np.void, rule: LearningRule, tables: RuleTables, arena: Arena, term_0: int
) -> None:
    n_pre, n_post, steps = int(plan["n_pre"]), int(plan["n_post"]), rule.t_epoch
    n_terms = len(tables.terms)
    plan["first_term"], plan["end_term"] = term_0, term_0 + n_terms
    plan["block_size"] = max(int(plan["block_size"]), steps + 1)
    for column, size, top in (
        ("pre_times", n_pre, steps),
        ("post_times", n_post, steps),
        ("x_traces", N_X * n_pre, TRACE_MAX),
        ("y_traces", N_Y * n_post, TRACE_MAX),
        ("x_history", N_X * (steps + 1) * n_pre, TRACE_MAX),
        ("y_history", N_Y * (steps + 1) * n_post, TRACE_MAX),
        ("delivered", n_post, None),
        ("post_parts", n_terms * (steps + 1) * n_post, None),
        ("active_pre", n_pre + 1, n_pre),
        ("active_post", n_post + 1, n_post),
        ("time_starts", steps + 2, n_post),
        ("live", n_terms, 1),
        ("decay_table", TRACE_MAX + 1, TRACE_MAX),
        ("shift_table", 4 * (TRACE_MAX + 1), None),
        ("block", (n_terms + 7) * int(plan["block_size"]), None),
    ):
        plan[column] = arena.put_ints(size, top)


def stack_tables(plastic: Sequence[Plastic]) -> Rules:
    """Rules of all connections: products and factors one after the other, the rest per connection."""
    terms, factors, n_factors = [], [], 0
    for each in plastic:
        shifted = each.tables.terms.copy()
        for column in ("pre_0", "pre_1", "post_0", "post_1", "syn_0", "syn_1"):
            shifted[column] += n_factors
        n_factors += len(each.tables.factors)
        terms.append(shifted)
        factors.append(each.tables.factors)
    return Rules(
        np.concatenate(terms),
        np.concatenate(factors),
        np.stack([each.tables.decay for each in plastic]),
        np.stack([each.tables.impulses for each in plastic]),
        np.stack([each.tables.filters for each in plastic]),
        np.stack([each.tables.filter_impulses for each in plastic]),
    )


def dependencies(graph: LoihiGraph) -> tuple[tuple[str, str], ...]:
    """Pairs (modulating neurons, target) beside the connections."""
    pairs: list[tuple[str, str]] = []
    for name, node in graph.plastic.items():
        modulators: Mapping[str, str] = node.modulators
        pairs += [(m, graph.ends[name][1]) for m in modulators.values() if m in graph.neurons]
    return tuple(pairs)
