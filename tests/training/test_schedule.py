"""Schedules: ratios, written cycles, and the orders of the published code."""

from __future__ import annotations

import re

import pytest

from biril_nm.errors import ConfigError
from biril_nm.training.phases import PHASES, Phase
from biril_nm.training.schedule import parse_schedule, phase_at, phases_of, ratio_of


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        ("1:4:1", "BBSBBH"),  # published, K = 6
        ("2:6:1", "BBSBBSBBH"),  # published, K = 9
        ("1:6:2", "BBSBBHBBH"),
        ("1:8:3", "BBSBBHBBHBBH"),
        ("3:8:1", "BBSBBSBBSBBH"),
        ("1:1:0", "BS"),
        ("0:5:0", "B"),
        ("1:0:1", "SH"),
        ("1:3:1", "BBSBH"),
        (" bbsbbh ", "BBSBBH"),
        ("B", "B"),
    ],
)
def test_cycles(text: str, cycle: str) -> None:
    assert parse_schedule(text) == cycle


@pytest.mark.parametrize("ratio", [(1, 4, 1), (2, 6, 1), (1, 6, 2), (3, 8, 1), (2, 7, 3)])
def test_ratio_is_derived(ratio: tuple[int, int, int]) -> None:
    assert ratio_of(parse_schedule(":".join(map(str, ratio)))) == ratio


@pytest.mark.parametrize("text", ["", "BXB", "1:2", "1:2:3:4", "-1:2:3", "1.5:2:1", "B" * 20_000])
def test_wrong_schedules(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a ratio.*'1:6:2'.*'BBSBBH'"):
        parse_schedule(text)


def test_empty_ratio() -> None:
    with pytest.raises(ConfigError, match="at least one number above 0"):
        parse_schedule("0:0:0")


def test_phase_wraps_around() -> None:
    assert "".join(phase_at("BBS", i) for i in range(7)) == "BBSBBSB"


@pytest.fixture
def named(monkeypatch):
    """A phase with a name."""
    monkeypatch.setitem(PHASES, "demo", Phase(PHASES["B"].run, "demo", "all"))


def test_names_are_no_cycles_of_letters():
    letters = {name for name in PHASES if len(name) == 1}
    assert all(name.isupper() for name in letters)
    for name in PHASES.keys() - letters:
        assert re.fullmatch("[a-z][a-z0-9-]+", name) and not set(name.upper()) <= letters, name


@pytest.mark.parametrize(
    ("text", "cycle", "phases"),
    [
        ("demo", "demo", ("demo",)),
        ("demo,B,S", "demo,B,S", ("demo", "B", "S")),
        ("Demo, bbs ,demo", "demo,B,B,S,demo", ("demo", "B", "B", "S", "demo")),
        ("B,BS", "BBS", ("B", "B", "S")),
        ("BS,H", "BSH", ("B", "S", "H")),
    ],
)
def test_cycles_with_names(text, cycle, phases, named):
    assert parse_schedule(text) == cycle and phases_of(cycle) == phases
    assert parse_schedule(cycle) == cycle
    assert [phase_at(cycle, i) for i in range(len(phases) + 1)] == [*phases, phases[0]]


def test_names_do_not_count_in_ratios(named):
    assert ratio_of("demo,B,S,demo") == (1, 1, 0)


@pytest.mark.parametrize("text", ["demi", "demo,,B", "demo,", ",", "demo B", "demo,X", "1:2,B"])
def test_wrong_names_are_refused_with_all_that_exist(text, named):
    expected = r"phases between commas such as 'brp,B,S'.*Phases are B \(STBP\).*demo \(demo\)"
    with pytest.raises(ConfigError, match=expected):
        parse_schedule(text)
    with pytest.raises(ConfigError, match=r"Did you mean 'demo'\?"):
        parse_schedule("B,demi")


def test_the_longest_cycle(named):
    assert len(phases_of(parse_schedule("demo," * 9_999 + "B"))) == 10_000
    with pytest.raises(ConfigError, match="10000 of them at most"):
        parse_schedule("demo," * 10_000 + "B")
