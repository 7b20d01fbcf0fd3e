"""Traces, factors and products: the vocabulary of a learning rule, checked against the chip.

Grammar and widths: lava-nc 0.10.0 ``lava/magma/core/learning`` (symbolic_equation.py,
product_series.py, constants.py). Forms that Lava parses silently wrong are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from biril_nm.arguments import checked
from biril_nm.errors import ConfigError
from biril_nm.loihi import (
    LEARN_ACC_BITS,
    LEARN_CONSTANT_BITS,
    LEARN_EXP_MAX,
    LEARN_EXP_MIN,
    LEARN_MANTISSA_BITS,
    LEARN_MANTISSA_MAX,
    LEARN_VARIABLE_BITS,
    TRACE_BITS,
)

__all__ = ["DEPENDENCIES", "MAX_FACTORS", "SYNAPTIC", "TRACES", "Factor", "Term", "Trace"]

# When a product counts: at a spike of the source (x0) or of the target (y0), or every ``2**k`` steps (u).
DEPENDENCIES = ("x0", "y0", "u")
TRACES = ("x1", "x2", "y1", "y2", "y3")  # synaptic traces of source (x) and target (y)
SYNAPTIC = ("w", "t", "d")  # variables of a synapse, which have one shape
MAX_FACTORS = 16  # our guard; Lava itself sets no limit
# A tau that Lava takes, which takes no infinity: its exp(-1/tau) is 1.0 in float64.
NO_DECAY = 2.0**60
CONSTANT_MAX = (1 << LEARN_CONSTANT_BITS) - 1

_WIDTHS = {
    **dict.fromkeys(("x0", "y0"), 1),
    **dict.fromkeys(TRACES, TRACE_BITS),
    **dict.fromkeys(SYNAPTIC, LEARN_VARIABLE_BITS),
}
_PLAIN = re.compile(r"x[012]|y[0123]|w|d|t|u")
_SHIFTED = re.compile(r"\((x[12]|y[123]|w|d|t)([+-])(\d{1,3})\)")
_SIGNUM = re.compile(r"sgn\((w|d|t)(?:([+-])(\d{1,3}))?\)")


@dataclass(frozen=True)
class Factor:
    """One factor of a product, taken apart: ``variable + constant`` or its sign.

    Attributes:
        variable: ``x0 y0 x1 x2 y1 y2 y3 w d t`` (``u`` only as dependency).
        constant: added before the factor is clipped to its width.
        is_sgn: whether the sign -1, 0, 1 of the sum is the factor.
    """

    variable: str
    constant: int = 0
    is_sgn: bool = False

    @property
    def width(self) -> int:
        """Bits that count towards the right shift of the product."""
        return _WIDTHS[self.variable]

    @staticmethod
    def parse(text: str) -> Factor:
        """Read ``x1``, ``(x1-64)``, ``sgn(w)`` or ``sgn(w+3)``; blanks are ignored.

        Raises:
            ConfigError: not in the grammar, or a form that Lava silently reads as another.
        """
        bare = text.replace(" ", "")
        if _PLAIN.fullmatch(bare):
            return Factor(bare)
        for pattern, is_sgn in ((_SHIFTED, False), (_SIGNUM, True)):
            match = pattern.fullmatch(bare)
            if match:
                constant = int((match[2] or "") + (match[3] or "0"))
                if abs(constant) > CONSTANT_MAX:
                    break
                return Factor(match[1], constant, is_sgn)
        raise ConfigError(f"factor '{text}' is not in the grammar. {_hint(bare)}")


def _hint(text: str) -> str:
    if re.fullmatch(r"u\d+", text):
        return "Write 'u' and set the rule's decimation (0 to 9) to the digit"
    if text.startswith("sgn(-"):
        return "Lava reads sgn(-w) as sgn(w); change the sign of the term"
    if re.fullmatch(r"[-+]?[\d.*^/]+", text) or "2^" in text:
        return "Numbers belong in the term's mantissa and exp"
    return (
        "Expected x0, y0, u, x1, x2, y1, y2, y3, w, d, t, (var+n), (var-n) or sgn(w+n), with "
        f"n up to {CONSTANT_MAX}"
    )


@checked
@dataclass(frozen=True)
class Trace:
    """A spike trace: ``trace <- floor(exp(-1/tau) trace)``, rounded stochastically, + impulse.

    Attributes:
        impulse: added at each spike, 0..127; integers are exact, a fraction rounds up too often
            in Lava (it compares 8 bits with a 7-bit random number).
        tau: decay constant in steps; 0 forgets the trace at every step, infinity never. What is kept
            for infinity is 2**60, which Lava and files can hold and whose decay factor is 1.0 too.
    """

    impulse: float
    tau: float

    def __post_init__(self) -> None:
        if self.tau == math.inf:
            object.__setattr__(self, "tau", NO_DECAY)

    @property
    def decay(self) -> float:
        """Factor ``exp(-1/tau)`` per step."""
        return math.exp(-1.0 / self.tau) if self.tau else 0.0


@checked
@dataclass(frozen=True)
class Term:
    """One product: ``sign * mantissa * 2**exp * prod(factors)``.

    Attributes:
        sign: +1 or -1.
        exp: exponent, -7..8.
        factors: texts, see :meth:`Factor.parse`; the first of x0, y0, u is the dependency.
        mantissa: 0..7; 0 switches the product off.
    """

    sign: int
    exp: int
    factors: tuple[str, ...]
    mantissa: int = 1

    def __post_init__(self) -> None:
        texts = (self.factors,) if isinstance(self.factors, str) else tuple(self.factors)
        object.__setattr__(self, "factors", tuple(str(t).replace(" ", "") for t in texts))

    @property
    def dependency(self) -> str:
        """``x0``, ``y0`` or ``u``: what gates the product."""
        return next(f for f in self.factors if f in DEPENDENCIES)

    @property
    def operands(self) -> tuple[Factor, ...]:
        """The factors without the dependency, in written order."""
        rest = list(self.factors)
        rest.remove(self.dependency)
        return tuple(Factor.parse(text) for text in rest)

    @property
    def signed_mantissa(self) -> int:
        """``sign * mantissa``: the number in the chip's 4-bit field."""
        return self.sign * self.mantissa

    @property
    def coefficient(self) -> float:
        """``sign * mantissa * 2**exp``."""
        return self.signed_mantissa * 2.0**self.exp

    @property
    def shift(self) -> int:
        """Right shift of the fixed-point product: ``max(0, 4 + sum of widths - 15)``."""
        width = LEARN_MANTISSA_BITS + sum(f.width for f in self.operands)
        return max(0, width - LEARN_ACC_BITS)

    def findings(self) -> Iterator[str]:
        """What is wrong with this term, one sentence each."""
        for name in ("sign", "exp", "mantissa"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                yield f"{name} is {value!r}; expected an integer"
                return
        if self.sign not in (-1, 1):
            yield f"sign is {self.sign}; expected 1 or -1"
        if not 0 <= self.mantissa <= LEARN_MANTISSA_MAX:
            yield (
                f"mantissa is {self.mantissa}; expected 0 to {LEARN_MANTISSA_MAX}. "
                f"Move powers of two into exp"
            )
        if not LEARN_EXP_MIN <= self.exp <= LEARN_EXP_MAX:
            yield f"exp is {self.exp}; expected {LEARN_EXP_MIN} to {LEARN_EXP_MAX}"
        yield from self._factor_findings()

    def _factor_findings(self) -> Iterator[str]:
        if len(self.factors) > MAX_FACTORS:
            yield f"it has {len(self.factors)} factors; expected at most {MAX_FACTORS}"
        for text in self.factors:
            try:
                Factor.parse(text)
            except ConfigError as error:
                yield str(error)
        gates = [f for f in self.factors if f in DEPENDENCIES]
        if not gates:
            yield "no factor is x0, y0 or u; expected one, the dependency"
        elif "u" in gates[1:]:
            yield "'u' stands behind another dependency, where Lava ignores it. Remove one of them"

    def text(self, decimation: int = 0) -> str:
        """Without the sign: ``3*2^-4*x1*y0``."""
        scale = f"2^{self.exp}" if self.mantissa == 1 else f"{self.mantissa}*2^{self.exp}"
        return "*".join([scale, *(f"u{decimation}" if f == "u" else f for f in self.factors)])
