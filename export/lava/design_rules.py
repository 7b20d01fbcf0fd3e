"""What lava-nc 0.10.0 can learn: limits of its LearningSparse that the chip does not have."""

from __future__ import annotations

from collections.abc import Iterator

from biril_nm.export.design_rules import Finding
from biril_nm.hw_graph import Dense, LoihiGraph, Sparse
from biril_nm.hw_graph.metadata import PER_CONNECTION, rounding_of
from biril_nm.learning.rule import VARIABLES, LearningRule
from biril_nm.learning.terms import SYNAPTIC
from biril_nm.loihi import ChipProfile, SignMode

__all__ = ["has_tag", "rounding_fits_lava", "sparse_learning_fits_lava"]

USE_DENSE = (
    "Make it a Dense connection, or learn in biril_nm.hardware_sim, which has no such limit."
)


def has_tag(node: Dense | Sparse, name: str) -> bool:
    """Whether the rule of a plastic connection reads or changes the tag "t" or "d"."""
    rule = node.rule
    return rule is not None and (bool(rule.terms(f"d{name}")) or name in rule.used())


def rounding_fits_lava(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """Lava draws one random number for all weights of a connection."""
    rounding = rounding_of(graph.metadata)
    if rounding != PER_CONNECTION:
        for name in graph.plastic:
            yield Finding(
                name,
                f"weights rounded by one random number of each {rounding}",
                f"one of each {PER_CONNECTION}",
                f"Set graph.with_metadata(rounding='{PER_CONNECTION}'), or learn in "
                f"biril_nm.hardware_sim.",
            )


def sparse_learning_fits_lava(graph: LoihiGraph, chip: ChipProfile) -> Iterator[Finding]:
    """LearningSparse raises inside Lava unless weights are mixed and products free of w, t and d."""
    for name, node in graph.plastic.items():
        if not isinstance(node, Sparse) or node.rule is None:
            continue
        if node.sign_mode is not SignMode.MIXED:
            yield Finding(
                name, f"LearningSparse with {node.sign_mode.value} weights", "mixed", USE_DENSE
            )
        factors = _synaptic_factors(node.rule)
        if factors:
            yield Finding(
                name,
                f"LearningSparse with factors {', '.join(factors)}",
                "products of spikes and traces",
                USE_DENSE,
            )
        if node.weight.nnz == 0:
            yield Finding(name, "LearningSparse without synapses", "at least one", USE_DENSE)


def _synaptic_factors(rule: LearningRule) -> list[str]:
    return sorted(
        {
            factor.variable
            for variable in VARIABLES
            for term in rule.terms(variable)
            for factor in term.operands
            if factor.variable in SYNAPTIC
        }
    )
