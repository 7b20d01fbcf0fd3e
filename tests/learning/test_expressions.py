"""Rules from texts and from Lava's objects: what is read, and what is refused in which words.

``tests/parity/test_lava_rules.py`` holds the same grammar against Lava's own reading.
"""

from __future__ import annotations

import math
import types
from pathlib import Path
from typing import Any

import pytest

from biril_nm.errors import ConfigError
from biril_nm.hw_graph import Conv, Dense, Input, LoihiGraph, Neurons, Output
from biril_nm.hw_graph.plastic import make_plastic, read_rule
from biril_nm.learning.rule import POST_TRACES, LearningRule, Term, Trace
from biril_nm.learning.rules import RULES, get_rule

TRACES = {"x1_impulse": 16, "x1_tau": 10, "y1_impulse": 8, "y1_tau": 5}
ONE = "x0*y1"


def from_text(dw: str, **more: Any) -> LearningRule:
    return LearningRule.from_expressions(dw=dw, **{**TRACES, **more})


def test_a_sum_of_products() -> None:
    rule = LearningRule.from_expressions(
        dw="2^-2 * x1 * y0 - 2^-2*y1*x0", dt="u2*x1 - 3*u2*t", dd="x0*sgn(w + 3)", t_epoch=4, rng_seed=7,
        x1_impulse=16, x1_tau=10.5, y1_impulse=16.25, name="mine",
    )  # fmt: skip
    assert rule == LearningRule(
        "mine",
        (Term(1, -2, ("x1", "y0")), Term(-1, -2, ("y1", "x0"))),
        (Term(1, 0, ("u", "x1")), Term(-1, 0, ("u", "t"), 3)),
        (Term(1, 0, ("x0", "sgn(w+3)")),),
        traces={"x1": Trace(16, 10.5), "y1": Trace(16.25, 0)},
        t_epoch=4,
        decimation=2,
        seed=7,
    )


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("x0", Term(1, 0, ("x0",))),
        ("-x0", Term(-1, 0, ("x0",))),
        ("+3*x0", Term(1, 0, ("x0",), 3)),
        ("100*2^-3*x0*0", Term(1, -3, ("x0",), 0)),
        ("12*x0", Term(1, 1, ("x0",), 6)),  # even mantissas above 7 are halved, others are not
        ("4*2^-1*x0", Term(1, -1, ("x0",), 4)),
        ("0.75*x0", Term(1, -2, ("x0",), 3)),
        ("16.0*x0", Term(1, 2, ("x0",), 4)),
        ("x0*(-2)*2^-3*(2^2)", Term(-1, -1, ("x0",), 2)),
        ("-(3-y1)*x0", Term(1, 0, ("(y1-3)", "x0"))),
        ("(2^3+w)*x0", Term(1, 0, ("(w+8)", "x0"))),
        ("(-3-w)*x0", Term(-1, 0, ("(w+3)", "x0"))),
        ("(w+0)*x0*(t)", Term(1, 0, ("w", "x0", "t"))),
        ("\n  x0 *\ty1 ", Term(1, 0, ("x0", "y1"))),
    ],
)
def test_products(text: str, term: Term) -> None:
    assert from_text(text).dw == (term,)


REFUSED = {
    "": "dw is empty; expected products of x0",
    "x0*": r"dw ends behind 'x0\*'",
    "x0+": r"dw ends behind 'x0\+'",
    "x1*y1": r"dw\[0\]: no factor is x0, y0 or u; expected one, the dependency",
    "x0*y4": "factor 'y4' is not in the grammar",
    "x0*q": r"dw has 'q' at character 4, without blanks; expected .*\. Names and powers are those of Lava",
    "x0y1": r"dw has 'y1' at character 3.* Write \* between factors",
    "2x0": r"dw has 'x0' at character 2.* Write \* between factors",
    "x0**y1": r"dw has '\*y1' at character 4",
    "x0*y1/8": r"Write a division as a power of two: \*2\^-3",
    "3^2*x0": "Only 2 has exponents",
    "22^3*x0": "Only 2 has exponents",
    "x0*-2*y1": r"Put a negative number in brackets: \(-2\)",
    "x0--y0": r"Put a negative number in brackets: \(-2\)",
    "x0*((x1))": "Brackets hold one variable",
    "x0*(x1*y1)": r"'\(x1\*y1\)' is not in the grammar; expected one variable and a constant, or a number",
    "x0*(x1+y1)": "is not in the grammar; expected one variable",
    "x0*(x1+3+4)": "is not in the grammar; expected one variable",
    "x0*(2^-1*x1+3)": "is not in the grammar; expected one variable",
    "x0*(x1": "Brackets hold one variable",
    "x0*x1)": "Remove it, or add the bracket that it closes",
    "x0*(-x1)": r"Lava reads '\(-x1\)' as x1\. Change the sign of the product",
    "x0*sgn(-w)": r"'sgn\(-w\)' is not a sign that Lava knows; expected sgn of w, d or t",
    "x0*sgn(3-w)": r"'sgn\(3-w\)' is not a sign that Lava knows",
    "x0*sgn(x1)": r"'sgn\(x1\)' is not a sign that Lava knows",
    "x0*sgn(3)": r"'sgn\(3\)' is not a sign that Lava knows",
    "x0*(y0+3)": "is a bracket around y0; expected it as a factor of its own",
    "x0*(x1+2^-1)": r"the constant 2\^-1 is not a whole number of 8 bits",
    "x0*(x1+256)": r"factor '\(x1\+256\)' is not in the grammar.* n up to 255",
    "u*x1": r"'u' is not a dependency\. The dependency u has one digit: u0 to u9",
    "u10*x1": "'u10' is not a dependency",
    "u0*x1+u1*x1": "the products use u0, u1; expected one of them, which all products of a rule share",
    "x0*u0": "'u' stands behind another dependency",
    "0.3*x0": r"the number 0\.3 is not a multiple of a power of two; expected n\*2\^e\. "
    r"Write 2\^-2 or 5\*2\^-4",
    "9*x0": r"dw\[0\]: its numbers make 9 \* 2\^0; expected up to 7 times 2\^-7 to 2\^8",
    "2^9*x0": r"its numbers make 1 \* 2\^9",
    "4*2^-9*x0": r"its numbers make 4 \* 2\^-9",
    "x0*x2": r"trace x2 is used, but x2_impulse is not given; .*Pass x2_impulse=16, x2_tau=10",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=REFUSED[text]):
        from_text(text)


