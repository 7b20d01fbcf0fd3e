"""Recipes: TOML files with the settings that suit a data set, of the package or one's own."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from biril_nm.arguments import unknown_name
from biril_nm.errors import ConfigError
from biril_nm.storage import read_toml

__all__ = ["read_recipe", "recipe_names", "recipe_title"]

PACKAGE = "biril_nm.recipes"
ENDING = ".toml"


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes of the package, sorted."""
    found = (entry.name for entry in files(PACKAGE).iterdir())
    return tuple(sorted(name.removesuffix(ENDING) for name in found if name.endswith(ENDING)))


def read_recipe(name: str) -> dict[str, Any]:
    """The tables of a recipe: of the package by name, or of a file by a path that ends in ``.toml``.

    Raises:
        ConfigError: no recipe of that name.
        FileFormatError: no TOML.
    """
    if name.endswith(ENDING):
        return read_toml(Path(name))
    if name not in recipe_names():
        raise ConfigError(
            f"{unknown_name('recipe', name, recipe_names())}; or a path that ends in {ENDING}"
        )
    with as_file(files(PACKAGE) / f"{name}{ENDING}") as path:
        return read_toml(path)


def recipe_title(name: str) -> str:
    """The first comment of a recipe of the package, up to the end of its first sentence."""
    text = (files(PACKAGE) / f"{name}{ENDING}").read_text(encoding="utf-8")
    lines = text.splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines[: _first_setting(lines)])
    return comment.partition(". ")[0].rstrip(".")


def _first_setting(lines: list[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
