"""Where Lava runs, and whether it must: options of the commands that compare with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from biril_nm.commands.console import note
from biril_nm.engines import get_engine
from biril_nm.errors import ConfigError

__all__ = ["LavaChoice", "LavaPython", "default_engines", "lava_in"]

LavaPython = Annotated[
    Path | None,
    typer.Option(
        envvar="BIRIL_LAVA_PYTHON",  # interpreters.VARIABLE
        help="A Python that has lava-nc; by default this one, else that of biril lava-env.",
    ),
]


@dataclass(frozen=True)
class LavaChoice:
    """Which Lava takes part."""

    lava_python: LavaPython = None
    require_lava: Annotated[
        bool,
        typer.Option(
            "--require-lava", help="Fail where Lava cannot run, instead of leaving it out."
        ),
    ] = False


@contextmanager
def lava_in(path: Path | None) -> Iterator[None]:
    """Let Lava run in another Python."""
    from biril_nm.export.lava.interpreters import VARIABLE

    before = os.environ.get(VARIABLE)
    if path is not None:
        os.environ[VARIABLE] = str(path)
    try:
        yield
    finally:
        if path is not None:
            del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def default_engines(
    choice: LavaChoice, others: list[str], against: str | None, at_least: int = 1
) -> list[str]:
    """The engines of ``against``; without it ``others`` and Lava, which is left out where it cannot run.

    Raises:
        ConfigError: ``--require-lava`` beside engines without Lava.
        BirilError: Lava cannot run, and it is required, a Python for it is named, or fewer than ``at_least``
            engines are left.
    """
    if against is not None:
        chosen = against.split(",")
        if choice.require_lava and "lava" not in chosen:
            raise ConfigError(
                f"--require-lava is given with --against '{against}'; expected lava among the engines. "
                f"Add it, or leave --require-lava out"
            )
        return chosen
    problem = get_engine("lava").why_not()
    if problem is None:
        return [*others, "lava"]
    if choice.require_lava or choice.lava_python is not None or len(others) < at_least:
        raise problem
    note(f"lava is left out: {problem}")
    return others
