"""LearningRule: what may exist, what is refused, and what the texts say."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys

import pytest

from biril_nm.errors import ConfigError, FileFormatError
from biril_nm.learning.rule import Factor, LearningRule, Term, Trace
from biril_nm.learning.rules import OFFSET, OJA, PAIR, RULES, get_rule

X1 = {"x1": Trace(16, 10)}


def test_texts_are_the_equations() -> None:
    assert PAIR.lava_text("dw") == "2^-4*x1*y0 - 2^-5*y1*x0"
    assert OFFSET.lava_text("dw") == "2^-4*x1*y0 - 2^2*y0"
    assert OJA.lava_text("dw") == "2^-4*x1*y0 - 2^-5*w*y0"
    assert OFFSET.lava_text("dt") is None
    arguments = OFFSET.lava_arguments()
    assert arguments["x1_impulse"] == 127
    assert arguments["x1_tau"] == 8
    assert arguments["rng_seed"] == 0


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_round_trips(rule: LearningRule) -> None:
    assert LearningRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    assert pickle.loads(pickle.dumps(rule)) == rule
    clone = copy.deepcopy(rule)
    assert clone == rule
    assert hash(clone) == hash(rule)
    assert rule.name in repr(rule)


def test_equal_by_value_only() -> None:
    other = LearningRule("offset", OFFSET.dw, traces={"x1": Trace(126, 8)})
    assert other != OFFSET
    assert LearningRule("offset", OFFSET.dw, traces={"x1": Trace(127, 8)}) == OFFSET
    assert OFFSET != "offset"
    assert len({OFFSET, PAIR, OJA, copy.copy(OFFSET)}) == 3


def test_terms_taken_apart() -> None:
    term = Term(-1, -3, ("y1", "x0", "(w - 4)", "y0"), 3)
    assert term.dependency == "x0"
    assert term.operands == (Factor("y1"), Factor("w", -4), Factor("y0"))
    assert term.signed_mantissa == -3
    assert term.coefficient == -3 / 8
    assert Factor.parse("sgn(w+3)") == Factor("w", 3, is_sgn=True)
    assert Factor.parse("sgn(t)") == Factor("t", 0, is_sgn=True)


@pytest.mark.parametrize(
    ("factors", "shift"),
    [
        (("x0",), 0),
        (("x1", "y0"), 0),
        (("w", "y0"), 0),
        (("x0", "x1", "y1"), 3),
        (("x0", "w", "y1"), 5),
        (("u", "t", "w"), 7),
    ],
)
def test_fixed_point_shift(factors: tuple[str, ...], shift: int) -> None:
    assert Term(1, 0, factors).shift == shift


def test_explain_tells_the_loss() -> None:
    rule = LearningRule("two", (Term(1, 0, ("x0", "x1", "y1")),), traces={**X1, "y1": Trace(1, 2)})
    assert "shifted right by 3" in rule.explain()
    assert "acts as 0.125" in rule.explain()
    assert "exact on the chip" in OFFSET.explain()


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (Term(1, 0, ("x1", "w")), "no factor is x0"),
        (Term(1, 0, ("x0", "u10")), "decimation"),
        (Term(1, 0, ("x0", "u")), "where Lava ignores it"),
        (Term(1, 0, ("x0", "sgn(-w)")), "change the sign of the term"),
        (Term(1, 0, ("x0", "2^3")), "mantissa and exp"),
        (Term(1, 0, ("x0", "0.5")), "mantissa and exp"),
        (Term(1, 0, ("x0", "y4")), "'y4' is not in the grammar"),
        (Term(1, 0, ("x0", "(3-y1)")), "not in the grammar"),
        (Term(1, 0, ("x0", "sgn(x1)")), "not in the grammar"),
        (Term(1, 0, ("x0", "(w+256)")), "not in the grammar"),
        (Term(1, 9, ("x0",)), "exp is 9; expected -7 to 8"),
        (Term(1, -8, ("x0",)), "exp is -8"),
        (Term(1, 0, ("x0",), 8), "mantissa is 8; expected 0 to 7"),
        (Term(2, 0, ("x0",)), "sign is 2"),
    ],
)
def test_what_lava_would_misread_is_refused(term: Term, message: str) -> None:
    with pytest.raises(ConfigError, match="rule 'bad' cannot run") as caught:
        LearningRule("bad", (term,), traces=X1)
    assert message in str(caught.value)


def test_an_exponent_is_whole() -> None:
    with pytest.raises(ConfigError, match=r"exp is 0\.5; expected an integer"):
        Term(1, 0.5, ("x0",))  # type: ignore[arg-type]


def test_all_findings_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        LearningRule(
            "",
            (Term(1, 12, ("x0",)), Term(1, 0, ("x1",))),
            traces={"z": Trace(1, 1), "x1": Trace(128, -1)},
            t_epoch=64,
            decimation=10,
            seed=-1,
        )
    text = str(caught.value)
    for part in (
        "name is ''",
        "exp is 12",
        "no factor is x0",
        "'z'",
        "impulse is 128",
        "tau is -1",
    ):
        assert part in text
    for part in ("t_epoch is 64", "decimation is 10", "seed is -1"):
        assert part in text


def test_undeclared_trace_and_empty_rule() -> None:
    with pytest.raises(ConfigError, match="trace y1 is used but not declared"):
        LearningRule("r", (Term(1, 0, ("x0", "y1")),))
    with pytest.raises(ConfigError, match="hold no product"):
        LearningRule("r", ())


@pytest.mark.parametrize(
    "damage",
    [
        lambda r: r.pop("dw"),
        lambda r: r.update(extra=1),
        lambda r: r.update(dw="x0*x1"),
        lambda r: r.update(dw=[[1, 1, 0]]),
        lambda r: r.update(dw=[[1, 1, 0, ["x" * 1000]]]),
        lambda r: r.update(dw=[[1, 1, 0, ["x0"]]] * 1000),
        lambda r: r.update(dw=[[1, 1, 0, [None]]]),
        lambda r: r.update(traces={"x1": ["16", 10]}),
        lambda r: r.update(traces={"x1": [16]}),
        lambda r: r.update(traces=7),
    ],
)
def test_damaged_records(damage) -> None:  # type: ignore[no-untyped-def]
    record = OFFSET.to_dict()
    damage(record)
    with pytest.raises(FileFormatError, match="learning rule record"):
        LearningRule.from_dict(record)


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", None), ("seed", 1.5), ("t_epoch", "1"), ("dw", [["+", 1, 0, ["x0"]]])],
)
def test_wrong_values_in_records(key: str, value: object) -> None:
    with pytest.raises(ConfigError):
        LearningRule.from_dict({**OFFSET.to_dict(), key: value})
    with pytest.raises(FileFormatError, match="expected the fields"):
        LearningRule.from_dict([1])


def test_registry() -> None:
    assert get_rule("oja") is OJA
    assert get_rule(PAIR) is PAIR
    with pytest.raises(ConfigError, match="'hebb' is unknown; expected one of offset, pair, oja"):
        get_rule("hebb")


def test_rules_need_no_torch() -> None:
    code = "import sys, biril_nm.learning.rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.lava
def test_lava_reads_what_is_written() -> None:
    lava = pytest.importorskip(
        "lava.magma.core.learning.learning_rule", reason="needs lava-nc (make venv)"
    )
    rule = LearningRule(
        "all",
        dw=(
            Term(-1, -4, ("x1", "y0"), 3),
            Term(1, 2, ("u", "sgn(w-3)")),
            Term(-1, -7, ("(y1-3)", "x0", "y0"), 7),
        ),
        traces={**X1, "y1": Trace(5, 2)},
        decimation=3,
    )
    for each in (rule, *RULES.values()):
        products = lava.Loihi2FLearningRule(**each.lava_arguments()).dw.products
        assert len(products) == len(each.dw)
        for product, term in zip(products, each.dw):
            assert product.dependency == term.dependency
            assert product.s_mantissa == term.signed_mantissa
            assert product.s_exp == term.exp + 7
            found = [(f.state_var, f.const or 0, f.is_sgn) for f in product.factors]
            assert found == [(f.variable, f.constant, f.is_sgn) for f in term.operands]
