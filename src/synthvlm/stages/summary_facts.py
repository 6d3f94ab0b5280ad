"""Gather what the card's summary of training content needs from the recipe and the markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from synthvlm.components.settings import TINY, published_name
from synthvlm.exporters.card_summary import SourceFacts, SummaryFacts
from synthvlm.recipe import source_name
from synthvlm.safe_text import without_secrets
from synthvlm.stages.curation.rules import rules_on
from synthvlm.stages.image_marks import image_models, run_fingerprint

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.recipe.sources import SourceSettings
    from synthvlm.run_folder.folder import Marker

__all__ = ["summary_facts"]


def summary_facts(
    recipe: Recipe, generated: Mapping[int, Marker], pairs: Mapping[str, int]
) -> SummaryFacts:
    """What the run knows for the summary.

    Args:
        recipe: The recipe.
        generated: The markers of its shards of candidates.
        pairs: How many pairs of the data set are of each source.
    """
    generation, safety = recipe.generation, recipe.generation.safety
    checks = []
    if safety is not None:
        labels = ", ".join(safety.labels or ["unsafe content"])
        checks.append(f"{labels}, by {published_name(safety.model)}")
    if generation.faces is not None:
        checks.append(f"faces, by {published_name(generation.faces.model)}")
    rules = rules_on(recipe)
    caption_checks = {"flagged_words_ratio", "personal_data", "language"} & rules.keys()
    if {"person_names", "tagged_names"} & rules.keys():
        caption_checks.add("names")
    # What an endpoint or a plug-in returns may have any size.
    is_set = generation.generator_name == "diffusers"
    first = next((marker for _, marker in sorted(generated.items())), None)
    return SummaryFacts(
        models=image_models(recipe),
        size=(generation.width, generation.height) if is_set else None,
        sources=[_source(source, pairs) for source in recipe.sources],
        image_checks=checks,
        caption_checks=caption_checks,
        run_fingerprint=None if first is None else run_fingerprint(recipe, first),
        has_details=recipe.export.image_details,
        is_signed=recipe.export.c2pa is not None,
    )


def _source(source: SourceSettings, pairs: Mapping[str, int]) -> SourceFacts:
    name = source_name(source)
    count = pairs.get(name, 0)
    if source.path == TINY:
        return SourceFacts(name, "Other sources (2.6)", "which come with synthvlm", count)
    is_of_hub = source.format == "huggingface" or source.path.startswith("hf://")
    if is_of_hub:
        read = f"{without_secrets(source.path)} of the Hugging Face hub"
    else:
        path = urlsplit(source.path).path if "://" in source.path else source.path
        read = PurePath(path).name
    writer = source.image_captioner or source.concept_writer
    if writer is not None:
        made_of = "images" if source.image_captioner is not None else "concepts"
        written = f"written by {published_name(writer.model)} from the {made_of} of {read}"
        return SourceFacts(name, "Synthetic data (2.5): text", written, count)
    if is_of_hub:
        return SourceFacts(name, "Data sets of the hub (2.1, if public)", f"of {read}", count)
    unknown = "where its texts come from is not known to the run"
    return SourceFacts(name, "Files of the user (2)", f"of {read}; {unknown}", count)
