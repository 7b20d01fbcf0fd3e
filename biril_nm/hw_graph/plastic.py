"""Making connections of a graph plastic, and telling what learning changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.hw_graph.convolutions import unroll_convolution
from biril_nm.hw_graph.graph import LoihiGraph
from biril_nm.hw_graph.nodes import Conv, Dense, Input, Sparse
from biril_nm.learning.rule import VARIABLES, LearningRule
from biril_nm.learning.rules import RULES, get_rule
from biril_nm.loihi import TRACE_BITS
from biril_nm.loihi.fixed_point import weight_limits
from biril_nm.storage import read_json, read_toml

__all__ = ["learned_changes", "make_plastic", "read_rule", "rule_of"]

MAX_RULE_BYTES = 1 << 20


@checked
def make_plastic(
    graph: LoihiGraph,
    name: str,
    rule: Any,
    modulators: Mapping[str, str] | None = None,
    unroll: bool = False,
) -> LoihiGraph:
    """A copy of ``graph`` in which the connection ``name`` learns by ``rule``.

    Args:
        graph: the network.
        name: a Dense or Sparse connection, or a Conv if ``unroll``.
        rule: a LearningRule, a name of the registry, one of Lava's rule objects, or a dict of the
            arguments of :meth:`LearningRule.from_expressions`.
        modulators: sources of the third factors, see :class:`biril_nm.hw_graph.Dense`. Factors that
            the rule needs and that are not named get an Input each, ``<connection>.<factor>``, with
            one value 0..127 per destination neuron.
        unroll: whether a Conv may become a Sparse, in which every position learns its own kernel;
            the metadata then say so.

    Raises:
        ConfigError: no such connection, no such rule, a Conv without ``unroll``, or modulators that do
            not fit.
    """
    node = graph.connections.get(name)
    if node is None:
        raise ConfigError(
            f"'{name}' is not a connection of the graph; expected one of {', '.join(graph.connections)}"
        )
    if isinstance(node, Conv):
        if not unroll:
            raise ConfigError(
                f"'{name}' is a convolution, whose shared weights cannot learn on the chip. Pass "
                f"--unroll (unroll=True) to make it a Sparse connection with a kernel per position"
            )
        graph = unroll_convolution(graph, name)
        unrolled = [*graph.metadata.get("unrolled_convolutions", []), name]
        graph = graph.with_metadata(unrolled_convolutions=unrolled)
    learning_rule = get_rule(rule)
    sources = dict(modulators or {})
    nodes: dict[str, Any] = dict(graph.nodes)
    for factor in learning_rule.third_factors:
        if factor not in sources:
            sources[factor] = f"{name}.{factor}"
            shape = graph.shape_of(graph.ends[name][1])
            nodes = {sources[factor]: Input(shape, TRACE_BITS), **nodes}
    nodes[name] = replace(nodes[name], rule=learning_rule, modulators=sources)
    return LoihiGraph(nodes, graph.edges, graph.metadata)


@checked
def rule_of(text: str) -> LearningRule:
    """A rule by registry name, or from a file ``.toml`` or ``.json``."""
    if text in RULES:
        return RULES[text]
    if Path(text).suffix in (".toml", ".json"):
        return read_rule(Path(text))
    raise ConfigError(
        f"learning rule '{text}' is unknown; expected one of {', '.join(RULES)}, or a .toml or .json file"
    )


@checked
def read_rule(path: Path) -> LearningRule:
    """Read a rule from a TOML or JSON file.

    It has the fields of ``LearningRule.to_dict()`` or, where dw, dt and dd are texts, the arguments of
    ``LearningRule.from_expressions``.

    Raises:
        FileFormatError: missing, damaged or incomplete file.
        ConfigError: a rule that the chip cannot run.
    """
    record = read_json(path, MAX_RULE_BYTES) if path.suffix == ".json" else read_toml(path)
    if isinstance(record, dict) and any(isinstance(record.get(key), str) for key in VARIABLES):
        return get_rule({"name": path.stem, **record})
    defaults: dict[str, Any] = {"dw": [], "dt": [], "dd": [], "traces": {}, "t_epoch": 1}
    if isinstance(record, dict):
        record = {**defaults, "decimation": 0, "seed": 0, "name": path.stem, **record}
    return LearningRule.from_dict(record)


@checked
def learned_changes(before: LoihiGraph, after: LoihiGraph) -> dict[str, dict[str, Any]]:
    """Per plastic connection: synapses, weights changed, mean |change|, weights at a limit."""
    changes = {}
    for name, node in after.plastic.items():
        old, new = _weights(before.plastic[name]), _weights(node)
        low, high = weight_limits(node.sign_mode)
        limits = [limit for limit in (low, high) if limit]
        changes[name] = {
            "synapses": int(new.size),
            "changed": int((old != new).sum()),
            "mean_change": float(np.abs(new - old).mean()) if new.size else 0.0,
            "at_limit": int(np.isin(new, limits).sum()),
        }
    return changes


def _weights(node: Dense | Sparse) -> NDArray[np.int64]:
    own: Any = node.weight.data if isinstance(node, Sparse) else node.weight
    return np.asarray(own, dtype=np.int64)