HOSTILE = {
    "digits": ("9" * 4000 + "*x0", "more than 9 characters"),
    "exponent": ("2^1000000000*x0", "more than 9 characters"),
    "large exponent": ("2^99999999*x0", "its numbers make 1"),
    "many exponents": ("*".join(["2^99999999"] * 300) + "*x0", "its numbers make 1"),
    "many mantissas": ("*".join(["999999999"] * 400) + "*x0", "its numbers make an integer of"),
    "constant": ("x0*(w+2^99999999)", "not a whole number of 8 bits"),
    "length": ("x0+" * 100_000 + "x0", "a text of 300002 characters; expected up to 4096"),
    "products": ("x0+" * 64 + "x0", "more than 64 products"),
    "factors": ("*".join(["x0"] * 20), "more than 16 factors"),
    "brackets": ("(" * 3000 + "x1" + ")" * 1000, "Brackets hold one variable"),
    "digits of others": ("x0*2^\u0665", "not written in ASCII alone"),
    "superscript": ("x\u00b2*x0", "not written in ASCII alone"),
    "wide": ("\uff580", "not written in ASCII alone"),
    "code": ("x0*__import__('os')", r"dw has '__import__\('os'\)'"),
    "zero": ("x0*\0", "dw has"),
    "signs": ("-" * 4000 + "x0", "Put a negative number in brackets"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_end_in_one_short_message(name: str) -> None:
    text, message = HOSTILE[name]
    with pytest.raises(ConfigError, match=message) as caught:
        from_text(text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "hold no product; expected at least one"),
        (
            {"dw": ONE, "x1_tao": 3},
            "from_expressions has no argument 'x1_tao'; expected dw, .*Did you mean 'x1_tau'",
        ),
        ({"dw": ONE, "y1_impulse": 200}, "impulse is 200"),
        ({"dw": ONE, "y1_tau": -1}, "tau is -1"),
        ({"dw": ONE, "y1_tau": math.nan}, "tau is nan; expected a number"),
        ({"dw": ONE, "y1_tau": "10"}, "tau is '10'; expected a number"),
        (
            {"dw": ONE, "t_epoch": 64, "y1_tau": 1},
            "t_epoch is 64; expected an integer from 1 to 63",
        ),
        ({"dw": 3}, "dw is 3; expected a text or None"),
        ({"dw": "u0*x1", "dt": "u1*x1", "x1_tau": 1}, "the products use u0, u1"),
    ],
)
def test_arguments_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LearningRule.from_expressions(**arguments)


# Lava's three-factor rules have no traces of targets; ours may filter what modulators send.
WRITTEN = [r for r in RULES.values() if not (r.three_factor and set(r.traces) & set(POST_TRACES))]


@pytest.mark.parametrize("rule", WRITTEN, ids=lambda rule: rule.name)
def test_texts_of_a_rule_make_the_rule_again(rule: LearningRule) -> None:
    again = LearningRule.from_expressions(
        name=rule.name, three_factor=rule.three_factor, **rule.lava_arguments()
    )
    assert again == rule


def test_no_decay() -> None:
    trace = from_text(ONE, y1_tau=math.inf).trace("y1")
    assert trace.decay == 1.0
    assert math.isfinite(trace.tau)
    assert trace == Trace(8, math.inf)
    assert "x1.0000 per step" in from_text(ONE, y1_tau=math.inf).explain()


