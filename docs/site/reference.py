"""Pages that are written anew at each build: command line, configuration, examples, API."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import api
import typer
from typer.models import ArgumentInfo

from biril_nm.cli import app
from biril_nm.coding import Coding
from biril_nm.models import ModelConfig
from biril_nm.onchip import DeepConfig
from biril_nm.training import PlasticityConfig, TrainConfig
from biril_nm.training.run_config import RunConfig

__all__ = ["command_line_page", "configuration_page", "examples_page", "write_pages"]

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = {
    RunConfig: "Of `biril train`: the fields at the top of `config.toml` and of a recipe.",
    ModelConfig: "The table `[net]` of `config.toml`.",
    Coding: "The table `[net.coding]`.",
    TrainConfig: "The table `[train]`.",
    PlasticityConfig: "The table `[train.plasticity]`: the local rule of phases S and H.",
    DeepConfig: "Of `biril chip-train`, and of `biril_nm.onchip.learn_on_chip`.",
}
OPTION = re.compile(r"(?<![\w`-])--[a-z][a-z-]*")  # in a text; as code its hyphens stay two
KINDS = {int: "integer", float: "number", str: "text", Path: "path", bool: "flag"}


def _cell(text: Any) -> str:
    """Text that stays in one cell of a table."""
    return " ".join(str(text).replace("|", "\\|").split())


def _kind(annotation: Any) -> tuple[str, bool]:
    """The type of an option in words, and whether it may come several times."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    if getattr(annotation, "__origin__", None) is list:
        return _kind(inner[0])[0], True
    if inner and not (isinstance(annotation, type) and issubclass(annotation, Enum)):
        return _kind(inner[0])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " or ".join(f"`{each.value}`" for each in annotation), False
    return KINDS.get(annotation, getattr(annotation, "__name__", str(annotation))), False


def _default(value: Any) -> str:
    if value is None or value is False or value == () or value is inspect.Parameter.empty:
        return ""
    return f"`{value.value if isinstance(value, Enum) else value}`"


def options(callback: Any) -> Iterator[tuple[str, str, str, str]]:
    """(name, type, default, help) of each argument and option of a command."""
    for name, parameter in inspect.signature(callback).parameters.items():
        annotation, info = get_args(parameter.annotation)[:2]
        kind, several = _kind(annotation)
        if getattr(info, "hidden", False):
            continue
        if isinstance(info, ArgumentInfo):
            shown = (
                f"`{(info.metavar or name.upper()).removesuffix('...')}{'...' if several else ''}`"
            )
        else:
            # typer keeps the first name of an annotated option where defaults of plain ones are.
            names = [
                each for each in (info.default, *(info.param_decls or ())) if isinstance(each, str)
            ]
            names = [each for each in names if each.startswith("-")] or [
                f"--{name.replace('_', '-')}"
            ]
            shown = ", ".join(f"`{each}`" for each in names)
        kind = f"{kind}, several times" if several and not isinstance(info, ArgumentInfo) else kind
        words = OPTION.sub(r"`\g<0>`", info.help or "")
        yield shown, kind, _default(parameter.default), words


def _docstring(callback: Any) -> str:
    """The help text; its examples and options as code."""
    text = inspect.getdoc(callback) or ""
    text = re.sub(r"^Example: (.*)$", r"```bash\n\1\n```", text, flags=re.MULTILINE)
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    parts[::2] = [OPTION.sub(r"`\g<0>`", part) for part in parts[::2]]
    return "".join(parts)


def command_line_page(program: typer.Typer = app) -> str:
    """Each command with its arguments and options, from the functions that run them."""
    parts = [
        "# Command line\n",
        "Written from the code; `biril COMMAND --help` says the same. Results go to stdout, progress and "
        "logs to stderr. Exit codes: 0 done, 1 mismatch or refused, 2 usage. `biril --debug COMMAND` shows "
        "tracebacks and logs. `biril-export` is `biril export`.\n",
    ]
    for command in program.registered_commands:
        rows = [
            f"| {_cell(shown)} | {_cell(kind)} | {_cell(default)} | {_cell(text)} |"
            for shown, kind, default, text in options(command.callback)
        ]
        head = "| | type | default | meaning |\n| --- | --- | --- | --- |"
        parts.append(f"## biril {command.name}\n\n{_docstring(command.callback)}\n\n{head}")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def field_texts(config: type) -> dict[str, str]:
    """Field -> what the docstring says of it, below ``Attributes:``."""
    text = inspect.getdoc(config) or ""
    _, _, attributes = text.partition("Attributes:\n")
    attributes = attributes.partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, flags=re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def _markdown(text: str) -> str:
    """Docstring text as Markdown."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return text.replace("``", "`")


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation)


def _field_default(field: Any) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return (
            f"its own defaults: `{type(made).__name__}`"
            if dataclasses.is_dataclass(made)
            else f"`{made!r}`"
        )
    return "required"


def configuration_page() -> str:
    """The fields of each configuration, from the dataclasses."""
    parts = [
        "# Configuration\n",
        "Written from the code. `biril train config.toml` reads a configuration, and each run leaves its own "
        "in its folder. Unknown names are refused. Options of the command line come before the file, the "
        "file before the recipe, the recipe before these defaults.\n",
    ]
    for config, where in CONFIGURATIONS.items():
        texts, types = field_texts(config), get_type_hints(config)
        rows = [
            f"| `{each.name}` | `{_cell(_type_name(types[each.name]))}` | {_cell(_field_default(each))} "
            f"| {_cell(_markdown(texts.get(each.name, '')))} |"
            for each in dataclasses.fields(config)
        ]
        head = "| field | type | default | meaning |\n| --- | --- | --- | --- |"
        parts.append(f"## {config.__name__}\n\n{where}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def examples_page() -> str:
    """Each program of ``examples`` with its text."""
    parts = [
        "# Examples\n",
        "Programs of the folder `examples`; the tests run them in their quick form.\n",
    ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        title = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.stem).split("\n")[0]
        parts.append(f"## {path.name}\n\n{_markdown(title)}\n")
        parts.append(f":::{{literalinclude}} ../../examples/{path.name}\n:language: python\n:::\n")
    return "\n".join(parts)


def write_pages(folder: Path) -> None:
    """Write all generated pages; files that stay the same are left alone."""
    folder.mkdir(exist_ok=True)
    texts = {
        "command_line.md": command_line_page(),
        "configuration.md": configuration_page(),
        "examples.md": examples_page(),
    }
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    api.write(folder / "api")
