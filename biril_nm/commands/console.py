"""Output of the command line: results on stdout, progress on stderr, one object with ``--json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["print_json", "print_table", "say", "stderr"]

stderr = Console(stderr=True)


def say(text: str) -> None:
    """One line or block of result."""
    typer.echo(text)


def print_json(values: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(values, indent=2, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "items"):
        return dict(value)
    return str(value)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; wide cells wrap on a terminal and stay whole in a pipe."""
    table = Table(title=title or None, title_justify="left", show_edge=False)
    for i, column in enumerate(header):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table, width=None if console.is_terminal else 160)