def network() -> LoihiGraph:
    nodes = {
        "in": Input((4,)),
        "fc": Dense([[40] * 4] * 3),
        "n": Neurons((3,), vth=60, dv=400),
        "out": Output(),
    }
    return LoihiGraph(nodes, (("in", "fc"), ("fc", "n"), ("n", "out")))


def test_make_plastic_takes_texts() -> None:
    graph = make_plastic(network(), "fc", {"dw": ONE, **TRACES})
    assert graph.plastic["fc"].rule == from_text(ONE)
    three = make_plastic(network(), "fc", {"dw": "u0*x1*y2", "three_factor": True, "x1_impulse": 9})
    assert three.plastic["fc"].modulators == {"y2": "fc.y2"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            3,
            "rule is 3; expected a name of the registry, a LearningRule, a rule object of Lava, or a dict",
        ),
        (None, "rule is None; expected a name"),
        ({3: "x0"}, "keys are not texts; expected dw, x1_impulse and so on"),
        ({"dw": ONE, "lr": 3}, "from_expressions has no argument 'lr'"),
        (ONE, r"learning rule 'x0\*y1' is unknown; .*LearningRule.from_expressions\(dw=...\)"),
        ("pear", "'pear' is unknown; .*Did you mean 'pair'"),
        (Conv, "rule is the class Conv; expected a name"),
    ],
)
def test_what_is_no_rule(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plastic(network(), "fc", rule)


def test_files_hold_texts(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('dw = "x0*y1"\ny1_impulse = 8\ny1_tau = 5\n', encoding="utf-8")
    assert read_rule(file) == LearningRule.from_expressions(
        dw=ONE, y1_impulse=8, y1_tau=5, name="mine"
    )
    file.write_text('dw = "x0*y1"\ntraces = {}\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="has no argument 'traces'"):
        read_rule(file)


MODULE = "lava.magma.core.learning.learning_rule"
FIELDS = {f"{n}_{part}": 4 for n in ("x1", "x2", "y1", "y2", "y3") for part in ("impulse", "tau")}


def lava_object(kind: str, module: str = MODULE, **fields: Any) -> Any:
    """An object as Lava makes it, where Lava cannot be installed."""
    base = type("LoihiLearningRule", (), {"__module__": module})
    bases = (
        (base,) if kind == "LoihiLearningRule" else (type(kind, (base,), {"__module__": module}),)
    )
    made = type("Mine", bases, {})()
    texts = {"dw_str": ONE, "dt_str": None, "dd_str": None}
    vars(made).update({**texts, **FIELDS, "t_epoch": 2, "rng_seed": 5, **fields})
    return made


def test_objects_are_known_by_their_class() -> None:
    rule = LearningRule.from_lava(lava_object("Loihi2FLearningRule"))
    assert rule == get_rule(lava_object("Loihi2FLearningRule"))
    assert (rule.name, rule.t_epoch, rule.seed, rule.three_factor) == ("Mine", 2, 5, False)
    assert rule.trace("y1") == Trace(4, 4)
    three = LearningRule.from_lava(lava_object("Loihi3FLearningRule"))
    assert three.three_factor
    assert set(three.traces) == {"x1", "x2"}
    bare = LearningRule.from_lava(lava_object("LoihiLearningRule", dw_str="x0*x1"))
    assert bare.dw == (Term(1, 0, ("x0", "x1")),)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            types.SimpleNamespace(dw_str=ONE),
            "rule is a SimpleNamespace of module types; expected an object of Lava's Loihi2FLearningRule",
        ),
        (
            lava_object("Loihi2FLearningRule", module="elsewhere"),
            "rule is a Mine of module .*; expected an object of Lava's",
        ),
        (
            lava_object("LoihiLearningRule"),
            "rule is a Mine that uses y1, to which Lava hands no spikes of targets; expected a Loihi2F",
        ),
        (lava_object("Loihi2FLearningRule", dw_str="x0*y4"), "factor 'y4' is not in the grammar"),
        (lava_object("Loihi2FLearningRule", y1_impulse=300), "impulse is 300"),
        (lava_object("Loihi2FLearningRule", dt_str=7), "dt is 7; expected a text or None"),
        (lava_object("Loihi2FLearningRule", t_epoch=2.5), r"t_epoch is 2\.5; expected an integer"),
    ],
)
def test_objects_that_are_refused(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LearningRule.from_lava(rule)


def test_an_object_of_another_lava() -> None:
    rule = lava_object("Loihi2FLearningRule")
    del rule.x2_tau
    with pytest.raises(
        ConfigError, match="rule is a Mine without a field: .*x2_tau.*lava-nc 0.10.0"
    ):
        LearningRule.from_lava(rule)
