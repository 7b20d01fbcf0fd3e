"""The API reference: a page for each public package, with an entry for each public name.

A name that several packages have is documented where it comes first; the others refer to that entry.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["GROUPS", "aliases", "modules", "page", "pages", "write"]

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
def _comments(module: str) -> dict[str, str]:
    """Constant -> the comment on its line, or in the lines before it."""
    lines = inspect.getsource(importlib.import_module(module)).split("\n")
    found = {}
    for node in ast.parse("\n".join(lines)).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        same = lines[node.end_lineno - 1][node.end_col_offset :].strip()  # type: ignore[operator]
        above = []
        for line in reversed(lines[: node.lineno - 1]):
            if not line.startswith("# ") or line.startswith("# ---"):
                break
            above.insert(0, line[2:])
        found[ast.unparse(target)] = same.lstrip("# ") or " ".join(above)
    return found


def _comment(module: str, name: str) -> str:
    """What the source says of a constant, in the module or in one that it takes it from."""
    source = importlib.import_module(module)
    for node in ast.parse(inspect.getsource(source)).body:
        if isinstance(node, ast.ImportFrom) and name in {each.name for each in node.names}:
            return _comment(str(node.module), name)
    return _comments(module).get(name, "")


def _constant(module: str, name: str, value: Any) -> Iterator[str]:
    yield f".. py:data:: {name}"
    shown = repr(value)
    if len(shown) <= MAX_VALUE and " at 0x" not in shown:
        yield f"   :value: {shown}"
    yield ""
    comment = _comment(module, name).replace("*", "\\*").replace("|", "\\|")
    if comment:
        yield from (f"   {comment.rstrip('.')}.", "")
    if len(shown) > MAX_VALUE and is_dataclass(value):
        texts = (f"``{field.name} = {getattr(value, field.name)!r}``" for field in fields(value))
        yield from (f"   {', '.join(texts)}.", "")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        yield from (f"   Keys: {', '.join(f'``{key}``' for key in value)}.", "")
    yield from (f"   Type: ``{type(value).__name__}``.", "")


def _entry(module: str, name: str, value: Any) -> Iterator[str]:
    full = f"{module}.{name}"
    if isinstance(value, ModuleType):
        yield f"- :doc:`{name} <{full}>`, a module"
    elif home(module, name) != module:
        yield f"- :py:obj:`{name} <{home(module, name)}.{name}>`, as in ``{home(module, name)}``"
    elif inspect.isclass(value):
        yield from (f".. autoclass:: {full}", "   :members:", "   :undoc-members:")
        if value.__bases__ != (object,):
            yield "   :show-inheritance:"
        yield ""
    elif inspect.isroutine(value):
        yield from (f".. autofunction:: {full}", "")
    else:
        yield from _constant(module, name, value)


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
