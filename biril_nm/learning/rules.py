"""The learning rules that come with biril-nm, as literals, and their registry.

Weights are in the chip's integer units (magnitude up to 255), traces in 0..127; x is the source
(pre) and y the target (post) side. Traces include the impulse of the same step, so that a
simultaneous pair counts as "pre before post" and as "post before pre". Products of two traces act 8
times weaker than written, those of a trace and w or t 32 times (HARDWARE: the fixed-point shift;
``rule.explain()`` says by how much). To add a rule: one literal and its name in :data:`RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biril_nm.arguments import Seed, checked, shown, unknown_name
from biril_nm.errors import ConfigError
from biril_nm.learning.lava_objects import is_lava_rule
from biril_nm.learning.rule import LearningRule, Term, Trace
from biril_nm.loihi import LEARN_EXP_MAX, LEARN_EXP_MIN, LEARN_MANTISSA_MAX, TRACE_MAX

__all__ = [
    "DELTA",
    "OFFSET",
    "OJA",
    "PAIR",
    "PROP",
    "REWARD_STDP",
    "RULES",
    "THREE_FACTOR",
    "delta_rule",
    "get_rule",
    "pair_rule",
    "three_factor_rule",
]

IMPULSE_MIN = 16  # of pair_rule: smaller ones leave the decay too few levels
ERROR_IMPULSE = 64  # a power of two: products of equal traces cancel without a rest of the shift

# Pair-based STDP: dw = 2^-4 x1 y0 - 2^-5 y1 x0. A perfect causal pair adds +4, and a simultaneous
# pair counts on both sides, because traces include the impulse of the same step. Impulses and
# time constants are ours; the rule is equation 3 of the BIRIL paper with A- < 0, and the form is
# that of Song, Miller and Abbott, Nature Neuroscience 3 (2000). Other constants: pair_rule().
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

# Weight-dependent STDP: dw = w (2^-11 x1 y0 - 2^-12 y1 x0), the factors 2^-6 and 2^-7 as written
# being shifted by 5 more. w = 128 and x1 = 64 give +4. Changes are proportional to w, so that a
# weight never changes its sign; the floor of the shift pulls by up to 2^-7 towards 0 per product.
# The fixed point is 0, from which no weight returns, if depression prevails. It is the amplitude function
# of the BIRIL code, multiplicative in both directions; compare van Rossum, Bi and Turrigiano,
# Journal of Neuroscience 20 (2000), where only depression is.
PROP = LearningRule(
    name="prop",
    dw=(Term(+1, -6, ("w", "x1", "y0")), Term(-1, -7, ("w", "y1", "x0"))),
    traces={"x1": Trace(impulse=64, tau=8), "y1": Trace(impulse=64, tau=16)},
)

# Reward-modulated STDP: pairs write an eligibility t into the tag, which loses 1/16 per step, and
# weights change only while reward (y2) or punishment (y3) is delivered, in 0..127:
#     dt = 2^-2 x1 y0 - 2^-2 y1 x0 - 2^-4 t u0,      dw = 2^-9 t (y2 - y3) u0
# (2^-4 as written, 5 more by the shift; a causal pair leaves t = +16, and reward 64 then gives +2
# per step). In a three-factor rule y1 comes from outside, too: name the destination itself as its
# modulator. Form: Izhikevich, Cerebral Cortex 17 (2007); on Loihi: RewardModulatedSTDP of
# lava-nc 0.10.0, which has one signed reward.
REWARD_STDP = LearningRule(
    name="reward_stdp",
    dw=(Term(+1, -4, ("u", "t", "y2")), Term(-1, -4, ("u", "t", "y3"))),
    dt=(
        Term(+1, -2, ("x1", "y0")),
        Term(-1, -2, ("y1", "x0")),
        Term(-1, -4, ("u", "t")),
    ),
    traces={"x1": Trace(impulse=64, tau=8), "y1": Trace(impulse=64, tau=8)},
    three_factor=True,
)


@checked
def pair_rule(
    a_plus: float,
    a_minus: float,
    tau_plus: float,
    tau_minus: float,
    name: str = "pair",
    seed: Seed = 0,
) -> LearningRule:
    """Pair STDP as in equation 3 of the BIRIL paper, with its constants.

    ``dw = a_plus exp(-(t_post - t_pre) / tau_plus)`` for pre before post and
    ``dw = a_minus exp(-(t_pre - t_post) / tau_minus)`` for post before pre; at lag 0 both. Each
    amplitude becomes ``impulse * mantissa * 2**exp`` with a whole impulse of 16 to 127, within 1 %.

    Args:
        a_plus: change at lag 0 by the first part, in weight units (of 255); at least 0.
        a_minus: the same for the second part; at most 0 (the paper omits this sign).
        tau_plus: time constant of the pre-trace in steps.
        tau_minus: time constant of the post-trace in steps.
        name: name of the rule.
        seed: of its random streams.

    Raises:
        ConfigError: an amplitude of the wrong sign or too large or small for the chip.
    """
    if a_plus < 0 or a_minus > 0:
        raise ConfigError(
            f"a_plus is {a_plus:g} and a_minus {a_minus:g}; expected a_plus >= 0 >= a_minus, "
            f"potentiation for pre before post"
        )
    plus, minus = _amplitude("a_plus", a_plus), _amplitude("a_minus", -a_minus)
    return LearningRule(
        name=name,
        dw=(
            Term(+1, plus[2], ("x1", "y0"), plus[1]),
            Term(-1, minus[2], ("y1", "x0"), minus[1]),
        ),
        traces={"x1": Trace(plus[0], tau_plus), "y1": Trace(minus[0], tau_minus)},
        seed=seed,
    )


def _amplitude(what: str, value: float) -> tuple[int, int, int]:
    """Impulse, mantissa and exponent with the product nearest to ``value``; the largest impulse."""
    if value == 0:
        return IMPULSE_MIN, 0, 0
    choices = [
        (abs(impulse * mantissa * 2.0**exp - value), -impulse, mantissa, exp)
        for impulse in range(IMPULSE_MIN, TRACE_MAX + 1)
        for mantissa in range(1, LEARN_MANTISSA_MAX + 1)
        for exp in range(LEARN_EXP_MIN, LEARN_EXP_MAX + 1)
    ]
    error, impulse, mantissa, exp = min(choices)
    if error > value / 100:
        low = IMPULSE_MIN * 2.0**LEARN_EXP_MIN
        high = TRACE_MAX * LEARN_MANTISSA_MAX * 2.0**LEARN_EXP_MAX
        raise ConfigError(
            f"{what} is {value:g} weight units; expected a magnitude of 0, or of {low:g} to {high:g}"
        )
    return -impulse, mantissa, exp


@checked
def three_factor_rule(
    exp: int,
    tau: float,
    impulse: int = 16,
    decimation: int = 0,
    name: str = "three_factor",
    seed: Seed = 0,
) -> LearningRule:
    """Any rule of the form ``dw = pre-trace * signed third factor``.

    ``dw = 2**(exp - 3) x1 (y2 - y3)`` at every ``2**decimation``-th step. Traces are unsigned, so the
    third factor M comes in two parts, ``y2 = max(M, 0)`` and ``y3 = max(-M, 0)``, each 0..127; 3
    is the shift of a product of two traces. With M an error this is the delta rule; with M = learning
    signal times a surrogate derivative it is e-prop, D-RTRL or BRP with a one-step filter.

    Args:
        exp: exponent as written, -7..8.
        tau: of the pre-trace, in steps; ``-1 / ln(alpha)`` for a filter with factor alpha.
        impulse: of the pre-trace; it saturates at 127 if ``impulse * rate * tau`` comes near.
        decimation: learn at every 2**decimation-th step.
        name: name of the rule.
        seed: of its random streams.
    """
    return LearningRule(
        name=name,
        dw=(Term(+1, exp, ("u", "x1", "y2")), Term(-1, exp, ("u", "x1", "y3"))),
        traces={"x1": Trace(impulse, tau)},
        decimation=decimation,
        three_factor=True,
        seed=seed,
    )


@checked
def delta_rule(
    exp: int,
    tau: float,
    impulse: int = 16,
    tau_error: float = 0,
    name: str = "delta",
    seed: Seed = 0,
) -> LearningRule:
    """The delta rule between spikes: ``dw = 2**(exp + 3) x1 (y2 - y3)`` at every step.

    y2 and y3 are 64 at a spike of their modulators and decay with ``tau_error``: 64 * 2**-3 = 2**3.
    Two ways to wire it: error neurons (EMSTDP: y2 from neurons that fire for a missing spike, y3 for a
    spike too many), or, without further neurons, y2 from the target spikes and y3 from the
    destination itself. Then the products of a wanted spike that came cancel exactly.

    Args:
        exp: exponent as written, -7..8.
        tau: of the pre-trace in steps.
        impulse: of the pre-trace.
        tau_error: of the error in steps; 0 forgets it at once.
        name: name of the rule.
        seed: of its random streams.
    """
    error = Trace(ERROR_IMPULSE, tau_error)
    return LearningRule(
        name=name,
        dw=(Term(+1, exp, ("u", "x1", "y2")), Term(-1, exp, ("u", "x1", "y3"))),
        traces={"x1": Trace(impulse, tau), "y2": error, "y3": error},
        three_factor=True,
        seed=seed,
    )


# The generic three-factor rule, with values 0..127 of a signed factor in two parts:
# dw = 2^-7 x1 (y2 - y3). Form: Fremaux and Gerstner, Frontiers in Neural Circuits 9 (2016).
THREE_FACTOR = three_factor_rule(exp=-4, tau=8)

# Readout rule: dw = 2^-4 x1 per missing spike (y2) and - 2^-4 x1 per spike too many (y3), x1 counting
# the pre-spikes of the last 3 steps by 16; short, because traces run on from sample to sample.
# Form: Widrow and Hoff (1960); with error neurons on Loihi: Shrestha, Fang, Rider, Mei and Qiu,
# "In-hardware learning of multilayer spiking neural networks on a neuromorphic processor", DAC 2021
# (EMSTDP), whose chip rule is 2^-7 u7 y1 x1 - 2^-7 u7 y0 x1.
DELTA = delta_rule(exp=-7, tau=3)

# Name -> learning rule.
RULES = {rule.name: rule for rule in (OFFSET, PAIR, OJA, PROP, REWARD_STDP, DELTA, THREE_FACTOR)}


@checked
def get_rule(rule: Any) -> LearningRule:
    """The rule that ``rule`` stands for.

    Args:
        rule: a name of the registry, a LearningRule, one of Lava's rule objects
            (:meth:`LearningRule.from_lava`), or a dict of the arguments of
            :meth:`LearningRule.from_expressions`.

    Raises:
        ConfigError: an unknown name, of which the message lists the known ones; another kind of value;
            or a rule that cannot run.
    """
    if isinstance(rule, LearningRule):
        return rule
    if isinstance(rule, Mapping):
        return _from_mapping(rule)
    if is_lava_rule(rule):
        return LearningRule.from_lava(rule)
    if not isinstance(rule, str):
        raise ConfigError(
            f"rule is {shown(rule)}; expected a name of the registry, a LearningRule, a rule object of Lava, "
            f"or a dict such as {{'dw': '2^-2*x1*y0', 'x1_impulse': 16, 'x1_tau': 10}}"
        )
    if rule not in RULES:
        text = unknown_name("learning rule", rule, RULES)
        way_out = ". Pass products as LearningRule.from_expressions(dw=...)" if "*" in rule else ""
        raise ConfigError(text + way_out)
    return RULES[rule]


def _from_mapping(rule: Mapping[Any, Any]) -> LearningRule:
    if not all(isinstance(key, str) for key in rule):
        raise ConfigError(
            "rule is a dict whose keys are not texts; expected dw, x1_impulse and so on"
        )
    return LearningRule.from_expressions(**rule)
