"""The sources of the package, by module, and its pyproject.toml."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["LINKS", "MODULES", "PROJECT", "ROOT", "tree_of"]

ROOT = Path(__file__).parents[2]
LINKS = ("export", "hardware_sim", "recipes")  # in biril_nm, to the folders at the top
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _modules() -> dict[str, Path]:
    """Module name below biril_nm -> file."""
    found = {}
    for base, prefix in ((ROOT / "biril_nm", ()), (ROOT / "export", ("export",)),
                         (ROOT / "hardware_sim", ("hardware_sim",)),
                         (ROOT / "recipes", ("recipes",))):  # fmt: skip
        for path in base.rglob("*.py"):
            parts = path.relative_to(base).with_suffix("").parts
            if prefix or parts[0] not in LINKS:
                found[".".join(part for part in (*prefix, *parts) if part != "__init__")] = path
    return found


MODULES = _modules()


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))
