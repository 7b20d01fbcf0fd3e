"""The API reference: a page for each public package, with an entry for each public name.

A name that several packages have is documented where it comes first; the others refer to that entry.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

__all__ = ["GROUPS", "aliases", "is_constant", "modules", "page", "pages", "sentence", "write"]

GROUPS = {
    "The package": ("",),
    "Train": (
        "coding",
        "models",
        "models.chain",
        "models.nir_net",
        "models.registry",
        "models.segments",
        "neurons",
        "neurons.surrogates",
        "neurons.unroll",
        "neurons.recurrence",
        "neurons.kernels",
        "data",
        "data.augmentation",
        "data.event_mix",
        "data.shifts",
        "data.spoken",
        "training",
        "training.integers",
        "training.losses",
        "training.run_config",
        "training.world",
        "training.local_rule.chip_learner",
        "training.local_rule.plasticity",
        "training.local_rule.torch_engine",
        "training.online.net",
        "training.online.neurons",
        "training.online.tasks",
        "recipes",
    ),
    "Export": (
        "export",
        "export.backends",
        "export.design_rules",
        "export.from_torch",
        "export.from_torch.kinds",
        "export.from_torch.layers",
        "export.from_torch.refused",
        "export.from_torch.registry",
        "export.lava",
        "export.lava.backend",
        "export.lava.bundle",
        "export.lowering",
        "export.netx",
        "export.nir_files",
        "export.nir_files.repair",
        "export.nir_nodes.linear_maps",
        "export.nir_nodes.registry",
        "export.nir_nodes.stateless",
        "export.report",
    ),
    "Integer networks": (
        "hw_graph",
        "hw_graph.plastic",
        "hw_graph.drawing",
        "hw_graph.timing",
        "compartments",
        "compartments.cuba_lif",
        "loihi",
        "loihi.fixed_point",
        "loihi.cores",
        "loihi.integers",
        "learning.rule",
        "learning.rules",
    ),
    "Run": (
        "hardware_sim",
        "hardware_sim.cost",
        "hardware_sim.cost.energy",
        "hardware_sim.cost.neurobench",
        "hardware_sim.mapping",
        "hardware_sim.learning",
        "recording",
    ),
    "Compare and measure": (
        "parity",
        "parity.agreement",
        "testing",
        "engines",
        "engines.torch_integers",
        "evaluation",
        "evaluation.accuracy",
        "evaluation.labelled",
        "evaluation.sharding",
        "reports",
        "decision",
    ),
    "Learn on the chip, and study it": (
        "onchip",
        "studies.adaptation",
        "studies.continual",
        "studies.finetuning",
        "studies.features.learner",
        "studies.features.latency",
        "studies.features.study",
        "studies.grid",
        "studies.grid.cell",
        "studies.grid.summary",
        "studies.learning_window",
        "studies.readout",
        "studies.ridge",
        "studies.validation",
    ),
    "Underneath": ("arguments", "errors", "storage"),
}
MAX_VALUE = 60  # characters of a constant that is shown
DIRECTIVE = re.compile(r"#\s*(?:fmt|noqa|type)\b:?")  # a comment for tools, not for readers
FIRST_WORD = re.compile(r"^[a-z]{3,}(?=[ ,:])")  # of a comment; u and v stay as they are
CODE = re.compile(r"(``.*?``|:\w+:`.*?`)")


@cache
def modules() -> tuple[str, ...]:
    """Modules with a page, in the order of the pages."""
    return tuple(f"biril_nm.{name}".rstrip(".") for names in GROUPS.values() for name in names)


def public_names(module: ModuleType) -> list[str]:
    """The names of ``__all__``."""
    return list(getattr(module, "__all__", ()))


@cache
def _first() -> dict[tuple[str, int], str]:
    """(name, identity of the object) -> the module whose page has the entry."""
    found: dict[tuple[str, int], str] = {}
    for module in modules():
        loaded = importlib.import_module(module)
        for name in public_names(loaded):
            found.setdefault((name, id(getattr(loaded, name))), module)
    return found


def home(module: str, name: str) -> str:
    """The module whose page has the entry of a name that ``module`` has."""
    return _first()[name, id(getattr(importlib.import_module(module), name))]


def aliases() -> dict[str, str]:
    """Full names without an entry of their own -> the full name that has it."""
    found = {}
    for module in modules():
        loaded = importlib.import_module(module)
        for name in public_names(loaded):
            value = getattr(loaded, name)
            if isinstance(value, ModuleType):
                continue
            entry = f"{home(module, name)}.{name}"
            found[f"{module}.{name}"] = entry
            defined = getattr(value, "__module__", None)
            if isinstance(defined, str) and defined.startswith("biril_nm."):
                found[f"{defined}.{getattr(value, '__qualname__', name)}"] = entry
    return {name: entry for name, entry in found.items() if name != entry}


@cache
def assignments(module: str) -> dict[str, tuple[str, str]]:
    """Constant -> (the comment on its line, or in the lines before it; the text of its value)."""
    lines = inspect.getsource(importlib.import_module(module)).split("\n")
    found = {}
    for node in ast.parse("\n".join(lines)).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        same = lines[node.end_lineno - 1][node.end_col_offset :].strip()  # type: ignore[operator]
        above: list[str] = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.startswith("# ") or line.startswith("# ---"):
                break
            above.insert(0, line[2:])
        comment = "" if DIRECTIVE.match(same) else same.lstrip("# ")
        found[ast.unparse(target)] = comment or " ".join(above), ast.unparse(node.value)
    return found


@cache
def imported(module: str) -> dict[str, str]:
    """Name -> the module that it is taken from, for type checkers alone too."""
    nodes = ast.walk(ast.parse(inspect.getsource(importlib.import_module(module))))
    found = (node for node in nodes if isinstance(node, ast.ImportFrom))
    return {each.name: str(node.module) for node in found for each in node.names}


def _assigned(module: str, name: str) -> tuple[str, str]:
    """Comment and value of a constant, in the module or in one that it takes it from."""
    taken = imported(module).get(name)
    return _assigned(taken, name) if taken else assignments(module).get(name, ("", ""))


def is_constant(value: Any) -> bool:
    """Whether a name is documented by a comment: it is no class, no function and no module."""
    is_alias = bool(get_args(value))  # Python 3.10 takes some for classes
    return is_alias or not (
        inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, ModuleType)
    )


def sentence(module: str, name: str) -> str:
    """What the reference says of a name: the comment of a constant, else the docstring's first line."""
    value = getattr(importlib.import_module(module), name)
    if is_constant(value):
        return _assigned(module, name)[0]
    text = (vars(value) if inspect.isclass(value) else {"__doc__": value.__doc__}).get("__doc__")
    return (text or "").strip().partition("\n")[0]


