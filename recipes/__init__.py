"""Recipes: settings of a training that suit a data set, one TOML file each."""

from __future__ import annotations

from biril_nm.recipes.reading import read_recipe, recipe_names, recipe_title

__all__ = ["read_recipe", "recipe_names", "recipe_title"]
