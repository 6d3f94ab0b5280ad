"""SynthVLM: curated synthetic image-caption pairs for vision-language models.

>>> from synthvlm import Pipeline, Recipe
>>> Pipeline(Recipe.load("tiny"), "runs/first").run()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthvlm.errors import SynthVLMError

if TYPE_CHECKING:
    from synthvlm.commands import (
        compare,
        convert,
        cost,
        diff,
        evaluate,
        mark,
        publish,
        rate,
        read_captions,
        regenerate,
        status,
        train,
        tune,
        verify,
        view,
    )
    from synthvlm.components.plugins import load_plugin, register
    from synthvlm.pipeline import Pipeline
    from synthvlm.planning.plan import plan
    from synthvlm.planning.preview import preview
    from synthvlm.recipe import Recipe
    from synthvlm.run import Run, open_run
    from synthvlm.training.recipe import TrainingRecipe

__all__ = [
    "Pipeline",
    "Recipe",
    "Run",
    "SynthVLMError",
    "TrainingRecipe",
    "__version__",
    "compare",
    "convert",
    "cost",
    "diff",
    "evaluate",
    "load_plugin",
    "mark",
    "open_run",
    "plan",
    "preview",
    "publish",
    "rate",
    "read_captions",
    "regenerate",
    "register",
    "status",
    "train",
    "tune",
    "verify",
    "view",
]

__version__ = "0.1.0"

#: Where each name is, but for those above: loaded on first use, so that `synthvlm --help` need not
#: wait for them.
_MODULES = {
    "Pipeline": "synthvlm.pipeline",
    "Recipe": "synthvlm.recipe",
    "Run": "synthvlm.run",
    "TrainingRecipe": "synthvlm.training.recipe",
    "load_plugin": "synthvlm.components.plugins",
    "open_run": "synthvlm.run",
    "plan": "synthvlm.planning.plan",
    "preview": "synthvlm.planning.preview",
    "register": "synthvlm.components.plugins",
}


if not TYPE_CHECKING:  # to which every name would be known

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        import_module("synthvlm.recipe")  # which makes the tables of components known
        return getattr(import_module(_MODULES.get(name, "synthvlm.commands")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
