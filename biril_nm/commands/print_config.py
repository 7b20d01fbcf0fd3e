"""``biril train --print-config``: the settings as a file that ``biril train`` takes, with comments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from biril_nm.commands.console import say

if TYPE_CHECKING:
    from biril_nm.training.run_config import RunConfig

__all__ = ["PrintConfig", "printed"]

PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the settings as a CONFIG.toml, and stop.")
]


def printed(run: RunConfig, wanted: bool) -> RunConfig:
    """The configuration; if it is wanted, print it and end the program instead."""
    if not wanted:
        return run
    from biril_nm.training.commented import commented_toml

    say(commented_toml(run).rstrip())
    raise typer.Exit
