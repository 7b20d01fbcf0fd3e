"""Plain-text report of a LoihiGraph: its registers and weights, and what lowering did to them.

What the graph shows is counted when the table is made. What only the lowering knew (scale, bound,
limit, worst neuron, clipped weights, error) is shown as long as weights and registers are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from biril_nm.display import html_table, shown
from biril_nm.hw_graph.digest import known_connection, known_population
from biril_nm.hw_graph.nodes import Conv, Dense, Neurons, Sparse
from biril_nm.loihi.fixed_point import weight_step

if TYPE_CHECKING:
    from biril_nm.hw_graph.graph import LoihiGraph

__all__ = [
    "CONNECTION_HEADER",
    "changed_facts",
    "connection_rows",
    "neuron_table",
    "summary_html",
    "summary_text",
]

CONNECTION_HEADER = (
    "connection", "kind", "weights", "exp", "sign", "bits used", "worst neuron", "clipped", "zeros",
    "rel. error", "delay",
)  # fmt: skip


def _values(register: object) -> str:
    array = np.asarray(register)
    low, high = int(array.min()), int(array.max())
    return str(low) if low == high else f"{low}..{high}"


def _tightest(margins: Mapping[str, float]) -> str:
    """The limit that S comes closest to, and how many times larger S could be."""
    if not margins:
        return "-"
    name = min(margins, key=lambda key: margins[key])
    return f"{name}: {margins[name]:.2f} x"


def neuron_table(graph: LoihiGraph) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and one row per Neurons node; a column for each register of the models that occur."""
    models = {node.model: node.compartment for node in graph.neurons.values()}
    registers = tuple(dict.fromkeys(r.name for m in models.values() for r in m.registers))
    rows: list[tuple[str, ...]] = []
    for name, node in graph.neurons.items():
        known = known_population(graph, name)
        held = (node.registers.get(register) for register in registers)
        rows.append(
            (
                name,
                "x".join(map(str, node.shape)),
                node.model,
                *("-" if value is None else _values(value) for value in held),
                str(graph.latency[name]),
                f"{known['scale']:.1f}" if "scale" in known else "-",
                str(known.get("overflow_bound", "-")),
                _tightest(known.get("margins", {})),
            )
        )
    own = ("latency", "scale", "bound on u", "tightest limit")
    return ("neurons", "shape", "model", *registers, *own), rows


def connection_rows(graph: LoihiGraph) -> list[tuple[str, ...]]:
    """One row per connection, as :data:`CONNECTION_HEADER` names the columns."""
    rows: list[tuple[str, ...]] = []
    for name, node in graph.connections.items():
        known = known_connection(graph, name)
        stored = node.weight.data if isinstance(node, Sparse) else node.weight
        largest = int(np.abs(stored).max(initial=0))
        bits = (largest // weight_step(node.weight_bits, node.sign_mode)).bit_length()
        rows.append(
            (
                name,
                type(node).__name__,
                f"{stored.size:,}",
                str(node.weight_exp),
                node.sign_mode.value,
                str(bits),
                str(known.get("bits_worst", "-")),
                str(known.get("clipped", "-")),
                f"{np.count_nonzero(stored == 0):,}",
                f"{known['relative_error']:.2%}" if "relative_error" in known else "-",
                str(node.delay),
            )
        )
    return rows


def changed_facts(graph: LoihiGraph) -> list[str]:
    """Which facts of the lowering no longer hold."""
    kinds = (
        ("quantisation", graph.connections, known_connection, "weights", "clipped and rel. error"),
        ("neurons", graph.neurons, known_population, "registers or weights", "scale and limits"),
    )
    found = []
    for key, nodes, known, what, columns in kinds:
        names = [n for n in nodes if graph.metadata.get(key, {}).get(n) and not known(graph, n)]
        if names:
            found.append(
                f"{what} of {', '.join(names)} have changed since the lowering; {columns} are not known"
            )
    return found


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[shown(cell, lines=False) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)) for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return [line.rstrip() for line in lines]


def _size_text(graph: LoihiGraph) -> str:
    kinds = (Neurons, Dense, Sparse, Conv)
    counts = {k.__name__: sum(isinstance(n, k) for n in graph.nodes.values()) for k in kinds}
    n_neurons = sum(node.size for node in graph.neurons.values())
    return (
        f"{n_neurons:,} neurons in {counts['Neurons']} nodes, {len(graph.connections)} connections "
        f"({', '.join(f'{v} {k}' for k, v in counts.items() if v and k != 'Neurons')}), "
        f"latency {max(graph.latency.values())} steps"
    )


def summary_html(graph: LoihiGraph) -> str:
    """The tables of :func:`summary_text` for Jupyter."""
    neurons = html_table(*neuron_table(graph), title=_size_text(graph))
    return neurons + html_table(CONNECTION_HEADER, connection_rows(graph))


def summary_text(graph: LoihiGraph) -> str:
    """Tables of neurons and connections, and the facts that hold for the whole graph."""
    lines = [_size_text(graph)]
    facts = ("chip", "dt_s", "producer", "decision")
    known = {key: graph.metadata[key] for key in facts if key in graph.metadata}
    if known:
        lines.append(
            shown(", ".join(f"{key} {value}" for key, value in known.items()), lines=False)
        )
    lines += ["", *_table(*neuron_table(graph))]
    lines += ["", *_table(CONNECTION_HEADER, connection_rows(graph))]
    unrolled = graph.metadata.get("unrolled_convolutions", ())
    for name, plastic in graph.plastic.items():
        own = ", a convolution unrolled: every position learns its own kernel"
        lines.append(
            f"{shown(name, lines=False)} learns: {plastic.rule!r}{own if name in unrolled else ''}"
        )
    notes = [*graph.metadata.get("notes", ()), *changed_facts(graph)]
    lines += ["", *(shown(f"note: {note}", lines=False) for note in notes)] if notes else []
    return "\n".join(lines)
