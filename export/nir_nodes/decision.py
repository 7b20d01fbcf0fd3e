"""How the output of a NIR graph decides: metadata ``decision`` of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nir

from biril_nm.coding import check_decision
from biril_nm.decision import DEFAULT_DECISION, OLD_DECISION

__all__ = ["DECISION", "decision_of_nir", "with_decision"]

DECISION = "decision"  # key of the metadata
OURS = "biril-nm"  # producers whose name starts so


def decision_of_nir(metadata: Mapping[str, Any]) -> str:
    """The decision that a graph's metadata say; files of biril-nm 0.1 do not, and mean ``score``."""
    written = metadata.get(DECISION)
    if written is not None:
        return check_decision(written)
    ours = str(metadata.get("producer", "")).startswith(OURS)
    return OLD_DECISION if ours else DEFAULT_DECISION


def with_decision(graph: nir.NIRGraph, decision: str) -> nir.NIRGraph:
    """The graph with another decision; ``lower`` takes it over.

    Raises:
        ConfigError: an unknown decision.
    """
    metadata = {**(graph.metadata or {}), DECISION: check_decision(decision)}
    return nir.NIRGraph(dict(graph.nodes), list(graph.edges), metadata=metadata, type_check=False)
