"""What each committed shard depends on, in the order of stages up to the choice of images.

The selection and the data set follow in ``data_set_fingerprints``.

A shard whose marker has another fingerprint is not current. A fingerprint covers exactly what the
result depends on. Not covered: how the work is done (batch size, device, the address of an
endpoint), and what is decided later (the bounds of rules, the weights of scores for images).

The hashed strings and the order of values are fixed: finished work is known by them, and
``tests/components/test_pinned.py`` holds them. Which settings count, ``components.settings`` says.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

from synthvlm.captions.rules import RULES
from synthvlm.components.contract import contract
from synthvlm.components.settings import ModelName, identity_values
from synthvlm.data import fingerprint
from synthvlm.generators import GENERATORS
from synthvlm.models.devices import resolve_dtype
from synthvlm.models.model_files import identify
from synthvlm.recipe import source_name
from synthvlm.safe_text import without_secrets
from synthvlm.scorers import SCORERS, QuestionScorer
from synthvlm.selectors import SELECTORS
from synthvlm.stages.curation.resources import content_digest, is_written, reader_arguments
from synthvlm.stages.curation.rules import (
    ALIGNMENT,
    bounds_of,
    language_bounds,
    looks_at_images,
    model_rules_on,
    rules_on,
    text_rules_on,
)
from synthvlm.stages.curation.verdicts import CONCEPTS, DUPLICATE, NEAR_DUPLICATE
from synthvlm.stages.image_overlap import references_fingerprint

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.generation import AdaptiveSettings, GenerationSettings
    from synthvlm.recipe.sources import SourceSettings
    from synthvlm.run_folder.folder import Marker
    from synthvlm.run_folder.marks import Marks
    from synthvlm.stages.generation.requests import Prompt

__all__ = [
    "GENERATOR_PART",
    "SEED_PART",
    "UNFINISHED",
    "calibration_fingerprint",
    "candidate_fingerprint",
    "combined_fingerprint",
    "content_fingerprint",
    "image_dependencies",
    "image_fingerprint",
    "images_and_captions_fingerprint",
    "measured_fingerprint",
    "model_measure_fingerprint",
    "model_rule_fingerprint",
    "question_fingerprint",
    "question_shard_fingerprint",
    "recorded_fingerprint",
    "scorer_part",
    "shard_fingerprint",
    "sources_fingerprint",
    "target_fingerprint",
    "text_rule_fingerprints",
    "verdicts_fingerprint",
    "writer_fingerprint",
    "written_fingerprint",
]

#: Before the fingerprint of work that was stopped and is committed as far as it is.
UNFINISHED = "unfinished "
#: Version of what near-duplicates are compared by.
_TOKENS = ("tokens",)


# -- Captions, as they are read or written ----------------------------------------------------


def content_fingerprint(recipe: Recipe, digests: Sequence[str] | None = None) -> str:
    """What captions as they are read depend on: the sources' content and how it is read.

    Args:
        recipe: The recipe.
        digests: ``content_digest`` of each source, where they are known.
    """
    if digests is None:
        digests = [content_digest(source) for source in recipe.sources]
    sources = [
        (
            identity_values(source, identify),
            source_name(source),
            digest,
            writer_fingerprint(recipe, source),
        )
        for source, digest in zip(recipe.sources, digests, strict=True)
    ]
    curation = recipe.curation
    normalization = (
        curation.fix_unicode,
        curation.normalize_punctuation,
        *(["remove_invisible"] if curation.remove_invisible else []),
    )
    return fingerprint(sources, normalization)


def sources_fingerprint(recipe: Recipe, content: str) -> str:
    """What all captions together depend on, given ``content_fingerprint``."""
    return fingerprint(content, recipe.limit)


def measured_fingerprint(
    recipe: Recipe, content: str, shard: int, rows: Sequence[tuple[str, str | None]]
) -> str:
    """What a shard of captions as they were read depends on, given the id and problem of each."""
    # What models write can be more the next time, and shift what comes behind it.
    written = rows if any(map(is_written, recipe.sources)) else []
    return fingerprint("measure", content, shard * recipe.run.shard_size, len(rows), written)


def writer_fingerprint(recipe: Recipe, source: SourceSettings) -> str | None:
    """What captions that a model writes depend on besides the source; None where none writes."""
    writer = source.image_captioner or source.concept_writer
    if writer is None:
        return None
    kind = "image_captioner" if source.image_captioner is not None else "concept_writer"
    if writer.endpoint is None:
        values = identity_values(writer, identify)
        runs: object = resolve_dtype("auto", recipe.run.device)
    else:  # the name of a model at an endpoint is all that is known of it
        values = identity_values(writer, lambda name, _: name)
        runs = "endpoint", writer.endpoint.seed, writer.prompt or _built_in_prompt(source)
    place = (source.image_field, _place(source.image_root)) if source.image_captioner else None
    return fingerprint(kind, values, runs, place)


def _built_in_prompt(source: SourceSettings) -> str:
    """What an endpoint is asked where the recipe has no prompt; it may change in a release."""
    from synthvlm.captions.writers.concept_writer import DEFAULT_CONCEPT_PROMPT
    from synthvlm.captions.writers.image_captions import DEFAULT_IMAGE_PROMPT

    return DEFAULT_CONCEPT_PROMPT if source.image_captioner is None else DEFAULT_IMAGE_PROMPT


def written_fingerprint(recipe: Recipe, source: SourceSettings, digest: str | None = None) -> str:
    """What is written of the images of a source depends on that.

    Args:
        recipe: The recipe.
        source: A source with a writer.
        digest: Its ``content_digest``, where it is known.
    """
    digest = content_digest(source) if digest is None else digest
    table = reader_arguments(source)["table"]
    form = [] if table == type(table)() else [tuple(table)]
    return fingerprint(digest, source.format, writer_fingerprint(recipe, source), *form)


# -- Rules, and their verdicts ---------------------------------------------------------------


def text_rule_fingerprints(recipe: Recipe) -> dict[str, str]:
    """For each text rule that is on, what its measure depends on in addition to the text.

    Raises:
        RecipeError: A file that a rule needs is missing or not what it should be.
    """
    rules = rules_on(recipe)
    return {
        name: fingerprint(RULES.identity(name, rules[name], identify))
        for name in text_rules_on(recipe)
    }


def model_rule_fingerprint(recipe: Recipe, name: str) -> str:
    """What a rule's measure of a caption depends on in addition to the caption."""
    if name == ALIGNMENT:
        assert recipe.curation.alignment is not None
        identity: object = name, identity_values(recipe.curation.alignment, identify)
    else:
        identity = RULES.identity(name, rules_on(recipe)[name], identify)
    images = None
    if looks_at_images(name):  # where they are: the content of image files is not read
        places = [(s.has_images, s.image_field, _place(s.image_root)) for s in recipe.sources]
        images = fingerprint(places)
    return fingerprint(identity, resolve_dtype("auto", recipe.run.device), images)


