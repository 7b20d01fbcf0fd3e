"""Output of the command line: results on stdout, progress on stderr, one object with ``--json``."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, ProgressColumn
from rich.table import Table
from rich.text import Text

from biril_nm.display import shown

__all__ = [
    "SafeFormatter",
    "complain",
    "message",
    "note",
    "prepare_streams",
    "print_json",
    "print_progress",
    "print_table",
    "progress_bar",
    "say",
    "shown",
    "stderr",
]

stderr = Console(stderr=True)

MAX_LINE = 2000  # characters of one line of an error
PIPE_WIDTH = 160  # characters of a line of a table that no terminal shows


def prepare_streams() -> None:
    """Let characters that the terminal's encoding lacks appear as escapes."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class SafeFormatter(logging.Formatter):
    """Log lines through :func:`shown`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return shown(super().format(record))


def shortened(text: str) -> str:
    """``text`` without the middle of lines that no terminal shows; names come from files."""
    return "\n".join(
        line
        if len(line) <= MAX_LINE
        else f"{line[: MAX_LINE // 2]} ... ({len(line) - MAX_LINE:,} characters) ... {line[-MAX_LINE // 2 :]}"
        for line in text.split("\n")
    )


def say(text: str, err: bool = False) -> None:
    """One line or block of result; with ``err`` about the run, on stderr."""
    typer.echo(shown(text), err=err)


def message(text: str) -> str:
    """A message whose further lines are indented: a line end in a name never begins a line of its own."""
    first, *others = shown(shortened(text)).split("\n")
    return "\n".join([first, *(line if line[:1] in ("", " ") else f"  {line}" for line in others)])


def complain(text: str) -> None:
    """An error, on stderr."""
    typer.echo(f"error: {message(text)}", err=True)


def note(text: str) -> None:
    """Something to know about the result, on stderr."""
    stderr.print(Text.assemble(("note", "yellow"), " ", message(text)), highlight=False)


def print_progress(text: str) -> None:
    """One line of progress, on stderr, beside a bar."""
    stderr.print(Text(shown(text)), highlight=False)


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
    heading = Text(shown(title), "table.title") if title else None
    table = Table(title=heading, title_justify="left", show_edge=False)
    for i, column in enumerate(header):
        table.add_column(
            Text(shown(column)), justify="left" if i == 0 else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(shown(cell, lines=False)) for cell in row))
    console = Console()
    (console if console.is_terminal else Console(width=PIPE_WIDTH)).print(table)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on stderr, where that is a terminal; it vanishes when it stops."""
    bar = Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
    bar.start()
    return bar
