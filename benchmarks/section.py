"""A section of the page: rows of targets, text, and what was found equal. Each module of one has a function
``section(size) -> Section``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from measuring import Measured

T = TypeVar("T")
UNMEASURED = "not measured"


@dataclass(frozen=True)
class Size:
    """How much work a section does.

    Attributes:
        quick: tiny sizes, which test the script and measure nothing.
        threads: of this machine.
    """

    quick: bool = False
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def of(self, full: T, quick: T) -> T:
        """The one that fits."""
        return quick if self.quick else full

    @property
    def rounds(self) -> int:
        """Repetitions of what is compared in turn."""
        return self.of(5, 2)


@dataclass(frozen=True)
class Row:
    """A figure, and its target where there is one.

    Attributes:
        what: the figure.
        measured: with its unit.
        target: as text; empty: none.
        met: None without a target, or where nothing was measured.
        reason: what was measured beside it that explains a missed target.
    """

    what: str
    measured: str
    target: str = ""
    met: bool | None = None
    reason: str = ""

    def cells(self) -> tuple[str, ...]:
        """Of the table of targets."""
        verdict = {None: "", True: "yes", False: "**no**"}[self.met]
        return self.what, self.measured, self.target, verdict, "" if self.met else self.reason


@dataclass(frozen=True)
class Section:
    """What a part of the benchmark found.

    Attributes:
        title: heading.
        rows: figures with targets, shown at the top of the page.
        text: Markdown, shown under the heading.
        checks: what was compared and found equal; a difference ends the run.
        curves: lines of a plot.
        seconds: time that the section took.
    """

    title: str
    rows: Sequence[Row] = ()
    text: str = ""
    checks: Sequence[str] = ()
    curves: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @staticmethod
    def of(facts: dict[str, Any]) -> Section:
        """From ``dataclasses.asdict``, after JSON."""
        return Section(**{**facts, "rows": [Row(**row) for row in facts["rows"]]})

    def markdown(self) -> str:
        """Heading, rows and text, for a section alone."""
        parts = [f"## {self.title}", targets(self.rows) if self.rows else "", self.text]
        parts.append("\n".join(f"- {line}" for line in self.checks))
        return "\n\n".join(part for part in parts if part)


class Mismatch(SystemExit):
    """Two exact engines disagree: no figure of this run counts."""


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def targets(rows: Sequence[Row]) -> str:
    """All figures with their targets."""
    header = ("what", "measured", "target", "met", "measured reason where it is missed")
    return table(header, [row.cells() for row in rows])


def at_least(
    what: str, found: Measured | None, goal: float, unit: str, reason: str = "", stretch: float = 0
) -> Row:
    """A row whose target is a lower bound."""
    target = f">= {_number(goal)}{unit}" + (f" (stretch {_number(stretch)}{unit})" * bool(stretch))
    if found is None:
        return Row(what, UNMEASURED, target, None, reason)
    return Row(what, found.text(1, _digits(found)) + unit, target, found.middle >= goal, reason)


def at_most(
    what: str, found: Measured | None, goal: float, unit: str, reason: str = "", stretch: float = 0
) -> Row:
    """A row whose target is an upper bound."""
    target = f"<= {_number(goal)}{unit}" + (f" (stretch {_number(stretch)}{unit})" * bool(stretch))
    if found is None:
        return Row(what, UNMEASURED, target, None, reason)
    return Row(what, found.text(1, _digits(found)) + unit, target, found.middle <= goal, reason)


def plain(what: str, found: Measured, unit: str) -> Row:
    """A row without a target."""
    return Row(what, found.text(1, _digits(found)) + unit)


def _digits(found: Measured) -> int:
    """So that three figures show."""
    return 2 if found.middle < 10 else 1 if found.middle < 100 else 0


def _number(value: float) -> str:
    return f"{value:,.10g}" if value < 1000 else f"{value:,.0f}"


def alone(section: Callable[[Size], Section], description: str | None) -> None:
    """The command line of a script that is a section and nothing else."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a test of the script")
    print(timed(section, Size(parser.parse_args().quick)).markdown())


def timed(section: Callable[[Size], Section], size: Size) -> Section:
    """The section with the time that it took."""
    began = time.perf_counter()
    found = section(size)
    return Section(**{**vars(found), "seconds": time.perf_counter() - began})