def _fields(value: Any) -> Iterator[str]:
    """The fields of a record; functions have no text."""
    for field in fields(value):
        shown = repr(getattr(value, field.name))
        if not _is_nameless(shown):
            yield f"``{field.name} = {shown}``"


def _is_nameless(shown: str) -> bool:
    return " at 0x" in shown


def constant(module: str, name: str, value: Any) -> Iterator[str]:
    comment, source = _assigned(module, name)
    shown = source if get_args(value) else repr(value)
    yield f".. py:data:: {name}"
    if not get_args(value):
        yield f"   :type: {type(value).__name__}"
    if len(shown) <= MAX_VALUE and not _is_nameless(shown):
        yield f"   :value: {shown}"
    yield ""
    if comment:
        comment = FIRST_WORD.sub(lambda word: word[0].capitalize(), comment)
        escaped = "".join(
            part if i % 2 else part.replace("*", "\\*").replace("|", "\\|")
            for i, part in enumerate(CODE.split(comment.rstrip(".")))
        )
        yield from (f"   {escaped}.", "")
    if len(shown) > MAX_VALUE and is_dataclass(value):
        yield from (f"   {', '.join(_fields(value))}.", "")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        yield from (f"   Keys: {', '.join(f'``{key}``' for key in value)}.", "")


def _entry(module: str, name: str, value: Any) -> Iterator[str]:
    full = f"{module}.{name}"
    if isinstance(value, ModuleType):
        yield f"- :doc:`{name} <{full}>`, a module"
    elif home(module, name) != module:
        yield f"- :py:obj:`{name} <{home(module, name)}.{name}>`, as in ``{home(module, name)}``"
    elif is_constant(value):
        yield from constant(module, name, value)
    elif inspect.isclass(value):
        yield from (f".. autoclass:: {full}", "   :members:", "   :undoc-members:")
        if value.__bases__ != (object,):
            yield "   :show-inheritance:"
        yield ""
    else:
        yield from (f".. autofunction:: {full}", "")


def page(module: str) -> str:
    """The page of one module, as reStructuredText."""
    loaded = importlib.import_module(module)
    lines = [module, "=" * len(module), "", f".. automodule:: {module}", "   :no-members:", ""]
    entries = [
        (name, list(_entry(module, name, getattr(loaded, name)))) for name in public_names(loaded)
    ]
    elsewhere = [lines for _, lines in entries if lines[0].startswith("- ")]
    own = [lines for _, lines in entries if not lines[0].startswith("- ")]
    if elsewhere:
        lines += ["Names with an entry on another page:", "", *chain(*elsewhere), ""]
    lines += [f".. py:currentmodule:: {module}", "", *chain(*own)]
    return "\n".join(lines)


def _index() -> str:
    lines = [
        "API",
        "===",
        "",
        "Each name that a module lists in ``__all__``. ``import biril_nm as bnm`` has the",
        "most common ones; torch is imported when a name first needs it.",
        "",
    ]
    for title, names in GROUPS.items():
        lines += [".. toctree::", "   :maxdepth: 1", f"   :caption: {title}", ""]
        lines += [f"   biril_nm.{name}".rstrip(".") for name in names] + [""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """File name -> text, of all pages of the API reference."""
    return {"index.rst": _index(), **{f"{module}.rst": page(module) for module in modules()}}


def write(folder: Path) -> None:
    """Write what has changed, and remove pages of modules that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = pages()
    for path in folder.glob("*.rst"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