def _place(url: str | None) -> str | None:
    """A path or URL without secrets: another signature is no other place."""
    return None if url is None else without_secrets(url)


def model_measure_fingerprint(rule: str, measures: Marker) -> str:
    """What a shard's measures by a rule depend on, given ``model_rule_fingerprint``."""
    return fingerprint(rule, measures.fingerprint)


def verdicts_fingerprint(recipe: Recipe, measures: Mapping[int, Marker]) -> str:
    """What the verdicts of all shards depend on, given the markers of their measures."""
    curation = recipe.curation
    text_rules = text_rules_on(recipe)
    return fingerprint(
        "curate",
        [
            (
                measures[shard].fingerprint,
                [measures[shard].facts["rules"].get(name) for name in text_rules],
            )
            for shard in sorted(measures)
        ],
        [
            *bounds_of(recipe, rules_on(recipe)).items(),
            *language_bounds(recipe, rules_on(recipe)).items(),
        ],
        [model_rule_fingerprint(recipe, name) for name in model_rules_on(recipe)],
        [
            (name, identity_values(step, identify), *version)
            for name, step, version in (
                (NEAR_DUPLICATE, curation.near_duplicates, _TOKENS),
                (CONCEPTS, curation.concepts, ()),
            )
            if step is not None
        ],
        [DUPLICATE] if curation.deduplicate else [],
        [] if curation.alignment is None else [curation.alignment.top_fraction],
    )


# -- Images, their scores, and the choice among them -------------------------------------------

#: Names of what every image depends on, for people.
SEED_PART, GENERATOR_PART = "the seed", "the generator, its model or its settings"


def scorer_part(name: str) -> str:
    """What the dependence on a scorer is called."""
    return f"the scorer {name}"


def image_dependencies(recipe: Recipe) -> dict[str, str]:
    """What every image and its scores depend on in addition to the caption and the index.

    Returns:
        A fingerprint of each part, by a name for people.
    """
    parts: dict[str, object] = {
        SEED_PART: recipe.seed,
        GENERATOR_PART: _generator_identity(recipe.generation),
    }
    for name, settings in recipe.scorers.items():
        parts[scorer_part(name)] = SCORERS.identity(name, settings, identify)
    return {part: fingerprint(value) for part, value in parts.items()}


def question_fingerprint(recipe: Recipe, scorer: str) -> str:
    """What a scorer's questions of a caption depend on in addition to the caption."""
    component = SCORERS[scorer]
    assert issubclass(component, QuestionScorer)
    with contract("scorer", scorer):
        identity = component.writer_identity(recipe.scorers[scorer], identify)
    return fingerprint("questions", identity, SCORERS.release(scorer))


