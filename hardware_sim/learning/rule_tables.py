"""Learning rules as the kernels take them: tables of products and factors, tables of decays.

Oracle: lava-nc 0.10.0 ``learning_rule_applier.py`` (products), ``connection.py`` (traces), tag ``fixed_pt``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biril_nm.hardware_sim.kernels.learning.plan import (
    CHANGE_D,
    CHANGE_T,
    CHANGE_W,
    FACTOR,
    IMPULSE,
    ON_U,
    ON_X0,
    ON_Y0,
    TERM,
)
from biril_nm.learning.random_streams import decay_products, modulator_tau
from biril_nm.learning.rule import POST_TRACES, PRE_TRACES, TRACES, LearningRule, Term
from biril_nm.loihi import LEARN_EXP_MIN, TRACE_FRACTION_UNITS, TRACE_MAX

__all__ = ["DEPENDENCY", "VARIABLE", "RuleTables", "compile_rule"]

# In the order in which Lava evaluates them.
VARIABLE = {"dw": CHANGE_W, "dt": CHANGE_T, "dd": CHANGE_D}
DEPENDENCY = {"x0": ON_X0, "y0": ON_Y0, "u": ON_U}
PRE, POST, SYNAPSE = 0, 1, 2
_CODES = {
    **{name: (PRE, code) for code, name in enumerate(("x0", *PRE_TRACES))},
    **{name: (POST, code) for code, name in enumerate(("y0", *POST_TRACES))},
    **{name: (SYNAPSE, code) for code, name in enumerate(("w", "t", "d"))},
}


@dataclass(frozen=True)
class RuleTables:
    """One rule in numbers.

    Attributes:
        terms: (n_terms,) records TERM.
        factors: (n_factors,) records FACTOR.
        decay: (5, 2, 128): whole and fractional part of ``exp(-1/tau) k`` for x1, x2, y1, y2, y3.
        impulses: (5,) records IMPULSE.
        filters: (3, 128): ``floor(exp(-1/tau) k)`` of filtered modulators y1, y2, y3.
        filter_impulses: (3,), -1 where the modulator's values act as they are.
    """

    terms: NDArray[Any]
    factors: NDArray[Any]
    decay: NDArray[np.float64]
    impulses: NDArray[Any]
    filters: NDArray[np.int32]
    filter_impulses: NDArray[np.int32]


def compile_rule(rule: LearningRule) -> RuleTables:
    """Tables of one rule."""
    rows: list[tuple[int, ...]] = []
    factors: list[tuple[int, ...]] = []
    for variable, index in VARIABLE.items():
        for term in rule.terms(variable):
            rows.append(_term_row(index, term, factors))
    decay, impulses = _traces(rule)
    filters, filter_impulses = _modulator_filters(rule)
    return RuleTables(
        terms=np.array(rows, dtype=TERM),
        factors=np.array(factors, dtype=FACTOR),
        decay=decay,
        impulses=impulses,
        filters=filters,
        filter_impulses=filter_impulses,
    )


def _term_row(variable: int, term: Term, factors: list[tuple[int, ...]]) -> tuple[int, ...]:
    """One row of ``terms``; factors of a product commute, because 32-bit products wrap alike."""
    row = [
        variable,
        DEPENDENCY[term.dependency],
        term.signed_mantissa,
        term.shift,
        term.exp - LEARN_EXP_MIN,
    ]
    for side in (PRE, POST, SYNAPSE):
        row.append(len(factors))
        for factor in term.operands:
            where, code = _CODES[factor.variable]
            if where == side:
                factors.append((code, factor.constant, factor.width, int(factor.is_sgn)))
        row.append(len(factors))
    return tuple(row)


def _traces(rule: LearningRule) -> tuple[NDArray[np.float64], NDArray[Any]]:
    decay = np.zeros((len(TRACES), 2, TRACE_MAX + 1))
    impulses = np.zeros(len(TRACES), dtype=IMPULSE)
    for index, name in enumerate(TRACES):
        trace = rule.trace(name)
        impulse, tau, exists = float(trace.impulse), float(trace.tau), name in rule.traces
        if rule.three_factor and name in POST_TRACES:
            impulse, tau, exists = 0.0, modulator_tau(), True
        product = decay_products(tau)
        decay[index] = np.floor(product), product % 1
        whole = np.floor(impulse)
        fraction = np.round((impulse - whole) * TRACE_FRACTION_UNITS)
        impulses[index] = whole, fraction, exists
    return decay, impulses


def _modulator_filters(rule: LearningRule) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    filters = np.zeros((len(POST_TRACES), TRACE_MAX + 1), dtype=np.int32)
    impulses = np.full(len(POST_TRACES), -1, dtype=np.int32)
    for index, name in enumerate(POST_TRACES):
        if rule.three_factor and name in rule.traces:
            filters[index] = np.floor(decay_products(float(rule.trace(name).tau)))
            impulses[index] = int(rule.trace(name).impulse)
    return filters, impulses
