"""From the recipe to its caption rules: which are on, what each depends on, and how each is loaded.

Rules come from the table ``RULES``; the alignment round measures like a rule with a model, and is
handled as the last one of those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from synthvlm.captions.rules import RULES
from synthvlm.captions.rules.base import ModelRule, RuleSettings, TextRule
from synthvlm.components.component import LoadContext
from synthvlm.models.devices import resolve_device, resolve_dtype
from synthvlm.models.model_files import clip_path
from synthvlm.stages.curation.resources import endpoint_client

if TYPE_CHECKING:
    from contextlib import ExitStack

    from synthvlm.recipe import Recipe
    from synthvlm.recipe.curation import AlignmentSettings
    from synthvlm.run_folder.folder import RunFolder

__all__ = [
    "ALIGNMENT",
    "Bounds",
    "bounds_of",
    "language_bounds",
    "load_model_rule",
    "load_text_rules",
    "looks_at_images",
    "model_rules_on",
    "rules_on",
    "rules_without_images",
    "text_rules_on",
]

ALIGNMENT = "alignment"

#: Lowest and highest allowed value, both inclusive; None for no bound.
Bounds = tuple[float | None, float | None]


def rules_on(recipe: Recipe) -> dict[str, RuleSettings]:
    """The rules that are on, in the order of their table."""
    rules = recipe.curation.rules.items()
    return {name: settings for name, settings in rules if settings is not None}


def text_rules_on(recipe: Recipe) -> list[str]:
    """The rules that measure a text by itself, in the order in which they are applied."""
    return [name for name in rules_on(recipe) if issubclass(RULES[name], TextRule)]


def model_rules_on(recipe: Recipe) -> list[str]:
    """The rules with models that are on, in the order in which they are applied.

    Those on original images are left out where no source has any: they would let all pass.
    """
    left_out = rules_without_images(recipe)
    return [name for name in _model_rules(recipe) if name not in left_out]


def rules_without_images(recipe: Recipe) -> list[str]:
    """The rules on original images that are on, where no source has any."""
    if any(source.has_images for source in recipe.sources):
        return []
    return [name for name in _model_rules(recipe) if looks_at_images(name)]


def _model_rules(recipe: Recipe) -> list[str]:
    names = [name for name in rules_on(recipe) if issubclass(RULES[name], ModelRule)]
    return names if recipe.curation.alignment is None else [*names, ALIGNMENT]


def looks_at_images(name: str) -> bool:
    """Whether a rule looks at the original images of captions."""
    return name == ALIGNMENT or RULES[name].needs_image


def bounds_of(recipe: Recipe, names: Iterable[str]) -> dict[str, Bounds]:
    """The bounds of some rules, in the order of the names; the alignment round has none."""
    rules = rules_on(recipe)
    return {name: rules[name].bounds for name in names if name in rules}


def language_bounds(recipe: Recipe, names: Iterable[str]) -> dict[str, dict[str, Bounds]]:
    """The bounds of some rules for captions in other languages; a rule without any is left out."""
    rules = rules_on(recipe)
    return {
        name: {language: one.bounds for language, one in sorted(rules[name].languages.items())}
        for name in names
        if name in rules and rules[name].languages
    }


def load_text_rules(recipe: Recipe, names: Iterable[str]) -> list[TextRule]:
    """Some text rules, ready to measure."""
    rules = rules_on(recipe)
    loaded = [RULES.load(name, rules[name], LoadContext()) for name in names]
    return [rule for rule in loaded if isinstance(rule, TextRule)]


def load_model_rule(run: RunFolder, recipe: Recipe, name: str, resources: ExitStack) -> ModelRule:
    """Load a rule; what must be closed after use is entered into ``resources``.

    Raises:
        ModelError: Its model cannot be found or loaded.
        MissingExtraError: A library is not installed.
    """
    device = resolve_device(recipe.run.device)
    if name == ALIGNMENT:
        assert recipe.curation.alignment is not None
        return _load_alignment(recipe.curation.alignment, device)
    context = LoadContext(
        device=device,
        dtype=resolve_dtype("auto", device),
        resources=resources,
        endpoint_client=lambda endpoint, model, where: endpoint_client(
            run, endpoint, model, where, resources
        ),
    )
    rule = RULES.load(name, rules_on(recipe)[name], context)
    assert isinstance(rule, ModelRule)
    return rule


def _load_alignment(settings: AlignmentSettings, device: str) -> ModelRule:
    from synthvlm.captions.model_rules.image_text import Alignment
    from synthvlm.scorers.clip import ClipScorer

    scorer = ClipScorer(
        clip_path(settings.model),
        device=device,
        revision=settings.revision,
        prefix=settings.prefix,
    )
    return Alignment(scorer.embed_images, scorer.embed_captions, batch_size=settings.batch_size)