def question_shard_fingerprint(writer: str, captions: Marker) -> str:
    """What a scorer's questions of a shard depend on, given ``question_fingerprint``.

    Args:
        writer: That.
        captions: The marker of its captions, which says what texts they are of.
    """
    return fingerprint(writer, captions.facts.get("measures", captions.fingerprint))


def combined_fingerprint(dependencies: Mapping[str, str]) -> str:
    """What every image depends on, as one fingerprint, given ``image_dependencies``."""
    return fingerprint("image", list(dependencies.values()))


def recorded_fingerprint(recipe: Recipe, dependencies: Mapping[str, str]) -> str | None:
    """As ``combined_fingerprint``, of what a marker records, which has another order.

    None if it was generated or scored by other components than those of the recipe.
    """
    parts = [SEED_PART, GENERATOR_PART, *map(scorer_part, recipe.scorers)]
    if dependencies.keys() != set(parts):
        return None
    return combined_fingerprint({part: dependencies[part] for part in parts})


def image_fingerprint(recipe: Recipe) -> str:
    """What every image and its scores depend on in addition to the caption and the index."""
    return combined_fingerprint(image_dependencies(recipe))


def _generator_identity(settings: GenerationSettings) -> object:
    name = settings.generator_name
    # The name of a model at an endpoint is all that is known of it.
    identified = _named if settings.endpoint is not None else identify
    # An endpoint has no steps of ours, a plug-in no model either.
    section = [
        (key, value) for key, value in identity_values(settings, identified) if settings.counts(key)
    ]
    if settings.generator_settings is settings:
        return section
    return section, GENERATORS.identity(name, settings.generator_settings, identify)


def _named(name: str, mark: ModelName) -> str:
    return name if mark.kind == "pipeline" else identify(name, mark)


def _choice(recipe: Recipe) -> tuple[object, ...]:
    """What the choice among scored candidates and the winner's file depend on."""
    image = identity_values(recipe.generation.image, identify)
    return recipe.generation.candidates, _weights(recipe), image, *_limits(recipe)


def _weights(recipe: Recipe) -> list[tuple[str, float]]:
    return [(name, scorer.weight) for name, scorer in recipe.scorers.items()]


def _limits(recipe: Recipe) -> list[object]:
    """Which scores reject a candidate, and how many candidates some scorers see; mostly none."""
    limits = [
        (name, one.minimum, one.only_best)
        for name, one in recipe.scorers.items()
        if one.minimum is not None or one.only_best is not None
    ]
    return [limits] if limits else []


def candidate_fingerprint(image_fingerprint: str, caption_id: str, text: str) -> str:
    """What the images of a caption depend on; each row of ``candidates/`` holds it."""
    return fingerprint(image_fingerprint, caption_id, text)


def shard_fingerprint(
    recipe: Recipe,
    shared: str,
    thresholds: tuple[float, ...] | None,
    prompts: Sequence[Prompt],
    sample: Container[str] = (),
) -> str:
    """What a whole shard depends on: its prompts, and the choice among their candidates.

    Args:
        recipe: The recipe.
        shared: ``image_fingerprint``.
        thresholds: With which captions are done; None where all candidates are generated.
        prompts: The shard's captions.
        sample: Ids of captions on which thresholds were found: of those of this shard, all
            candidates count.
    """
    sampled = tuple(prompt.id for prompt in prompts if prompt.id in sample)
    choice = (*_choice(recipe), thresholds, *([sampled] if sampled else []))
    return fingerprint("generate", shared, choice, [p.fingerprint for p in prompts])


def calibration_fingerprint(recipe: Recipe, adaptive: AdaptiveSettings, shared: str) -> str:
    """What calibrated thresholds depend on, given what every image does."""
    count = recipe.generation.candidates
    identity = identity_values(adaptive, identify)
    return fingerprint("calibrate", shared, count, identity, _weights(recipe), *_limits(recipe))


def images_and_captions_fingerprint(recipe: Recipe, captions: Mapping[int, Marker]) -> str:
    """What all images and scores of a run depend on, given the markers of its captions."""
    curated = [captions[shard].fingerprint for shard in sorted(captions)]
    return fingerprint(image_fingerprint(recipe), curated)


def target_fingerprint(recipe: Recipe, images_and_captions: str, marks: Marks) -> str:
    """What the rounds of a target depend on: all that decides which captions have given a pair.

    Args:
        recipe: With a target.
        images_and_captions: ``images_and_captions_fingerprint``.
        marks: The marks of pairs.
    """
    assert recipe.target is not None
    adaptive, selection = recipe.generation.adaptive, recipe.selection
    overlap = selection.image_overlap
    return fingerprint(
        "target",
        images_and_captions,
        _choice(recipe),
        None if adaptive is None else identity_values(adaptive, identify),
        identity_values(selection, identify),
        SELECTORS.identity(selection.method, selection.selector, identify),
        identity_values(recipe.target, identify),
        *([] if overlap is None else [references_fingerprint(overlap)]),
        *marks.identity,
    )
