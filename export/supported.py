"""What becomes of each layer and node: the table of documentation and ``biril info``.

The rows come from the records of the nodes themselves. Three policies: *exact* (the integers mean the
same, up to rounding that the report shows), *approximation* (described in the row, and in the graph's
metadata where it happened), *refused* (with the reason).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from biril_nm.errors import MissingDependencyError
from biril_nm.export.nir_nodes.kinds import POLICIES, REFUSED

__all__ = [
    "POLICIES",
    "policy_rows",
    "policy_table",
    "stored_nodes",
    "supported_json",
    "supported_nodes",
    "supported_table",
    "torch_problem",
]

Row = tuple[str, str, str, str]
STORED = Path(__file__).with_name("supported.json")  # written by docs/make_tables.py


def policy_rows() -> list[Row]:
    """Rows (from, node, policy, becomes or reason); without torch those of NIR only."""
    from biril_nm.export.nir_nodes.registry import CASES, NODE_KINDS

    sides = (*_torch_sides(), ("NIR", (*NODE_KINDS.values(), *CASES)))
    return [(side, kind.name, kind.policy, kind.becomes) for side, kinds in sides for kind in kinds]


def torch_problem() -> str | None:
    """Why layers of torch are not listed: what is missing, or does not load; None where they are."""
    try:
        import biril_nm.export.from_torch.layers  # noqa: F401
    except MissingDependencyError as error:
        return str(error)
    return None


def _torch_sides() -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Layers of torch and neurons of snnTorch; none without them."""
    if torch_problem() is not None:
        return ()
    from biril_nm.export.from_torch.layers import LAYERS
    from biril_nm.export.from_torch.neurons import NEURONS, REFUSED_OPTIONS
    from biril_nm.export.from_torch.refused import REFUSED_LAYERS, REFUSED_NEURONS

    return (
        ("torch", (*LAYERS.values(), *REFUSED_LAYERS)),
        ("snnTorch", (*NEURONS.values(), *REFUSED_NEURONS, *REFUSED_OPTIONS)),
    )


def supported_nodes() -> list[tuple[str, str, str]]:
    """Rows (from, node, becomes) of what is supported."""
    return [(side, name, text) for side, name, policy, text in policy_rows() if policy != REFUSED]


def stored_nodes() -> list[tuple[str, str, str]]:
    """The same rows from a file of the package, for which neither torch nor NIR is imported."""
    return [(side, name, text) for side, name, text in json.loads(STORED.read_text("utf-8"))]


def supported_json() -> str:
    """That file, a row on a line."""
    rows = (json.dumps(row, ensure_ascii=False) for row in supported_nodes())
    return "[\n" + ",\n".join(rows) + "\n]\n"


def supported_table() -> str:
    """The same as a Markdown table, for README."""
    lines = ["| from | node | becomes |", "| --- | --- | --- |"]
    lines += [f"| {side} | `{name}` | {text} |" for side, name, text in supported_nodes()]
    return "\n".join(lines)


def policy_table() -> str:
    """docs/supported_nodes.md: every layer and node with its policy."""
    head = [
        "# Supported layers and nodes",
        "",
        "Written by `python docs/make_tables.py` from the records of the exporter. torch and snnTorch",
        "layers become NIR nodes (`to_nir`), NIR nodes of any producer become integers (`lower`).",
        "",
        "| from | layer or node | policy | becomes, or reason |",
        "| --- | --- | --- | --- |",
    ]
    lines = [
        f"| {side} | `{name}` | {policy} | {text} |" for side, name, policy, text in policy_rows()
    ]
    return "\n".join([*head, *lines, ""])
