"""What the images of a shard depend on: its prompts, and the fingerprints of generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.components.settings import ModelName, identity_values
from synthvlm.data import fingerprint
from synthvlm.generators import GENERATORS
from synthvlm.models.model_files import identify
from synthvlm.scorers import SCORERS

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.recipe.generation import GenerationSettings
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "STAGE",
    "Prompt",
    "image_dependencies",
    "image_fingerprint",
    "prompts_of",
    "read_prompts",
    "shard_fingerprint",
]

STAGE = "generate"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A curated caption, with the fingerprint that its images depend on."""

    id: str
    text: str
    fingerprint: str


def read_prompts(run: RunFolder, captions: Marker, shared: str) -> list[Prompt]:
    """The kept captions of a shard, in order."""
    name = captions.file("captions")
    if name is None:
        return []
    return prompts_of(run.read_table(name, ["id", "text", "kept"]), shared)


def prompts_of(captions: pa.Table, shared: str) -> list[Prompt]:
    """The kept ones of some rows of ``captions/``, in order."""
    return [
        Prompt(row["id"], row["text"], fingerprint(shared, row["id"], row["text"]))
        for row in captions.select(["id", "text", "kept"]).to_pylist()
        if row["kept"]
    ]


def image_dependencies(recipe: Recipe) -> dict[str, str]:
    """What every image and its scores depend on in addition to the caption and the index.

    Returns:
        A fingerprint of each part, by a name for people.
    """
    generator = "the generator, its model or its settings"
    parts: dict[str, object] = {
        "the seed": recipe.seed,
        generator: _generator_identity(recipe.generation),
    }
    for name, settings in recipe.scorers.items():
        parts[f"the scorer {name}"] = SCORERS.identity(name, settings, identify)
    return {part: fingerprint(value) for part, value in parts.items()}


def image_fingerprint(recipe: Recipe) -> str:
    """The same as one fingerprint."""
    return fingerprint("image", list(image_dependencies(recipe).values()))


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
    weights = [(name, scorer.weight) for name, scorer in recipe.scorers.items()]
    return recipe.generation.candidates, weights, image


def shard_fingerprint(
    recipe: Recipe, shared: str, thresholds: tuple[float, ...] | None, prompts: Sequence[Prompt]
) -> str:
    """What a whole shard depends on: its prompts, and the choice among their candidates."""
    choice = (*_choice(recipe), thresholds)
    return fingerprint(STAGE, shared, choice, [p.fingerprint for p in prompts])
