"""LearningRule: a local learning rule as data, one declaration for three interpreters.

The torch engine runs it on batches and shared kernels, ``hardware_sim`` runs it bit for bit as
lava-nc 0.10.0 does, and the Lava back end writes it as text. A rule is a sum of products,

    dz = sum_k sign_k * mantissa_k * 2**exp_k * D_k * prod_j factor_kj,     z in {w, t, d},

where the dependency D is the first of ``x0``, ``y0``, ``u`` among the factors: the product counts
when the pre-neuron spiked, the post-neuron spiked, or at every 2**decimation-th learning phase.
Grammar and widths: lava-nc 0.10.0 ``lava/magma/core/learning`` (symbolic_equation.py,
product_series.py, learning_rule_applier.py, constants.py). Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from biril_nm.arguments import checked, unknown_name
from biril_nm.errors import ConfigError, FileFormatError, bullet_list
from biril_nm.learning.expressions import MAX_TERMS, rule_fields
from biril_nm.learning.lava_objects import lava_rule_arguments, sees_no_targets
from biril_nm.learning.terms import DEPENDENCIES, MAX_FACTORS, TRACES, Factor, Term, Trace
from biril_nm.loihi import LEARN_ACC_SHIFT, T_EPOCH_MAX, TRACE_MAX

__all__ = [
    "DEPENDENCIES",
    "POST_TRACES",
    "PRE_TRACES",
    "TRACES",
    "VARIABLES",
    "Factor",
    "LearningRule",
    "Term",
    "Trace",
]

RECORD_VERSION = 1  # of to_dict; records without a version are of version 1
VARIABLES = ("dw", "dt", "dd")  # what a rule may change: weight, tag, delay
PRE_TRACES = tuple(name for name in TRACES if name.startswith("x"))  # traces of sources
POST_TRACES = tuple(name for name in TRACES if name.startswith("y"))  # traces of targets
DECIMATION_MAX = 9  # Lava reads one digit after u: "u10" silently becomes u1 times 0


@checked
@dataclass(frozen=True, eq=False, repr=False)
class LearningRule:
    """A local learning rule: traces, products for weight, tag and delay, and timing.

    Checked when made: what exists can run on the chip and in Lava.

    Attributes:
        name: registry name.
        dw: products added to the weight w.
        dt: products added to the tag t.
        dd: products added to the delay d.
        traces: name (x1, x2, y1, y2, y3) to :class:`Trace`; others have impulse 0 and tau 0.
        t_epoch: steps of one learning epoch, 1..63.
        decimation: k of the dependency ``u``: every 2**k-th learning phase, 0..9.
        seed: seed of the random streams (always set; Lava's default is not reproducible).
        three_factor: whether y1, y2, y3 come from outside the synapse, as values that the
            connection's ``modulators`` deliver at every step (reward, label, error, a post-trace).
            A trace declared for one of them then filters the spikes of its modulator,
            ``y <- floor(exp(-1/tau) y) + impulse``; without one the values act as they are.

    Raises:
        ConfigError: all findings of :meth:`check`.
    """

    name: str
    dw: tuple[Term, ...]
    dt: tuple[Term, ...] = ()
    dd: tuple[Term, ...] = ()
    traces: Mapping[str, Trace] = field(default_factory=dict)
    t_epoch: int = 1
    decimation: int = 0
    seed: int = 0
    three_factor: bool = False

    def __post_init__(self) -> None:
        for variable in VARIABLES:
            object.__setattr__(self, variable, tuple(getattr(self, variable)))
        traces = {name: self.traces[name] for name in sorted(self.traces)}
        object.__setattr__(self, "traces", MappingProxyType(traces))
        self.check()

    @checked
    def trace(self, name: str) -> Trace:
        """The trace called ``name``; impulse 0 and tau 0 if the rule does not set it."""
        return self.traces.get(name, Trace(0, 0))

    @checked
    def terms(self, variable: str) -> tuple[Term, ...]:
        """Products of ``dw``, ``dt`` or ``dd``."""
        if variable not in VARIABLES:
            raise ConfigError(unknown_name("variable", variable, VARIABLES))
        terms: tuple[Term, ...] = getattr(self, variable)
        return terms

    @property
    def third_factors(self) -> tuple[str, ...]:
        """Which of y1, y2, y3 the products need from modulators; () for two-factor rules."""
        used = self.used()
        return tuple(n for n in POST_TRACES if n in used) if self.three_factor else ()

    def used(self) -> frozenset[str]:
        """Names of all variables that occur in the products, dependencies included."""
        terms = (term for variable in VARIABLES for term in self.terms(variable))
        return frozenset(Factor.parse(text).variable for term in terms for text in term.factors)

    def check(self) -> None:
        """Hold the rule against grammar and register widths of the chip.

        Raises:
            ConfigError: one or more findings, all listed.
        """
        findings = list(self._findings())
        if findings:
            raise ConfigError(bullet_list(f"learning rule '{self.name}' cannot run:", findings))

    def _findings(self) -> Iterator[str]:
        if not isinstance(self.name, str) or not self.name:
            yield f"name is {self.name!r}; expected a text that is not empty"
        if not any(self.terms(variable) for variable in VARIABLES):
            yield "dw, dt and dd hold no product; expected at least one"
        term_findings = list(self._term_findings())
        yield from term_findings
        trace_findings = [f for n, trace in self.traces.items() for f in _trace_findings(n, trace)]
        yield from trace_findings
        if not term_findings:
            given = {*self.traces, *self.third_factors}
            for name in sorted(self.used() & set(TRACES) - given):
                yield f"trace {name} is used but not declared; add traces={{'{name}': Trace(...)}}"
        if not isinstance(self.three_factor, bool):
            yield f"three_factor is {self.three_factor!r}; expected true or false"
        elif self.three_factor and not trace_findings:
            yield from self._third_factor_findings()
        limits = (("t_epoch", 1, T_EPOCH_MAX), ("decimation", 0, DECIMATION_MAX), ("seed", 0, None))
        for what, low, high in limits:
            value = getattr(self, what)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < low or (high is not None and value > high):
                yield f"{what} is {value!r}; expected an integer from {low}" + (
                    f" to {high}" if high is not None else ""
                )

    def _third_factor_findings(self) -> Iterator[str]:
        for name, trace in self.traces.items():
            if name in POST_TRACES and trace.impulse % 1:
                yield (
                    f"trace {name}: impulse is {trace.impulse:g}, but a modulator is filtered on the host "
                    f"without random numbers; expected a whole number"
                )

    def _term_findings(self) -> Iterator[str]:
        for variable in VARIABLES:
            for index, term in enumerate(self.terms(variable)):
                if not isinstance(term, Term):
                    yield f"{variable}[{index}] is {type(term).__name__}; expected a Term"
                    continue
                yield from (f"{variable}[{index}]: {finding}" for finding in term.findings())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; :meth:`from_dict` reads it."""
        record: dict[str, Any] = {"version": RECORD_VERSION, "name": self.name}
        for variable in VARIABLES:
            record[variable] = [
                [term.sign, term.mantissa, term.exp, list(term.factors)]
                for term in self.terms(variable)
            ]
        record["traces"] = {name: [t.impulse, t.tau] for name, t in self.traces.items()}
        for name in ("t_epoch", "decimation", "seed", "three_factor"):
            record[name] = getattr(self, name)
        return record

    @staticmethod
    @checked
    def from_dict(record: Any) -> LearningRule:
        """Inverse of :meth:`to_dict`; the record may come from a hostile file.

        Raises:
            FileFormatError: a field is missing, unknown or of the wrong type.
            ConfigError: well-formed, but no rule that the chip can run.
        """
        keys = {"name", *VARIABLES, "traces", "t_epoch", "decimation", "seed"}
        if not isinstance(record, Mapping) or set(record) - {"version", "three_factor"} != keys:
            found = sorted(map(str, record)) if isinstance(record, Mapping) else type(record)
            raise FileFormatError(
                f"learning rule record has {found}; expected the fields {sorted(keys)}"
            )
        version = record.get("version", RECORD_VERSION)
        if version != RECORD_VERSION:
            raise FileFormatError(
                f"learning rule record has version {version!r}; expected {RECORD_VERSION}. Read it with "
                f"the version of biril-nm that wrote it"
            )
        try:
            traces = {str(k): _trace(v) for k, v in dict(record["traces"]).items()}
            terms = {variable: _terms(record[variable]) for variable in VARIABLES}
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"learning rule record is damaged: {error}") from error
        return LearningRule(
            name=record["name"],
            traces=traces,
            t_epoch=record["t_epoch"],
            decimation=record["decimation"],
            seed=record["seed"],
            three_factor=record.get("three_factor", False),
            **terms,
        )

    @staticmethod
    @checked
    def from_expressions(
        dw: str | None = None,
        dt: str | None = None,
        dd: str | None = None,
        *,
        t_epoch: int = 1,
        rng_seed: int = 0,
        three_factor: bool = False,
        name: str = "expressions",
        **traces: float,
    ) -> LearningRule:
        """A rule from texts such as ``dw="2^-2*x1*y0 - 2^-2*y1*x0"``, as Lava's rule classes take them.

        Args:
            dw: sum of products added to w; see docs/learning.md for the grammar.
            dt: sum of products added to t.
            dd: sum of products added to d.
            t_epoch: steps of one learning epoch.
            rng_seed: seed of the random streams. Always set, where Lava draws one without.
            three_factor: whether y1, y2, y3 come from modulators, as in Lava's Loihi3FLearningRule.
            name: name of the rule.
            **traces: ``x1_impulse=``, ``x1_tau=`` and so on, 0 as in Lava where they are not given. A tau
                of infinity means no decay.

        Raises:
            ConfigError: a text that is not in the grammar or that Lava reads as another rule, a trace
                that is used and not given, or what :meth:`check` refuses.
        """
        fields = rule_fields({"dw": dw, "dt": dt, "dd": dd}, traces, three_factor)
        return LearningRule(
            name, t_epoch=t_epoch, seed=rng_seed, three_factor=three_factor, **fields
        )

    @staticmethod
    def from_lava(rule: object) -> LearningRule:
        """The rule of an object of Lava's Loihi2FLearningRule, Loihi3FLearningRule, STDPLoihi and the like.

        Simulator and Lava give the integers that Lava gives with the object itself, in ``fixed_pt``.

        Raises:
            ConfigError: no such object, or a rule that biril-nm or Lava cannot run as it is written.
        """
        found = LearningRule.from_expressions(**lava_rule_arguments(rule))
        targets = sorted(found.used() & {"y0", *POST_TRACES})
        if targets and sees_no_targets(rule):
            raise ConfigError(
                f"rule is a {type(rule).__name__} that uses {', '.join(targets)}, to which Lava hands no "
                f"spikes of targets; expected a Loihi2FLearningRule or Loihi3FLearningRule. Make one"
            )
        return found

    @checked
    def lava_text(self, variable: str) -> str | None:
        """Text for Lava's ``Loihi2FLearningRule(dw=..., dt=..., dd=...)``; None if empty."""
        terms = self.terms(variable)
        if not terms:
            return None
        text = " ".join(f"{'+' if t.sign > 0 else '-'} {t.text(self.decimation)}" for t in terms)
        return text.removeprefix("+ ")

    def lava_arguments(self) -> dict[str, Any]:
        """Keyword arguments of Lava's ``Loihi2FLearningRule``: texts, traces, epoch, seed.

        Those of ``Loihi3FLearningRule``, for three-factor rules, are without y traces.
        """
        arguments: dict[str, Any] = {v: self.lava_text(v) for v in VARIABLES}
        for name in PRE_TRACES if self.three_factor else TRACES:
            arguments[f"{name}_impulse"] = self.trace(name).impulse
            arguments[f"{name}_tau"] = self.trace(name).tau
        return {**arguments, "t_epoch": self.t_epoch, "rng_seed": self.seed}

    def explain(self) -> str:
        """What each product does in numbers: float meaning and the loss by fixed point."""
        lines = [f"learning rule '{self.name}', one phase per {self.t_epoch} step(s)"]
        for variable in VARIABLES:
            for term in self.terms(variable):
                lines.append(
                    f"  {variable} {'+' if term.sign > 0 else '-'}= {_explain(self, term)}"
                )
        for name, trace in self.traces.items():
            lines.append(
                f"  {name}: +{trace.impulse:g} per spike{self._of(name)}, x{trace.decay:.4f} per "
                f"step (tau {trace.tau:g}), 0 to {TRACE_MAX}"
            )
        for name in self.third_factors:
            if name not in self.traces:
                lines.append(f"  {name}: values of its modulator, 0 to {TRACE_MAX}")
        lines.append(
            f"  one unit of the accumulator is 2^-{LEARN_ACC_SHIFT} of a weight unit; "
            f"the result is rounded stochastically"
        )
        return "\n".join(lines)

    def _of(self, name: str) -> str:
        return " of its modulator" if self.three_factor and name in POST_TRACES else ""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LearningRule):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash(
            (self.name, self.dw, self.dt, self.dd, self.t_epoch, self.decimation, self.seed)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return LearningRule.from_dict, (self.to_dict(),)

    def __repr__(self) -> str:
        texts = [f"{v}='{self.lava_text(v)}'" for v in VARIABLES if self.terms(v)]
        traces = [f"{n}={t.impulse:g}/tau {t.tau:g}" for n, t in self.traces.items()]
        facts = [f"t_epoch={self.t_epoch}"]
        facts += [f"decimation={self.decimation}"] if "u" in self.used() else []
        facts += ["three_factor=True"] if self.three_factor else []
        return f"LearningRule('{self.name}', {', '.join(texts + traces + facts)})"


def _trace_findings(name: str, trace: Trace) -> Iterator[str]:
    if name not in TRACES:
        yield unknown_name("trace", name, TRACES)
        return
    for what, top in (("impulse", float(TRACE_MAX)), ("tau", math.inf)):
        value: Any = getattr(trace, what, None)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not (math.isfinite(value) and 0 <= value <= top):
            yield f"trace {name}: {what} is {value!r}; expected a finite number from 0 to {top:g}"


def _explain(rule: LearningRule, term: Term) -> str:
    text = f"{term.text(rule.decimation)}: {term.mantissa * 2.0**term.exp:g} x product"
    if not term.shift:
        return f"{text}, exact on the chip"
    return (
        f"{text}; on the chip the product is shifted right by {term.shift} (floor), so it acts as "
        f"{term.mantissa * 2.0 ** (term.exp - term.shift):g}"
    )


def _terms(value: Any) -> tuple[Term, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > MAX_TERMS:
        raise TypeError(
            f"products are {type(value).__name__}; expected a list of at most {MAX_TERMS}"
        )
    terms = []
    for item in value:
        sign, mantissa, exp, factors = item
        if not isinstance(factors, (list, tuple)) or len(factors) > MAX_FACTORS:
            raise TypeError(
                f"factors are {type(factors).__name__}; expected a list of at most {MAX_FACTORS}"
            )
        if not all(isinstance(f, str) and len(f) <= MAX_FACTORS for f in factors):
            raise TypeError("a factor is not a short text; expected one such as x1 or (x1-64)")
        terms.append(Term(sign, exp, tuple(factors), mantissa))
    return tuple(terms)


def _trace(values: Any) -> Trace:
    impulse, tau = map(_number, values)
    return Trace(impulse, tau)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is {type(value).__name__}; expected a number")
    return value
