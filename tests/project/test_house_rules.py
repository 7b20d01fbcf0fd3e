"""What holds for the tests themselves: own helpers, public names only, short files."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    str(path.relative_to(ROOT)): path
    for path in sorted((ROOT / "tests").rglob("*.py"))
    if "__pycache__" not in path.parts
}
LIBRARY = ("biril_nm", "export", "hardware_sim")
MAX_LINES, MAX_BODY = 400, 50
# Fields of named tuples that start with an underscore because the standard library says so.
PUBLIC_ANYWAY = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def defined_privately(tree: ast.AST) -> set[str]:
    """Private functions, classes, methods, variables and attributes that a module makes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            found |= {node.attr} if of_self else set()
    return {name for name in found if is_private(name)} - {"_"}


@cache
def private_names_of_the_library() -> set[str]:
    files = (path for folder in LIBRARY for path in (ROOT / folder).rglob("*.py"))
    found = (defined_privately(ast.parse(path.read_text("utf-8"))) for path in files)
    return set().union(*found) - PUBLIC_ANYWAY


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """(line, dotted name) of all that a file imports, names of modules and what is taken from them."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


# ``python -m tests.fuzz`` is a program; its files import each other.
FUZZER = tuple(
    f"tests.fuzz.{path.stem}." for path in sorted((ROOT / "tests" / "fuzz").glob("[a-z]*.py"))
    if not path.stem.startswith("test_")
)  # fmt: skip


def imports_of_tests(tree: ast.AST) -> list[str]:
    """Imports that are not of helpers: other test files, conftest, relative ones."""
    allowed = ("tests.support.", "tests.golden.make_", *FUZZER)
    return [
        f"line {line} imports {name}"
        for line, name in imported(tree)
        if name.startswith((".", "tests", "conftest", "test_")) and not name.startswith(allowed)
    ]


def private_imports(tree: ast.AST) -> list[str]:
    return [
        f"line {line} imports {name}"
        for line, name in imported(tree)
        if name.startswith("biril_nm.") and any(is_private(part) for part in name.split("."))
    ]


def private_uses(tree: ast.AST) -> list[str]:
    """Attributes, and names given to setattr, patch and the like, that the library keeps to itself."""
    own, private = defined_privately(tree), private_names_of_the_library()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private - own:
            found.append(f"line {node.lineno} uses .{node.attr}")
        elif isinstance(node, ast.Call):
            texts = {a.value for a in node.args if isinstance(a, ast.Constant)}
            names = {str(text).rpartition(".")[2] for text in texts if isinstance(text, str)}
            is_setter = any(word in ast.unparse(node.func) for word in ("attr", "patch"))
            found += [f"line {node.lineno} patches {name}" for name in names & private if is_setter]
    return found


@pytest.mark.parametrize("name", FILES)
def test_no_test_imports_another_test_or_a_private_name(name):
    tree = ast.parse(FILES[name].read_text("utf-8"))
    found = [*imports_of_tests(tree), *private_imports(tree), *private_uses(tree)]
    assert not found, (
        f"{name}: {'; '.join(found)}. Share helpers by tests/support, test public names"
    )


@pytest.mark.parametrize(
    "text",
    [
        "from tests.cli.test_cli import biril",
        "from tests import conftest",
        "from .test_cli import biril",
        "from biril_nm._moved import MOVED",
        "import biril_nm._moved",
        "from biril_nm.hardware_sim.engine.program import _compile",
        "program._compile(graph)",
        "monkeypatch.setattr(program, '_compile', None)",
        "mock.patch('biril_nm.hardware_sim.engine.program._compile')",
    ],
)
def test_the_rules_see_what_they_forbid(text):
    tree = ast.parse(text)
    assert [*imports_of_tests(tree), *private_imports(tree), *private_uses(tree)]


@pytest.mark.parametrize("name", FILES)
def test_files_are_short_and_helpers_do_one_thing(name):
    text = FILES[name].read_text("utf-8")
    assert text.count("\n") < MAX_LINES, f"{name} has {text.count(chr(10))} lines; split it"
    if not name.startswith("tests/support"):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert lines <= MAX_BODY, f"{name}:{node.lineno} {node.name} has {lines} lines"
