"""The learning rules that come with biril-nm, as literals, and their registry.

Weights are in the chip's integer units (magnitude up to 255), traces in 0..127; x is the source
(pre) and y the target (post) side. To add a rule: one literal and its name in :data:`RULES`.
"""

from __future__ import annotations

from biril_nm.errors import ConfigError
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.loihi import TRACE_MAX

__all__ = ["OFFSET", "OJA", "PAIR", "RULES", "get_rule"]

# Pair-based STDP: dw = 2^-4 x1 y0 - 2^-5 y1 x0. A perfect causal pair adds +4, and a simultaneous
# pair counts on both sides, because traces include the impulse of the same step. Impulses and
# time constants are ours; the rule is equation 3 of the BIRIL paper with A- < 0, and the form is
# that of Song, Miller and Abbott, Nature Neuroscience 3 (2000).
PAIR = LearningRule(
    name="pair",
    dw=(Term(+1, -4, ("x1", "y0")), Term(-1, -5, ("y1", "x0"))),
    traces={"x1": Trace(impulse=64, tau=8), "y1": Trace(impulse=64, tau=16)},
)

# Post-triggered STDP with an offset: dw = 2^-4 x1 y0 - 2^2 y0. At a post spike a synapse grows if
# x1 > 2^(2+4) = 64, i.e. if its source spiked recently, and shrinks otherwise; the weights of
# uncorrelated sources therefore fall. Form: Diehl and Cook, Frontiers in Computational
# Neuroscience 9 (2015), "x_tar"; integers are ours.
OFFSET = LearningRule(
    name="offset",
    dw=(Term(+1, -4, ("x1", "y0")), Term(-1, 2, ("y0",))),
    traces={"x1": Trace(impulse=TRACE_MAX, tau=8)},
)

# Oja-like decay at the post spike: dw = 2^-4 x1 y0 - 2^-5 w y0, with fixed point
# w* = 2 E[x1 | post spike]. It bounds weights without any operation across synapses (E. Oja,
# Journal of Mathematical Biology 15 (1982), with the spike in place of the squared output).
OJA = LearningRule(
    name="oja",
    dw=(Term(+1, -4, ("x1", "y0")), Term(-1, -5, ("w", "y0"))),
    traces={"x1": Trace(impulse=TRACE_MAX, tau=8)},
)

RULES = {rule.name: rule for rule in (OFFSET, PAIR, OJA)}


def get_rule(rule: str | LearningRule) -> LearningRule:
    """Return the rule called ``rule``; a LearningRule is passed through.

    Raises:
        ConfigError: the name is unknown; the message lists the known ones.
    """
    if isinstance(rule, LearningRule):
        return rule
    if rule not in RULES:
        raise ConfigError(f"learning rule '{rule}' is unknown; known rules: {', '.join(RULES)}")
    return RULES[rule]
