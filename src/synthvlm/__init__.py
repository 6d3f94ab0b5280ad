"""SynthVLM: curated synthetic image-caption pairs for vision-language models.

>>> from synthvlm import Pipeline, Recipe
>>> Pipeline(Recipe.load("tiny"), "runs/first").run()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthvlm.errors import SynthVLMError

if TYPE_CHECKING:
    from synthvlm.components.plugins import load_plugin, register
    from synthvlm.pipeline import Pipeline
    from synthvlm.recipe import Recipe

__all__ = ["Pipeline", "Recipe", "SynthVLMError", "__version__", "load_plugin", "register"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `synthvlm --help` need not wait for them.
    if name == "Recipe":
        from synthvlm.recipe import Recipe

        return Recipe
    if name == "Pipeline":
        from synthvlm.pipeline import Pipeline

        return Pipeline
    if name in ("load_plugin", "register"):
        from importlib import import_module

        import_module("synthvlm.recipe")  # which makes the tables known
        return getattr(import_module("synthvlm.components.plugins"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
