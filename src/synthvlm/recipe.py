"""The recipe: one strict, typed model of everything that can be set.

Unknown keys, wrong types and impossible combinations are refused in one pass, before any model
is loaded, with the path of the key and the nearest valid name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from synthvlm.recipe_base import TINY, Settings, Share
from synthvlm.recipe_curation import CurationSettings
from synthvlm.recipe_files import RecipeFiles
from synthvlm.recipe_generation import GenerationSettings
from synthvlm.recipe_problems import validated
from synthvlm.recipe_sources import SourceSettings
from synthvlm.recipe_yaml import apply_change, dump_yaml, parse_recipe

__all__ = ["RECIPES", "TINY", "Recipe"]

#: The built-in recipes.
RECIPES = RecipeFiles("synthvlm", "recipe")


class ClipSettings(Settings):
    """CLIPScore: cosine of the embeddings of image and prefixed caption, clipped at 0."""

    model: str = Field(TINY, min_length=1)
    revision: str | None = None
    prefix: str = "A photo depicts "
    weight: float = Field(1.0, ge=0.0)


class SsimSettings(Settings):
    """SSIMScore: the image against itself after the trip through the VLM's input size."""

    side: int = Field(768, ge=7, description="Side in pixels at which images are compared.")
    model_input_side: int = Field(336, ge=1, description="Side of the VLM's input.")
    weight: float = Field(0.5, ge=0.0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_input_side >= self.side:
            raise ValueError(
                f"model_input_side {self.model_input_side} must be below side {self.side}"
            )
        return self


class ScoringSettings(Settings):
    """Score = clip.weight * CLIPScore + ssim.weight * SSIMScore."""

    clip: ClipSettings = ClipSettings()
    ssim: SsimSettings = SsimSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.clip.weight == 0 and self.ssim.weight == 0:
            raise ValueError("clip.weight and ssim.weight are both 0: nothing to rank by")
        return self


class MinScores(Settings):
    """Lowest scores (inclusive) that a selected pair may have."""

    clip_score: float | None = None
    ssim_score: float | None = None
    score: float | None = None


class SelectionSettings(Settings):
    """How many of the best pairs are kept; neither number keeps all."""

    top_n: int | None = Field(None, ge=1)
    top_fraction: float | None = Field(None, gt=0.0, le=1.0)
    min_scores: MinScores = MinScores()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.top_n is not None and self.top_fraction is not None:
            raise ValueError("top_n and top_fraction are both set: choose one, null the other")
        return self


class ExportSettings(Settings):
    """What is written to ``dataset/``."""

    formats: list[Literal["llava", "huggingface"]] = Field(["llava", "huggingface"], min_length=1)
    images_per_folder: int = Field(10_000, ge=1)
    instructions: list[str] | None = Field(
        None, min_length=1, description="Questions of the LLaVA format; default: the built-in ones."
    )
    license: str | None = Field(None, description="Licence of the data set, for its card.")


class ReportSettings(Settings):
    """What the report shows."""

    gallery: int = Field(24, ge=0, description="Pairs in each part of the gallery.")
    preview_share: Share = Field(
        0.002, description="Share of captions (by hash) whose losers leave a thumbnail."
    )


class RunSettings(Settings):
    """How the work is done; only shard_size and threads can touch a result."""

    shard_size: int = Field(1000, ge=1, description="Input captions per shard; fixed in a run.")
    threads: Literal["auto"] | int = Field("auto", description="CPU threads; fixed in a run.")
    batch_size: Literal["auto"] | int = Field(
        8, description="Images generated at a time; auto: found while running."
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    max_failed_share: Share = Field(0.01, description="Share of rows that may fail in a stage.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.threads, int) and self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
        if isinstance(self.batch_size, int) and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {self.batch_size}")
        return self


class Recipe(Settings):
    """Everything that can be set of a run.

    Example:
        >>> recipe = Recipe.load("tiny", overrides=["generation.candidates=2"])
        >>> recipe.generation.candidates
        2
    """

    seed: int = Field(0, ge=0, lt=2**63)
    limit: int | None = Field(None, ge=1, description="Input captions to read; null: all.")
    sources: list[SourceSettings] = Field(min_length=1)
    curation: CurationSettings = CurationSettings()
    generation: GenerationSettings = GenerationSettings()
    scoring: ScoringSettings = ScoringSettings()
    selection: SelectionSettings = SelectionSettings()
    export: ExportSettings = ExportSettings()
    report: ReportSettings = ReportSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source_name(source) for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two sources are named {name!r}: give them names (sources.N.name)"
                )
        return self

    @classmethod
    def load(
        cls,
        recipe: str | Path = TINY,
        *,
        captions: Sequence[str | Path] = (),
        overrides: Sequence[str] = (),
        limit: int | None = None,
    ) -> Recipe:
        """Read a recipe and change it.

        Args:
            recipe: Name of a built-in recipe, or a YAML file.
            captions: Caption files that replace the recipe's sources.
            overrides: Changes of the form ``KEY=VALUE``, e.g. ``generation.steps=30``; the value
                is read as YAML. In a list the key is a number: ``sources.0.name=web``.
            limit: Number of input captions to read.

        Raises:
            RecipeError: The recipe does not exist or does not validate.
        """
        label, text = RECIPES.read(recipe)
        return cls._changed(parse_recipe(text, label), label, captions, overrides, limit)

    def changed(
        self,
        *,
        captions: Sequence[str | Path] = (),
        overrides: Sequence[str] = (),
        limit: int | None = None,
    ) -> Recipe:
        """A copy with changes, as in ``load``."""
        values = self.model_dump(mode="json")
        return self._changed(values, "recipe", captions, overrides, limit)

    @classmethod
    def _changed(
        cls,
        values: dict[str, Any],
        label: str,
        captions: Sequence[str | Path],
        overrides: Sequence[str],
        limit: int | None,
    ) -> Recipe:
        if captions:
            values["sources"] = [{"path": str(path)} for path in captions]
        if limit is not None:
            values["limit"] = limit
        for change in overrides:
            apply_change(values, change)
        return cls.from_values(values, label)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], label: str = "recipe") -> Recipe:
        """Validate plain values, as read from YAML.

        Raises:
            RecipeError: A line for each problem, with the key's path.
        """
        return validated(cls, values, label)

    def to_yaml(self) -> str:
        """The whole recipe as YAML, every default written out."""
        return dump_yaml(self.model_dump(mode="json"))


def source_name(source: SourceSettings) -> str:
    """The name of a source: the given one, else the stem of its path, wildcards left out."""
    if source.name is not None:
        return source.name
    last = source.path.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[*?\[\]]", "", last.split(".", 1)[0]).strip("-_") or "data"
