"""Import layers: lower never imports higher, torch and lava only where allowed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOUNDATION = {
    "errors", "loihi", "loihi_limits", "fixed_point", "timing", "storage", "trace", "coding", "hw_graph",
    "channels_last", "trace_folder", "graph_checks", "graph_io", "graph_metadata", "graph_report",
    "graph_values", "learning.rule", "learning.rules", "learning.streams", "learning.terms", "plastic",
    "unroll",
}  # fmt: skip
TOP = {
    "parity",
    "testing",
    "torch_trace",
    "evaluation",
    "adaptation",
    "readout_learning",
    "learning_window",
    "sharding",
    "cli",
    "commands",
    "__main__",
    "__init__",
}
RANKS = [
    ("foundation", 0), ("training", 1), ("export", 2), ("top", 3),
]  # fmt: skip


def _modules() -> dict[str, Path]:
    """Module name below biril_nm -> file."""
    found = {}
    for folder, prefix in (
        ("biril_nm", ""),
        ("export", "export."),
        ("hardware_sim", "hardware_sim."),
    ):
        base = ROOT / folder
        for path in base.rglob("*.py"):
            if folder == "biril_nm" and path.relative_to(base).parts[0] in (
                "export",
                "hardware_sim",
            ):
                continue
            parts = path.relative_to(base).with_suffix("").parts
            name = prefix + ".".join(p for p in parts if p != "__init__" or len(parts) == 1)
            found[name.rstrip(".")] = path
    return found


MODULES = _modules()


def _group(module: str) -> str:
    if module in FOUNDATION:
        return "foundation"
    head = module.split(".", maxsplit=1)[0]
    if head in ("export", "hardware_sim"):
        return head
    if head in TOP:
        return "top"
    training = ("learning", "neurons", "models", "training", "data", "domain_shift")
    return "training" if head in training else "?"


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


ALLOWED = {
    "foundation": {"foundation"},
    "training": {"foundation", "training"},
    "hardware_sim": {"foundation", "hardware_sim"},
    "export": {"foundation", "training", "export"},
    "top": {"foundation", "training", "export", "hardware_sim", "top"},
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_down_and_name_the_package(module):
    group = _group(module)
    assert group != "?", f"{module} belongs to no layer; add it to this test"
    names = _imports(MODULES[module])
    bare = [n for n in names if n.split(".")[0] in ("export", "hardware_sim")]
    assert not bare, f"{module} imports {bare}; write biril_nm.{bare[0]}"
    for name in names:
        below = name.removeprefix("biril_nm.")
        if name == below or below not in MODULES:
            continue
        assert _group(below) in ALLOWED[group], f"{module} ({group}) imports {name}"


def test_lava_is_imported_in_its_own_files_only():
    users = {m for m, p in MODULES.items() if any(n.split(".")[0] == "lava" for n in _imports(p))}
    assert users
    assert all(m.startswith(("export.lava", "export.lava_bundle")) for m in users), users


@pytest.mark.parametrize(
    "module",
    [
        "biril_nm",
        "biril_nm.hardware_sim",
        "biril_nm.export",
        "biril_nm.export.lava",
        "biril_nm.hw_graph",
    ],
)
def test_the_light_half_starts_without_torch_and_lava(module):
    code = (
        f"import sys, {module}; "
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


@pytest.mark.parametrize("module", sorted(MODULES))
def test_library_files_stay_short_and_quiet(module):
    path = MODULES[module]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
    if module.startswith("export.lava_bundle"):
        return  # the bundle is a program of its own and prints its results
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Assert), f"{path}:{node.lineno} asserts"
        is_print = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        assert not is_print, f"{path}:{node.lineno} prints"
