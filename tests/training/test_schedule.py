"""Schedules: ratios, written cycles, and the orders of the published code."""

from __future__ import annotations

import pytest

from biril_nm.errors import ConfigError
from biril_nm.training.schedule import parse_schedule, phase_at, ratio_of


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
