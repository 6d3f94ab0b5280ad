"""The recipe: strict settings models, the built-in recipes, YAML, and what is wrong with one."""

from __future__ import annotations

from synthvlm.recipe.recipe import RECIPES, TINY, Recipe, source_name

__all__ = ["RECIPES", "TINY", "Recipe", "source_name"]
