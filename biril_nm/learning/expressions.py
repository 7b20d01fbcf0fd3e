"""Rules as texts: the sums of products that Lava's rule classes take, read by a grammar of our own.

    sum      product, with + or - between products and one sign in front at most
    product  items joined by *
    item     x0 y0 u0..u9 x1 x2 y1 y2 y3 w d t | n | 2^e | (factor) | sgn(factor)
    factor   variable and a whole constant, in any order: (x1-64), (3-w), sgn(t+3); or a number: (-2)

Numbers of a product are multiplied and normalised as lava-nc 0.10.0 does
(``lava/magma/core/learning/product_series.py``), so that the same mantissa and exponent result. What Lava
reads as another rule than the one that is written is refused. Nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from biril_nm.arguments.texts import did_you_mean, shown
from biril_nm.errors import ConfigError
from biril_nm.learning.terms import DEPENDENCIES, MAX_FACTORS, TRACES, Term, Trace
from biril_nm.loihi import LEARN_EXP_MAX, LEARN_EXP_MIN, LEARN_MANTISSA_MAX

__all__ = ["MAX_TERMS", "rule_fields"]

MAX_TEXT = 4096  # characters of a sum
MAX_TERMS = 64  # guard of readers; Lava itself sets no limit
MAX_DIGITS = 9

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_POWER = r"2\^[+-]?[0-9]+"
_LITERAL = rf"{_POWER}|{_NUMBER}\*{_POWER}|{_NUMBER}"
_ITEM = re.compile(
    rf"(?P<power>{_POWER})|(?P<number>{_NUMBER})|(?P<name>u[0-9]*|[xy][0-9]+|[wdt])"
    r"|(?P<sgn>sgn)?\((?P<inner>[^()]*)\)"
)
_VARIABLE = r"[xy][0-9]+|[wdt]"
_INNER = (
    re.compile(rf"(?P<sign>[+-]?)(?P<name>{_VARIABLE})(?:(?P<plus>[+-])(?P<value>{_LITERAL}))?"),
    re.compile(rf"(?P<plus>[+-]?)(?P<value>{_LITERAL})(?:(?P<sign>[+-])(?P<name>{_VARIABLE}))?"),
)
_WAYS_OUT = {
    "/": "Write a division as a power of two: *2^-3",
    "^": "Only 2 has exponents: n*2^e",
    "(": "Brackets hold one variable and a constant, or a number, and no brackets",
    ")": "Remove it, or add the bracket that it closes",
    "-": "Put a negative number in brackets: (-2)",
    "+": "Remove it",
    "u": "The dependency u has one digit: u0 to u9",
}
_EXPECTED = (
    "x0, y0, u0 to u9, x1, x2, y1, y2, y3, w, d, t, a number, 2^e, (x1-64) or sgn(w+3), joined by * "
    "and between products by + or -"
)


@dataclass
class _Product:
    """What has been read of one product."""

    mantissa: int = 1
    exp: int = 0
    factors: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    decimations: set[int] = field(default_factory=set)

    def multiply(self, text: str) -> None:
        """Take a number ``n``, ``n.m``, ``2^e`` or ``n*2^e`` into mantissa and exponent."""
        for part in text.split("*"):
            base, power, exponent = part.partition("^")
            if max(map(len, (base, exponent))) > MAX_DIGITS:
                raise ConfigError(
                    f"the number '{part:.40}' has more than {MAX_DIGITS} characters; expected mantissas "
                    f"up to {LEARN_MANTISSA_MAX} and exponents from {LEARN_EXP_MIN} to {LEARN_EXP_MAX}"
                )
            if power:
                self.exp += int(exponent)
                continue
            value = Fraction(base)
            halves = value.denominator.bit_length() - 1
            if value.denominator != 1 << halves:
                near = " or ".join(_neighbours(value))
                raise ConfigError(
                    f"the number {base} is not a multiple of a power of two; expected n*2^e. Write {near}"
                )
            self.mantissa *= value.numerator
            self.exp -= halves

    def term(self, what: str) -> Term:
        """The product as Lava normalises it: even mantissas above 7 move into the exponent."""
        mantissa, exp = self.mantissa, self.exp
        while abs(mantissa) > LEARN_MANTISSA_MAX and mantissa % 2 == 0 and exp < LEARN_EXP_MAX:
            mantissa, exp = mantissa // 2, exp + 1
        if abs(mantissa) > LEARN_MANTISSA_MAX or not LEARN_EXP_MIN <= exp <= LEARN_EXP_MAX:
            raise ConfigError(
                f"{what}: its numbers make {shown(mantissa)} * 2^{shown(exp)}; expected up to "
                f"{LEARN_MANTISSA_MAX} times 2^{LEARN_EXP_MIN} to 2^{LEARN_EXP_MAX}. Scale impulses, or "
                f"round it"
            )
        return Term(-1 if mantissa < 0 else 1, exp, tuple(self.factors), abs(mantissa))


def _neighbours(value: Fraction) -> Iterator[str]:
    """The nearest numbers below and above that fit mantissa and exponent."""
    fits = [
        (mantissa * Fraction(2) ** exp, f"{mantissa}*2^{exp}".removeprefix("1*"))
        for exp in range(LEARN_EXP_MIN, LEARN_EXP_MAX + 1)
        for mantissa in range(1, LEARN_MANTISSA_MAX + 1, 2)
    ]
    below = [fit for fit in fits if fit[0] < value]
    above = [fit for fit in fits if fit[0] > value]
    yield from ((max(below)[1],) if below else ())
    yield from ((min(above)[1],) if above else ())


def rule_fields(
    texts: Mapping[str, str | None], values: Mapping[str, Any], three_factor: bool
) -> dict[str, Any]:
    """Fields of a LearningRule: products by variable, traces and decimation.

    Args:
        texts: sums by variable: dw, dt, dd; blanks are ignored.
        values: ``x1_impulse``, ``x1_tau`` and so on; 0 where only one of a trace is given.
        three_factor: whether y1, y2, y3 come from outside.

    Raises:
        ConfigError: not in the grammar, numbers that registers do not hold, a text that Lava reads as
            another rule, or a trace that is used and not given.
    """
    sums = {what: _sum(text, what) for what, text in texts.items() if text is not None}
    terms = {
        what: tuple(p.term(f"{what}[{i}]") for i, p in enumerate(ps)) for what, ps in sums.items()
    }
    products = [product for each in sums.values() for product in each]
    decimations = sorted(set().union(*(product.decimations for product in products)))
    if len(decimations) > 1:
        raise ConfigError(
            f"the products use {', '.join(f'u{k}' for k in decimations)}; expected one of them, which "
            f"all products of a rule share"
        )
    used = {name for product in products for name in product.names}
    return {
        "dw": (),
        **terms,
        "traces": _traces(values, used, three_factor),
        "decimation": decimations[0] if decimations else 0,
    }


def _traces(values: Mapping[str, Any], used: set[str], three_factor: bool) -> dict[str, Trace]:
    known = {f"{name}_{part}": name for name in TRACES for part in ("impulse", "tau")}
    for key in values:
        if key not in known:
            raise ConfigError(
                f"from_expressions has no argument '{key:.40}'; expected dw, dt, dd, t_epoch, rng_seed, "
                f"three_factor, name, {', '.join(known)}{did_you_mean(key, known)}"
            )
    given = {
        name: Trace(values.get(f"{name}_impulse", 0), values.get(f"{name}_tau", 0))
        for name in sorted({known[key] for key in values})
    }
    for name in TRACES:
        if name in used and name not in given and not (three_factor and name[0] == "y"):
            raise ConfigError(
                f"trace {name} is used, but {name}_impulse is not given; expected an impulse and a tau. "
                f"Pass {name}_impulse=16, {name}_tau=10, or others"
            )
    return {name: t for name, t in given.items() if name in used or t != Trace(0, 0)}


def _sum(text: str, what: str) -> list[_Product]:
    """The products of a text."""
    if len(text) > MAX_TEXT or not text.isascii():
        found = f"a text of {len(text)} characters"
        found = found if text.isascii() else "not written in ASCII alone"
        raise ConfigError(f"{what} is {found}; expected up to {MAX_TEXT} characters of ASCII")
    bare = "".join(text.split())
    products: list[_Product] = []
    at = 0
    while at < len(bare) or not products:
        product, at = _product(bare, at, what)
        products.append(product)
        if len(products) > MAX_TERMS:
            raise ConfigError(f"{what} has more than {MAX_TERMS} products; expected up to that")
    return products


def _product(text: str, at: int, what: str) -> tuple[_Product, int]:
    """Read one product from its sign on; behind it stands the next sign, or the end."""
    product = _Product()
    if at < len(text) and text[at] in "+-":
        product.mantissa = -1 if text[at] == "-" else 1
        at += 1
    while True:
        match = _ITEM.match(text, at)
        if match is None:
            raise _error(text, at, what)
        try:
            _take(product, match)
        except ConfigError as error:
            raise ConfigError(f"{what}, at '{text[at : at + 20]}': {error}") from None
        at = match.end()
        if at == len(text) or text[at] in "+-":
            return product, at
        if text[at] != "*":
            raise _error(text, at, what, behind_item=True)
        at += 1


def _take(product: _Product, match: re.Match[str]) -> None:
    """Add one item to a product."""
    name, inner = match["name"], match["inner"]
    if inner is not None:
        _take_brackets(product, inner, bool(match["sgn"]))
    elif name is None:
        product.multiply(match["power"] or match["number"])
    elif name[0] == "u":
        if len(name) != 2:
            raise ConfigError(f"'{name:.20}' is not a dependency. {_WAYS_OUT['u']}")
        product.decimations.add(int(name[1]))
        product.factors.append("u")
    else:
        product.factors.append(name)
        product.names.add(name)
    if len(product.factors) > MAX_FACTORS:
        raise ConfigError(f"the product has more than {MAX_FACTORS} factors; expected up to that")


def _take_brackets(product: _Product, inner: str, is_sgn: bool) -> None:
    """Add ``(x1-64)``, ``sgn(w+3)`` or a number in brackets to a product."""
    match = next((m for m in (form.fullmatch(inner) for form in _INNER) if m), None)
    text = f"sgn({inner:.40})" if is_sgn else f"({inner:.40})"
    if match is None:
        raise ConfigError(
            f"'{text}' is not in the grammar; expected one variable and a constant, or a number"
        )
    name, negative = match["name"], match["sign"] == "-"
    if name is None and not is_sgn:
        product.multiply(match["value"])
        product.mantissa *= -1 if match["plus"] == "-" else 1
        return
    if name is None or (is_sgn and (negative or name not in "wdt")):
        raise ConfigError(
            f"'{text}' is not a sign that Lava knows; expected sgn of w, d or t. Change the sign of the "
            f"product"
        )
    if name in DEPENDENCIES:
        raise ConfigError(
            f"'{text}' is a bracket around {name}; expected it as a factor of its own"
        )
    if negative and match["value"] is None:
        raise ConfigError(f"Lava reads '{text}' as {name}. Change the sign of the product")
    constant = _constant(match["value"] or "0") * (-1 if match["plus"] == "-" else 1)
    if negative:  # c - x is -(x - c)
        constant, product.mantissa = -constant, -product.mantissa
    product.names.add(name)
    shifted = f"{name}{constant:+d}" if constant else name
    product.factors.append(f"sgn({shifted})" if is_sgn else f"({shifted})" if constant else name)


def _constant(text: str) -> int:
    """A constant beside a variable."""
    number = _Product()
    number.multiply(text)
    if number.exp < 0 or number.exp > MAX_DIGITS:
        raise ConfigError(f"the constant {text} is not a whole number of 8 bits; expected one")
    return number.mantissa << number.exp


def _error(text: str, at: int, what: str, behind_item: bool = False) -> ConfigError:
    if at >= len(text):
        found = f"ends behind '{text[-20:]}'" if text else "is empty"
        return ConfigError(f"{what} {found}; expected products of {_EXPECTED}")
    way_out = "Write * between factors" if behind_item else "Names and powers are those of Lava"
    way_out = _WAYS_OUT.get(text[at], way_out)
    found = f"{what} has '{text[at : at + 20]}' at character {at + 1}, without blanks"
    return ConfigError(f"{found}; expected {_EXPECTED}. {way_out}")
