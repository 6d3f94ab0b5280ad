"""What a recipe uses, and what is known of the terms of each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from synthvlm.captions.rules import RULES
from synthvlm.components.settings import TINY, ModelName, Settings, named_models, published_name
from synthvlm.errors import RecipeError, nearest
from synthvlm.generators import GENERATORS
from synthvlm.models.model_files import located
from synthvlm.recipe import source_name
from synthvlm.rights.table import Entry, Licence, terms_table
from synthvlm.scorers import SCORERS

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe

__all__ = ["TermsInUse", "terms_in_use"]

_NOT_IN_TABLE = "not in the table of terms"


@dataclass(frozen=True, slots=True)
class TermsInUse:
    """A model or a source of captions of a recipe, and what is known of its terms.

    Attributes:
        part: What it does, e.g. ``image generation``; for captions ``captions``.
        name: As the recipe names it: a hub id, a folder, the name of a source.
        revision: On the hub, or None.
        entry_name: Name of its entry in the table; None if it has none.
        entry: The entry, or None.
        licence: The licence that was read, or None: the terms are unknown.
        stated_licence: What the card in a local folder says; nobody checked it.
        unknown: Why the terms are unknown, or None.
    """

    part: str
    name: str
    revision: str | None
    entry_name: str | None
    entry: Entry | None
    licence: Licence | None
    stated_licence: str | None
    unknown: str | None

    @property
    def names(self) -> set[str]:
        """By which a recipe may acknowledge it."""
        return {self.name} if self.entry_name is None else {self.name, self.entry_name}

    @property
    def shown_name(self) -> str:
        """The name without folders of this machine."""
        return published_name(self.name)


def terms_in_use(recipe: Recipe) -> list[TermsInUse]:
    """Everything whose terms may bind a recipe's data set: its models, then its captions.

    A model that several parts use is there once.

    Raises:
        RecipeError: ``model_terms`` or ``terms`` of a source name what there is not.
    """
    models: dict[tuple[str, str | None, str | None, str | None], TermsInUse] = {}
    for one in _models(recipe):
        key = (one.name, one.revision, one.entry_name, one.unknown)
        seen = models.get(key)
        parts = [] if seen is None else seen.part.split(", ")
        if one.part not in parts:
            models[key] = replace(one, part=", ".join([*parts, one.part]))
    named = {one.name for one in models.values()}
    for name in recipe.model_terms:
        if name not in named:
            raise RecipeError(
                f"model_terms: the recipe uses no model {name!r}{nearest(name, sorted(named))}"
            )
    return [*models.values(), *_captions(recipe)]


def _models(recipe: Recipe) -> Iterator[TermsInUse]:
    generation = recipe.generation
    generator = generation.generator_name
    if (release := GENERATORS.release(generator)) is None:
        yield from _own_models(recipe, "image generation", generation)
    else:
        yield _plug_in("image generation", generator, release)
        yield from _of_settings(recipe, "image generation", generation.generator_settings)
    yield from _of_settings(recipe, "refinement", generation.refiner)
    yield from _of_settings(recipe, "decoder", generation.vae)
    for lora in generation.loras:
        yield from _of_settings(recipe, "LoRA", lora)
    yield from _of_settings(recipe, "image check", generation.safety)
    yield from _of_settings(recipe, "face check", generation.faces)
    for name, scorer in recipe.scorers.items():
        if (release := SCORERS.release(name)) is not None:
            yield _plug_in(SCORERS.label(name), name, release)
        yield from _of_settings(recipe, SCORERS.label(name), scorer)
    for name, rule in recipe.curation.rules.items():
        if rule is not None and (release := RULES.release(name)) is not None:
            yield _plug_in(f"rule {name}", name, release)
        yield from _of_settings(recipe, f"rule {name}", rule)
    yield from _of_settings(recipe, "alignment of captions", recipe.curation.alignment)
    for source in recipe.sources:
        yield from _of_settings(recipe, "captions of images", source.image_captioner)
        if source.concept_writer is not None:
            yield _model(recipe, "captions of concepts", source.concept_writer.model, None, None)


def _of_settings(recipe: Recipe, part: str, settings: Settings | None) -> Iterator[TermsInUse]:
    """The models that some settings name, and those that their sections name."""
    if settings is None:
        return
    yield from _own_models(recipe, part, settings)
    for field in type(settings).model_fields:
        section: Any = getattr(settings, field)
        if isinstance(section, Settings):
            yield from _of_settings(recipe, part, section)


def _own_models(recipe: Recipe, part: str, settings: Settings) -> Iterator[TermsInUse]:
    is_remote = getattr(settings, "endpoint", None) is not None
    for name, revision, mark in named_models(settings):
        yield _model(recipe, part, name, revision, None if is_remote else mark)


def _model(
    recipe: Recipe, part: str, name: str, revision: str | None, mark: ModelName | None
) -> TermsInUse:
    """A model, by what the recipe or the table says of it; no mark: it runs at an endpoint."""
    table = terms_table()
    given = recipe.model_terms.get(name)
    if given is not None:
        entry = table.named(given, "model", f"model_terms.{name}")
        return _known(part, name, revision, entry)
    if mark is None:
        why = "it runs at an endpoint, whose own terms count too"
        return _unknown(part, name, revision, why)
    if name == TINY and mark.kind is not None:
        return _known(part, name, revision, TINY)
    where = located(name, mark)
    if os.path.exists(where):
        why = "it is a file or folder here, so its name says nothing"
        return replace(_unknown(part, name, revision, why), stated_licence=_stated(Path(where)))
    found = table.find(name, "model")
    if found is None:
        return _unknown(part, name, revision, _NOT_IN_TABLE)
    return _known(part, name, revision, found)


def _captions(recipe: Recipe) -> Iterator[TermsInUse]:
    table = terms_table()
    for number, source in enumerate(recipe.sources):
        name = source_name(source)
        if source.terms is not None:
            entry = table.named(source.terms, "captions", f"sources.{number}.terms")
            yield _known("captions", name, source.revision, entry)
        elif (found := table.find(_hub_id(source.path), "captions")) is not None:
            yield _known("captions", name, source.revision, found)
        else:
            why = f"name their entry: --set sources.{number}.terms=NAME"
            yield _unknown("captions", name, source.revision, f"{_NOT_IN_TABLE}: {why}")


def _hub_id(path: str) -> str:
    """The id of the data set on the hub that a path leads into; of another one the path."""
    inside = re.match(r"hf://datasets/([^/]+/[^/@]+)", path)
    return path if inside is None else inside[1]


def _known(part: str, name: str, revision: str | None, entry_name: str) -> TermsInUse:
    table = terms_table()
    entry, licence = table.entries[entry_name], table.licence_of(entry_name)
    unknown = entry.note if licence is None else None
    return TermsInUse(part, name, revision, entry_name, entry, licence, None, unknown)


def _unknown(part: str, name: str, revision: str | None, why: str) -> TermsInUse:
    return TermsInUse(part, name, revision, None, None, None, None, why)


def _plug_in(part: str, name: str, release: tuple[str, ...]) -> TermsInUse:
    return _unknown(part, f"plug-in {name}", " ".join(release), "it is a plug-in")


def _stated(folder: Path) -> str | None:
    """The licence that the card in a model's folder states."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) != 3:
        return None
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return None
    licence = front.get("license") if isinstance(front, Mapping) else None
    return None if not licence else str(licence)
