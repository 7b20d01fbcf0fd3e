"""The command line: one program ``biril`` with subcommands, and ``biril-export``.

Results go to stdout, progress and logs to stderr. Exit codes: 0 done, 1 mismatch or refused, 2 usage.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer

import biril_nm
from biril_nm.commands.console import SafeFormatter, complain, prepare_streams, say
from biril_nm.errors import BirilError

__all__ = ["export_main", "main", "named_commands"]

EXIT_REFUSED = 1
# Threads of torch that wait otherwise keep their core from kernels and other programs. Read when torch loads.
WAITING = ("OMP_WAIT_POLICY", "PASSIVE")
NO_MEMORY = ("out of memory", "allocate memory", "not enough memory")
COMPLETES = "_COMPLETE"  # end of the variable by which a shell asks for words

_SETTINGS = {"pretty_exceptions_enable": False, "rich_markup_mode": "rich"}
# Where each subcommand is, and its line in the help of the program, for which nothing is imported.
COMMANDS = {
    "train": ("train:train_command", "Train a network with cycles of STBP, STDP and STDP-STBP."),
    "eval": (
        "evaluate:evaluate_command",
        "Measure accuracy and firing rates on the test set of a data set, digits by default, or on your "
        "samples.",
    ),
    "export": (
        "export:export_command",
        "Translate a network: a model to NIR, to integers, to a Lava bundle, to lava-dl's netx.",
    ),
    "sim": (
        "sim:sim_command",
        "Simulate a network on integers, exactly as Lava's fixed_pt models do.",
    ),
    "parity": (
        "parity:parity_command",
        "Compare every spike, current and voltage of the integer engines, and torch's predictions.",
    ),
    "report": ("report:report_command", "Write a self-contained HTML report with pictures."),
    "card": (
        "card:card_command",
        "Write a model card: data, training, figures, fit to the chip, parity, and fields for the licence.",
    ),
    "study": (
        "study:study_command",
        "Compare training methods over seeds, with controls, and measure their networks on the chip.",
    ),
    "chip-train": (
        "chip_train:chip_train_command",
        "Learn a deep network on the chip itself, in integers only.",
    ),
    "info": (
        "info:info_command",
        "Show what is installed and supported, or what a file holds.",
    ),
    "lava-env": (
        "lava_env:lava_env_command",
        "Make an environment with Lava and without torch, and remember it.",
    ),
}

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


def _root(debug: Debug = False, version: Version = False) -> None:
    del version  # its callback has answered
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])


@cache
def _command(name: str) -> Callable[..., None]:
    """A subcommand as typer takes it; its module is imported."""
    from biril_nm.commands.interrupts import stoppable
    from biril_nm.commands.options import expand_groups

    module, function = COMMANDS[name][0].split(":")
    found = getattr(importlib.import_module(f"biril_nm.commands.{module}"), function)
    return expand_groups(stoppable(found))


def _not_needed() -> None:
    """Stands for subcommands that this command line does not name."""


def _program(names: tuple[str, ...]) -> typer.Typer:
    """The program with these subcommands; of the others it has names and lines of help."""
    program = typer.Typer(
        name="biril",
        help="Train spiking networks with BIRIL, export them to Loihi-class hardware, check parity.",
        no_args_is_help=True,
        **_SETTINGS,  # type: ignore[arg-type]
    )
    program.callback()(_root)
    for name, (_, line) in COMMANDS.items():
        if name in names:
            program.command(name)(_command(name))
        else:
            program.command(name, help=line)(_not_needed)
    return program


def _export_program() -> typer.Typer:
    program = typer.Typer(name="biril-export", **_SETTINGS)  # type: ignore[arg-type]
    program.command()(_command("export"))
    return program


@cache
def __getattr__(name: str) -> Any:
    """``app`` and ``export_app``, the programs with all that they have."""
    if name == "app":
        return _program(tuple(COMMANDS))
    if name == "export_app":
        return _export_program()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def named_commands(arguments: list[str]) -> tuple[str, ...]:
    """The subcommand of a command line: its first word that is no option. All where a shell completes."""
    if any(
        variable.startswith("_BIRIL") and variable.endswith(COMPLETES) for variable in os.environ
    ):
        return tuple(COMMANDS)
    return tuple([word for word in arguments if not word.startswith("-")][:1])


def _run(make: Callable[[list[str]], typer.Typer], name: str) -> None:
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    prepare_streams()
    os.environ.setdefault(*WAITING)
    try:
        program = make(arguments)
        if "" in arguments or any(word.endswith("=") for word in arguments):
            _refuse_empty(program, arguments)
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


def _refuse_empty(program: typer.Typer, arguments: list[str]) -> None:
    from biril_nm.commands.options import refuse_empty

    commands = (each.callback for each in program.registered_commands)
    refuse_empty(arguments, [each for each in commands if each not in (None, _not_needed)])


def main() -> None:
    """Entry point of ``biril``."""
    _run(lambda arguments: _program(named_commands(arguments)), "biril")


def export_main() -> None:
    """Entry point of ``biril-export``: the same as ``biril export``."""

    def make(arguments: list[str]) -> typer.Typer:
        if "--debug" in arguments:
            arguments.remove("--debug")
        return _export_program()

    _run(make, "biril-export")


if __name__ == "__main__":
    main()
