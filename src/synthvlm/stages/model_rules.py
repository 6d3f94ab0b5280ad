"""From the recipe to the caption rules with models, and what each depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synthvlm.data import MODEL_MEASURES, fingerprint
from synthvlm.devices import resolve_device, resolve_dtype
from synthvlm.model_files import clip_path, model_identity
from synthvlm.recipe_curation import (
    AlignmentSettings,
    ImageTextBounds,
    JudgeBounds,
    PerplexityBounds,
    TaggedNamesBounds,
)
from synthvlm.stages.endpoint_clients import endpoint_client
from synthvlm.stages.original_images import images_fingerprint
from synthvlm.stages.text_rules import allowed_names

if TYPE_CHECKING:
    from contextlib import ExitStack

    from synthvlm.captions.model_rules import ModelRule
    from synthvlm.recipe import Recipe
    from synthvlm.store import RunFolder

__all__ = ["IMAGE_RULES", "load_model_rule", "model_rule_fingerprint", "model_rules_on"]

#: Rules that look at the caption's original image.
IMAGE_RULES = frozenset({"image_text_matching", "clip_similarity", "alignment"})

#: Settings that change how a rule's work is done, or which captions it rejects, not what it
#: measures.
_NOT_MEASURED = {"min", "max", "batch_size", "endpoint", "top_fraction"}


def model_rules_on(recipe: Recipe) -> list[str]:
    """The rules with models that are on, in the order in which they are applied.

    Those on original images are left out where no source has any: they would let all pass.
    """
    illustrated = any(source.has_images for source in recipe.sources)
    return [
        name
        for name in MODEL_MEASURES
        if _settings(recipe, name) is not None and (illustrated or name not in IMAGE_RULES)
    ]


def model_rule_fingerprint(recipe: Recipe, name: str) -> str:
    """What a rule's measure of a caption depends on, beside the caption."""
    settings = _settings(recipe, name)
    assert settings is not None
    values = settings.model_dump(mode="json", exclude=_NOT_MEASURED)
    values["model"] = _identity(name, settings)
    values["dtype"] = resolve_dtype("auto", recipe.run.device)
    if isinstance(settings, JudgeBounds):
        from synthvlm.captions.judge_prompt import DEFAULT_PROMPT, SYSTEM_MESSAGE

        values["prompt"] = (SYSTEM_MESSAGE, settings.prompt or DEFAULT_PROMPT)
    if isinstance(values.get("tokenizer"), str):
        values["tokenizer"] = model_identity(values["tokenizer"])
    if isinstance(settings, TaggedNamesBounds):
        values["allowed"] = allowed_names(settings)
        del values["allowed_file"]
    if name in IMAGE_RULES:
        values["images"] = images_fingerprint(recipe)
    return fingerprint(name, sorted(values.items()))


def load_model_rule(run: RunFolder, recipe: Recipe, name: str, resources: ExitStack) -> ModelRule:
    """Load a rule; what must be closed after use is entered into ``resources``.

    Raises:
        ModelError: Its model cannot be found or loaded.
        MissingExtraError: A library is not installed.
    """
    device = resolve_device(recipe.run.device)
    rules = recipe.curation.rules
    if name == "perplexity":
        assert rules.perplexity is not None
        return _perplexity(rules.perplexity, device)
    if name == "tagged_names":
        assert rules.tagged_names is not None
        return _tagged_names(rules.tagged_names, device)
    if name == "judge":
        assert rules.judge is not None
        return _judge(run, rules.judge, device, resources)
    if name == "alignment":
        assert recipe.curation.alignment is not None
        return _alignment(recipe.curation.alignment, device)
    from synthvlm.captions.image_text import ClipSimilarity, ImageTextMatching

    make = ImageTextMatching if name == "image_text_matching" else ClipSimilarity
    bounds: ImageTextBounds = getattr(rules, name)
    return make(
        clip_path(bounds.model),
        device=device,
        dtype=resolve_dtype("auto", device),
        batch_size=bounds.batch_size,
        revision=bounds.revision,
    )


_Settings = TaggedNamesBounds | PerplexityBounds | JudgeBounds | ImageTextBounds | AlignmentSettings


def _settings(recipe: Recipe, name: str) -> _Settings | None:
    if name == "alignment":
        return recipe.curation.alignment
    found: _Settings | None = getattr(recipe.curation.rules, name)
    return found


def _tagged_names(settings: TaggedNamesBounds, device: str) -> ModelRule:
    from synthvlm.captions.name_tagger import NameTagger
    from synthvlm.captions.person_names import TaggedNames

    tagger = NameTagger(
        settings.model,
        device=device,
        dtype=resolve_dtype("auto", device),
        revision=settings.revision,
        batch_size=settings.batch_size,
    )
    return TaggedNames(tagger, allowed_names(settings))


def _alignment(settings: AlignmentSettings, device: str) -> ModelRule:
    from synthvlm.captions.image_text import Alignment
    from synthvlm.scorers.clip import ClipScorer

    scorer = ClipScorer(
        clip_path(settings.model),
        device=device,
        revision=settings.revision,
        prefix=settings.prefix,
    )
    return Alignment(scorer.embed_images, scorer.embed_captions, batch_size=settings.batch_size)


def _perplexity(settings: PerplexityBounds, device: str) -> ModelRule:
    from synthvlm.captions.perplexity import CausalLmPerplexity, KenlmPerplexity

    if settings.tokenizer is not None:
        return KenlmPerplexity(settings.model, settings.tokenizer)
    return CausalLmPerplexity(
        settings.model,
        device=device,
        dtype=resolve_dtype("auto", device),
        batch_size=settings.batch_size,
        revision=settings.revision,
    )


def _judge(run: RunFolder, settings: JudgeBounds, device: str, resources: ExitStack) -> ModelRule:
    if settings.endpoint is None:
        from synthvlm.captions.local_judge import LocalJudge

        return LocalJudge(
            settings.model,
            prompt=settings.prompt,
            device=device,
            dtype=resolve_dtype("auto", device),
            batch_size=settings.batch_size,
            revision=settings.revision,
        )
    from synthvlm.captions.endpoint_judge import EndpointJudge

    endpoint = settings.endpoint
    client = endpoint_client(run, endpoint, settings.model, "curation.rules.judge", resources)
    return EndpointJudge(
        client, prompt=settings.prompt, max_tokens=settings.reply_tokens, seed=endpoint.seed
    )


def _identity(name: str, settings: _Settings) -> str:
    if isinstance(settings, JudgeBounds) and settings.endpoint is not None:
        return settings.model
    return model_identity(clip_path(settings.model) if name in IMAGE_RULES else settings.model)
