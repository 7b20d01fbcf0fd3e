"""The command line: one program ``biril`` with subcommands, and ``biril-export``.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 mismatch or refused, 2 usage.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

import biril_nm
from biril_nm.commands.card import card_command
from biril_nm.commands.chip_train import chip_train_command
from biril_nm.commands.console import SafeFormatter, complain, prepare_streams, say
from biril_nm.commands.evaluate import evaluate_command
from biril_nm.commands.export import export_command
from biril_nm.commands.info import info_command
from biril_nm.commands.interrupts import stoppable
from biril_nm.commands.lava_env import lava_env_command
from biril_nm.commands.options import expand_groups, refuse_empty
from biril_nm.commands.parity import parity_command
from biril_nm.commands.report import report_command
from biril_nm.commands.sim import sim_command
from biril_nm.commands.study import study_command
from biril_nm.commands.train import train_command
from biril_nm.errors import BirilError

__all__ = ["app", "export_main", "main"]

EXIT_REFUSED = 1
# Threads of torch that wait otherwise keep their core from kernels and other programs. Read when torch loads.
WAITING = ("OMP_WAIT_POLICY", "PASSIVE")
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")

_SETTINGS = {"pretty_exceptions_enable": False, "rich_markup_mode": "rich"}

app = typer.Typer(
    name="biril",
    help="Train spiking networks with BIRIL, export them to Loihi-class hardware, check parity.",
    no_args_is_help=True,
    **_SETTINGS,  # type: ignore[arg-type]
)
export_app = typer.Typer(name="biril-export", **_SETTINGS)  # type: ignore[arg-type]

Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug logs.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"biril-nm {biril_nm.__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
]


@app.callback()
def _root(debug: Debug = False, version: Version = False) -> None:
    del version  # its callback has answered
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


for _name, _command in (
    ("train", train_command),
    ("eval", evaluate_command),
    ("export", export_command),
    ("sim", sim_command),
    ("parity", parity_command),
    ("report", report_command),
    ("card", card_command),
    ("study", study_command),
    ("chip-train", chip_train_command),
    ("info", info_command),
    ("lava-env", lava_env_command),
):
    app.command(_name)(expand_groups(stoppable(_command)))
export_app.command()(expand_groups(stoppable(export_command)))


def _run(program: typer.Typer, name: str) -> None:
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if program is export_app and debug:
        arguments.remove("--debug")
    prepare_streams()
    os.environ.setdefault(*WAITING)
    try:
        refuse_empty(
            arguments, [each.callback for each in program.registered_commands if each.callback]
        )
        program(args=arguments, prog_name=name)
    except (BirilError, OSError, MemoryError, RuntimeError) as error:
        if debug or not (_is_memory(error) or isinstance(error, (BirilError, OSError))):
            raise
        complain(_message(error))
        sys.exit(EXIT_REFUSED)


def _is_memory(error: BaseException) -> bool:
    """Whether memory is exhausted, for which torch raises a RuntimeError."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(sentence in text for sentence in NO_MEMORY)


def _message(error: BaseException) -> str:
    if _is_memory(error):
        return "out of memory. Use fewer samples or steps, or a smaller net"
    if isinstance(error, OSError):
        return f"{error}. Nothing was written to that path"
    return str(error)


def main() -> None:
    """Entry point of ``biril``."""
    _run(app, "biril")


def export_main() -> None:
    """Entry point of ``biril-export``: the same as ``biril export``."""
    _run(export_app, "biril-export")


if __name__ == "__main__":
    main()
