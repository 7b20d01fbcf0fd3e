"""Options that several subcommands share, declared once.

An option of one line is an ``Annotated`` type. Options that always come together are the fields of a
frozen dataclass: a command takes the dataclass as one argument, and :func:`expand_groups` shows its
fields to the command line. A field that is added here is an option of every such command.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, cast, get_args, get_type_hints

import typer

from biril_nm.arguments import MAX_SEED
from biril_nm.coding import DECISIONS
from biril_nm.data.datasets import DATASETS
from biril_nm.data.sources import DATA_ROOT_VARIABLE
from biril_nm.engines import available_engines
from biril_nm.errors import ConfigError
from biril_nm.export.backends import available_backends
from biril_nm.export.weight_bits import parse_weight_bits
from biril_nm.loihi import CHIPS, WEIGHT_BITS
from biril_nm.recipes import recipe_names

__all__ = [
    "BUILT_IN",
    "MAX_COUNT",
    "Against",
    "Backend",
    "CodingName",
    "DataRoot",
    "DataSetName",
    "Force",
    "Json",
    "Learn",
    "LoweringChoice",
    "NetxReading",
    "NeuronName",
    "OwnModule",
    "PrecisionName",
    "RecipeName",
    "RuleName",
    "Seed",
    "Source",
    "To",
    "expand_groups",
    "one_of",
    "refuse_empty",
]

MAX_COUNT = (1 << 31) - 1
BUILT_IN = "digits"  # the data set that needs no folder


def one_of(values: Iterable[str], text: str, *flags: str, several: bool = False) -> Any:
    """An option that takes one of some words: its help shows them, and the shell completes them.

    Args:
        values: the words; what else is given is refused by what reads it.
        text: of the help.
        flags: names of the option; by default that of the parameter.
        several: whether words stand side by side, separated by commas.
    """
    known = tuple(values)

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [f"{before}{comma}{word}" for word in known if word.startswith(last)]

    return typer.Option(*flags, help=text, autocompletion=complete)


Force = Annotated[bool, typer.Option("--force", help="Replace existing output.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Learn = Annotated[bool, typer.Option("--learn", help="Let plastic connections learn.")]
Seed = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Seed of everything random.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(help=f"Folder of the data sets; default: {DATA_ROOT_VARIABLE}."),
]
DataSetName = Annotated[
    str | None,
    one_of(DATASETS, f"{', '.join(DATASETS)}; with options as pictures:side=32."),
]
To = Annotated[
    str, one_of(available_backends(), f"Target: {', '.join(available_backends())}.", "--to")
]
Against = Annotated[
    str | None,
    one_of(
        available_engines(),
        f"Engines to compare, separated by commas, of {', '.join(available_engines())}.",
        several=True,
    ),
]
Backend = Annotated[
    str | None,
    one_of(
        available_engines(),
        f"Engine: {', '.join(available_engines())}; default: torch for .pt, else sim.",
    ),
]


Source = Annotated[
    Path,
    typer.Argument(help="Folder of biril train, model.pt, x.nir or x.loihi.npz", metavar="SRC"),
]
RecipeName = Annotated[
    str | None,
    one_of(recipe_names(), f"Settings to start from: {', '.join(recipe_names())}, or a file.toml."),
]
RuleName = Annotated[
    str | None, one_of(("offset", "pair", "oja"), "Local rule: offset, pair or oja.")
]
NeuronName = Annotated[
    str | None, one_of(("if", "lif", "lif_tau", "plif"), "if, lif, lif_tau or plif.")
]
PrecisionName = Annotated[
    str | None,
    one_of(
        ("float32", "bfloat16", "auto"), "Of the layers: float32; bfloat16; or auto, what is fast."
    ),
]
CodingName = Annotated[str | None, one_of(("direct", "rate", "signed"), "direct, rate or signed.")]


def _check_weight_bits(text: str) -> str:
    try:
        bits = parse_weight_bits(text)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    for each in bits.values() if isinstance(bits, dict) else (bits,):
        if not 1 <= each <= WEIGHT_BITS:
            raise typer.BadParameter(f"{each} is not in the range 1<=x<={WEIGHT_BITS}.")
    return text


@dataclass(frozen=True)
class OwnModule:
    """What a model.pt of your own module does not say: what builds it, and what it takes."""

    architecture: Annotated[
        str | None,
        typer.Option(
            help="package.module:MyNet, the class (or a function without arguments) that makes the "
            "network whose weights a model.pt holds. It is imported and runs."
        ),
    ] = None
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one step of its input, such as 2,34,34; default: as the file says."
        ),
    ] = None


@dataclass(frozen=True)
class LoweringChoice(OwnModule):
    """How a float network becomes an integer network, where the source is not one already."""

    dt: Annotated[
        float | None,
        typer.Option("--dt", help="Width of a time step in seconds, if the file does not say."),
    ] = None
    reset: Annotated[
        str | None,
        one_of(
            ("zero", "subtract", "force-zero"),
            "What a spike does to v, if the file does not say: 'zero': v becomes 0; 'subtract': v "
            "falls by the threshold. 'force-zero': v becomes 0, even if the file says otherwise.",
        ),
    ] = None
    coding: Annotated[
        str | None,
        typer.Option(
            help="KIND[:STEPS[:BITS]]: how values enter an x.nir, or your own module, that does not say: "
            "direct, counts, signed, rate or spikes; direct:25:8 sends an image of 8 bits for 25 steps."
        ),
    ] = None
    chip: Annotated[str, one_of(CHIPS, "Chip whose limits hold: loihi1 or loihi2.")] = "loihi2"
    if_integration: Annotated[
        str | None,
        one_of(
            ("per_step", "continuous"),
            "How IF neurons whose r is neither 1 nor 1/dt grow per step: 'per_step' by r x, "
            "'continuous' by dt r x.",
        ),
    ] = None
    weight_bits: Annotated[
        str,
        typer.Option(
            help="Bits per weight, 1 to 8; connections from graded input keep 8. Or each by name, with * for "
            "the others: conv1=8,*=3.",
            callback=_check_weight_bits,
        ),
    ] = "8"
    decision: Annotated[
        str | None,
        one_of(
            DECISIONS,
            "Which class wins: 'count' (most spikes; among equals the membrane), 'score' (spikes "
            "+ v/vth) or 'membrane'; default: as SRC says.",
        ),
    ] = None


@dataclass(frozen=True)
class NetxReading:
    """What an x.net file does not say."""

    input_message_bits: Annotated[
        int | None, typer.Option(help="Width of graded input of an x.net, which does not say.")
    ] = None
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut fractions in an x.net off, as netx does.")
    ] = False


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with each dataclass among its parameters replaced by one option per field."""
    groups: dict[str, type] = {}
    parameters: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        options = {name: (parameter.annotation, parameter.default)}
        if is_dataclass(parameter.annotation):
            group = groups[name] = cast(type, parameter.annotation)
            types = get_type_hints(group, include_extras=True)
            options = {each.name: (types[each.name], each.default) for each in fields(group)}
        for option, (kind, default) in options.items():
            parameters[option] = inspect.Parameter(
                option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    return run


def refuse_empty(arguments: Sequence[str], commands: Iterable[Callable[..., None]]) -> None:
    """Refuse empty words, which would mean the working folder, except in options that take any text.

    Args:
        arguments: the command line.
        commands: what it may call, expanded.

    Raises:
        ConfigError: there is an empty word.
    """
    texts = {flag for command in commands for flag in _text_flags(command)}
    for before, word in zip(("", *arguments), arguments):
        flag = word[:-1] if word.endswith("=") and word.startswith("--") else before
        if (not word or flag is not before) and flag not in texts:
            where = f"behind '{flag}'" if flag else "in first place"
            raise ConfigError(
                f"the argument {where} is empty; expected a path or a value. Check the variables of your "
                f"shell, or leave it out"
            )


def _text_flags(command: Callable[..., None]) -> list[str]:
    """Options whose value is any text."""
    found: list[str] = []
    for name, parameter in inspect.signature(command).parameters.items():
        kind, info = get_args(parameter.annotation)[:2]
        if str in (kind, *get_args(kind)):
            found += getattr(info, "param_decls", None) or [f"--{name.replace('_', '-')}"]
    return found
