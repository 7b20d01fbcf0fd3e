"""Folders are floors: lower never imports higher, torch and lava only where allowed."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.sources import LINKS, MODULES, tree_of

# From the top floor down. A folder may import those of lower floors, and of its own line none.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("commands", "testing"),
    ("reports",),
    ("parity",),
    ("studies",),
    ("onchip",),
    ("evaluation",),
    ("training", "engines"),
    ("export", "hardware_sim"),
    ("recording",),
    ("hw_graph", "models"),
    ("learning", "coding"),
    ("compartments",),
    ("loihi", "data", "neurons"),
    ("recipes",),
    ("storage",),
    ("registry",),
    ("arguments", "_torch"),
    ("optional",),
    ("errors", "arrays", "decision", "display", "_moved"),
)
FLOOR = {folder: len(FLOORS) - i for i, line in enumerate(FLOORS) for folder in line}
NO_TORCH = ("hardware_sim", "hw_graph", "recording", "compartments", "loihi", "storage", "errors")
MAX_LINES, MAX_BODY = 400, 50


def _package(module: str) -> str:
    """The folder that holds a module; files beside ``biril_nm/__init__.py`` stand for themselves."""
    is_package = MODULES[module].name == "__init__.py"
    return module if is_package else module.rpartition(".")[0] or module


def _folder(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


@cache
def _imports(path: Path) -> frozenset[str]:
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def _own(path: Path) -> set[str]:
    """Modules of this project that a file imports, by their names below biril_nm."""
    names = {n.removeprefix("biril_nm.") for n in _imports(path) if n.startswith("biril_nm.")}
    return names & set(MODULES)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down(module):
    folder = _folder(module)
    if folder == "":
        return  # biril_nm itself, whose lazy names lead everywhere
    assert folder in FLOOR, f"{module} belongs to no floor; add its folder to FLOORS"
    for name in _own(MODULES[module]):
        below = _folder(name)
        allowed = below == folder or FLOOR[below] < FLOOR[folder]
        assert allowed, f"{module} (floor of {folder}) imports {name} (floor of {below})"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_name_the_package(module):
    tops = {name.split(".")[0] for name in _imports(MODULES[module])}
    assert not tops & set(LINKS), "write biril_nm.export, biril_nm.hardware_sim"


def test_the_import_graph_of_packages_has_no_circle():
    graph: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        package = _package(module)
        if path.name == "__init__.py" and package in ("", "export"):
            continue  # lazy names only
        needs = {_package(name) for name in _own(path)} - {package}
        graph.setdefault(package, set()).update(needs)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_lava_is_imported_in_its_own_folder_only():
    users = {m for m, p in MODULES.items() if any(n.split(".")[0] == "lava" for n in _imports(p))}
    assert users
    assert all(m.startswith("export.lava") for m in users), users


def test_torch_is_imported_on_its_own_floors_only():
    heavy = {"torch", "snntorch", "nir"}
    for module, path in MODULES.items():
        if _folder(module) in NO_TORCH:
            assert not heavy & {n.split(".")[0] for n in _imports(path)}, module


def test_the_light_half_starts_without_torch_and_lava():
    code = (
        "import sys, biril_nm, biril_nm.hw_graph, biril_nm.export, biril_nm.export.lava, "
        "biril_nm.hardware_sim; "
        "heavy = {'torch', 'snntorch', 'lava', 'nir', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_import_leaves_root_logging_alone():
    code = (
        "import logging, biril_nm, biril_nm.hardware_sim, biril_nm.models; "
        "assert not logging.getLogger().handlers; "
        "assert logging.getLogger().level == logging.WARNING"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _body_lines(function: ast.FunctionDef) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body
    first = body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("module", sorted(MODULES))
def test_files_and_functions_stay_short_and_quiet(module):
    path = MODULES[module]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES, f"{path} has {text.count(chr(10))} lines"
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = _body_lines(node)
            assert lines <= MAX_BODY, f"{path}:{node.lineno} {node.name} has {lines} lines"
    if module.startswith("export.lava.bundle"):
        return  # the bundle is a program of its own and prints its results
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} asserts"
        is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        assert not is_print, f"{path}:{node.lineno} prints"


def test_init_files_only_re_export():
    kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.If)
    for module, path in MODULES.items():
        if path.name != "__init__.py" or module == "":
            continue
        for node in tree_of(path).body:
            lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
            assert isinstance(node, kinds) or lazy, f"{path}:{node.lineno} does more"
