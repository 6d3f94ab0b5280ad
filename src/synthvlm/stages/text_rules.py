"""From the recipe to the model-free rules, what each depends on, and the bounds of all rules."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from synthvlm.data import TEXT_MEASURES, fingerprint

if TYPE_CHECKING:
    from synthvlm.captions.rules import Rule
    from synthvlm.recipe import Recipe
    from synthvlm.recipe_curation import PersonNamesBounds

__all__ = ["Bounds", "allowed_names", "bounds_of", "text_rule_fingerprints", "text_rules"]

#: Lowest and highest allowed value, both inclusive; None for no bound.
Bounds = tuple[float | None, float | None]


def bounds_of(recipe: Recipe, names: Iterable[str]) -> dict[str, Bounds]:
    """The bounds of those of the named rules that are on, in the order of the names."""
    rules = ((name, getattr(recipe.curation.rules, name, None)) for name in names)
    return {name: (rule.min, rule.max) for name, rule in rules if rule is not None}


def allowed_names(settings: PersonNamesBounds) -> list[str]:
    """The names that do not count: those of the recipe, and those of its file."""
    from synthvlm.captions.person_names import load_allowed_names

    more = () if settings.allowed_file is None else load_allowed_names(settings.allowed_file)
    return sorted({*settings.allowed, *more})


def text_rule_fingerprints(recipe: Recipe) -> dict[str, str]:
    """For each model-free rule that is on, what its measure depends on beside the text.

    Raises:
        RecipeError: A file that a rule needs is missing or not what it should be.
    """
    from synthvlm.captions.benchmark_texts import benchmark_digest

    found = _arguments(recipe)
    benchmarks = found.get("benchmark_overlap")
    if benchmarks is not None:  # files that moved are the same benchmarks
        names = ("files", "text_fields", "format")
        benchmarks["files"] = benchmark_digest(**{name: benchmarks[name] for name in names})
    return {
        name: fingerprint(name, sorted(_plain(arguments).items()))
        for name, arguments in found.items()
    }


def text_rules(recipe: Recipe, names: Iterable[str]) -> list[Rule]:
    """The named model-free rules, ready to measure."""
    from synthvlm.captions.rules import RULES

    arguments = _arguments(recipe)
    return [RULES[name](**arguments[name]) for name in names]


def _arguments(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The plain arguments of each rule that is on."""
    from synthvlm.captions.rules import load_flagged_words

    found: dict[str, dict[str, Any]] = {}
    for name in TEXT_MEASURES:
        settings = getattr(recipe.curation.rules, name, None)
        if settings is not None:
            found[name] = settings.model_dump(exclude={"min", "max", "words"})
    flagged = recipe.curation.rules.flagged_words_ratio
    if flagged is not None:
        found["flagged_words_ratio"]["words"] = load_flagged_words(flagged.words)
    names = recipe.curation.rules.person_names
    if names is not None:
        found["person_names"] = {"allowed": allowed_names(names)}
    return found


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: sorted(v) if isinstance(v, frozenset) else v for k, v in arguments.items()}
