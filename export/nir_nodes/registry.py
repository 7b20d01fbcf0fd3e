"""All NIR nodes that the export knows."""

from __future__ import annotations

import nir

from biril_nm.coding import DECISIONS
from biril_nm.export.nir_nodes.decision import DECISION
from biril_nm.export.nir_nodes.kinds import APPROXIMATION, EXACT, REFUSED, Case, NodeKind
from biril_nm.export.nir_nodes.metadata import text
from biril_nm.export.nir_nodes.neurons import NEURON_KINDS
from biril_nm.export.nir_nodes.stateless import STATELESS

__all__ = ["CASES", "NESTED", "NODE_KINDS", "kind_names"]

# The record of graphs inside of graphs.
NESTED = NodeKind(
    nir.NIRGraph,
    "dissolved, inner nodes called `outer.inner`; one input and one output each",
    metadata={"producer": text(), DECISION: text(*DECISIONS)},
)
# Class of a NIR node -> its record.
NODE_KINDS: dict[type, NodeKind] = {**STATELESS, **NEURON_KINDS, NESTED.type: NESTED}

# What holds for several types of nodes.
CASES = (
    Case(
        "v_reset other than 0",
        "v, v_leak and v_threshold are counted from v_reset; v also starts there, which NIR leaves open",
        APPROXIMATION,
    ),
    Case("loop of one connection", "one step, as in snnTorch", EXACT),
    Case(
        "loop of several connections",
        "one step for each connection; refused where the file says `lag = 1` (networks of `to_nir`)",
        APPROXIMATION,
    ),
    Case(
        "reset by subtraction, late resets, no reset",
        'programs of Loihi 2, named in the metadata; refused for Loihi 1, where `reset="force-zero"` '
        "accepts the change of meaning",
    ),
    Case("loop without a neuron", "it has no delay, so no meaning in steps", REFUSED),
    Case(
        "sum of neurons at an Output",
        "the chip reads neurons; give each an Output of its own",
        REFUSED,
    ),
    Case("padding 'same'", "with an even kernel or a stride: it has no symmetric form", REFUSED),
)


def kind_names() -> list[str]:
    """Names of all known nodes, sorted."""
    return sorted(kind.name for kind in NODE_KINDS.values())
