"""The recipe: one strict, typed model of everything that can be set.

Unknown keys, wrong types and impossible combinations are refused in one pass, before any model
is loaded, with the path of the key and the nearest valid name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, SerializeAsAny, model_validator

from synthvlm.captions.rules import RULES
from synthvlm.components import plugins
from synthvlm.components.settings import TINY, InHash, Settings, Share
from synthvlm.data import score_column
from synthvlm.errors import RecipeError, nearest
from synthvlm.recipe.curation import CurationSettings
from synthvlm.recipe.export import ExportSettings
from synthvlm.recipe.files import RecipeFiles
from synthvlm.recipe.generation import GenerationSettings
from synthvlm.recipe.problems import validated
from synthvlm.recipe.selection import SelectionSettings, TargetSettings
from synthvlm.recipe.sources import SourceSettings
from synthvlm.recipe.yaml_text import apply_change, dump_yaml, parse_recipe
from synthvlm.safe_text import without_secrets
from synthvlm.scorers import SCORERS, QuestionScorer, ScorerSettings
from synthvlm.selectors.base import EMBEDDINGS
from synthvlm.selectors.quotas import NAMED, QuotaSettings

__all__ = ["RECIPES", "TINY", "Recipe"]

#: The built-in recipes.
RECIPES = RecipeFiles("synthvlm.recipe", "recipe")


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
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto: a GPU if there is one."
    )
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

    seed: int = Field(0, ge=0, lt=2**63, description="Of all images.")
    limit: int | None = Field(None, ge=1, description="Input captions to read; null: all.")
    intended_use: Annotated[Literal["research", "commercial", "unspecified"], InHash.NEVER] = Field(
        "unspecified",
        description="What the data set is for: the terms of models and captions are held to it.",
    )
    acknowledge_terms: Annotated[list[str], InHash.NEVER] = Field(
        [], description="Models and sources whose terms do not stop the run."
    )
    model_terms: Annotated[dict[str, str], InHash.NEVER] = Field(
        {},
        description="By name of a model here, a folder, say: the entry of the table of terms that "
        "it is under.",
    )
    sources: list[SourceSettings] = Field(min_length=1, description="Read in their order.")
    curation: CurationSettings = CurationSettings()
    generation: GenerationSettings = GenerationSettings()
    scoring: Annotated[
        dict[str, SerializeAsAny[ScorerSettings] | None], PlainValidator(SCORERS.validate)
    ] = Field(
        default_factory=SCORERS.defaults,
        description="By name of the scorer; null switches one off that is on by default.",
    )
    target: TargetSettings | None = Field(
        None, description="null: images of every caption that curation kept."
    )
    selection: SelectionSettings = SelectionSettings()
    export: ExportSettings = ExportSettings()
    report: ReportSettings = ReportSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [source_name(source) for source in self.sources]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(
                    f"two sources are named {name!r}: give one another name: "
                    f"--set {shlex.quote(f'sources.{number}.name={name}-{number}')}"
                )
        if not any(scorer.weight for scorer in self.scorers.values()):
            raise ValueError("scoring: all weights are 0, or no scorer is on: nothing to rank by")
        self._check_only_best()
        if self.target is not None:
            self._check_target(self.target)
        unknown = self.selection.min_scores.keys() - {*self.score_columns}
        if unknown:
            raise ValueError(
                f"selection.min_scores: {min(unknown)!r} is no score of this recipe"
                f"{nearest(min(unknown), self.score_columns)}"
            )
        self._check_selector()
        return self

    def _check_selector(self) -> None:
        options = self.selection.selector
        if isinstance(options, QuotaSettings) and options.field in EMBEDDINGS:
            raise ValueError(
                f"selection.options.field: {options.field} is no number and no name: leave it out, "
                f"and quotas are by clusters of embeddings"
            )
        rules = [name for name, rule in self.curation.rules.items() if rule is not None]
        known = [*EMBEDDINGS, *NAMED, *rules, *self.score_columns]
        for name in self.selection.selector_columns:
            if name not in known:
                raise ValueError(
                    f"selection.options: pairs have no {name!r}{nearest(name, known)}: it is "
                    f"source, concept, a rule that is on, or a score of this recipe"
                )
            if name == "concept" and self.curation.concepts is None:
                raise ValueError(
                    "selection.options: there are no concepts: name them, e.g. "
                    "curation.concepts={cap: 1000000, concepts: [dog, car]} (that many of each "
                    "stay)"
                )
        if self.selection.needs_embeddings and not any(
            SCORERS[name].may_embed for name in self.scorers
        ):
            raise ValueError(
                f"selection needs embeddings, and {', '.join(self.scorers)} gives none: they come "
                f"from a scorer such as clip or siglip: --set scoring.clip.weight=1.0"
            )

    def _check_only_best(self) -> None:
        limits = {name: n for name in self.scorers if (n := self.scorers[name].only_best)}
        if len(set(limits.values())) > 1:
            settings = ", ".join(f"scoring.{name}.only_best is {n}" for name, n in limits.items())
            raise ValueError(
                f"{settings}: scorers with only_best see the same candidates: set one number"
            )
        if limits and not any(scorer.weight for scorer in self.first_scorers.values()):
            raise ValueError(
                f"scoring.{min(limits)}.only_best: no scorer without only_best has a weight, so "
                f"nothing ranks the candidates before: switch one on, or set only_best to null"
            )
        if limits and self.generation.adaptive is not None:
            raise ValueError(
                f"scoring.{min(limits)}.only_best and generation.adaptive are both set: a caption "
                f"is done early by its whole score, which comes last: set one of them to null"
            )

    def _check_target(self, target: TargetSettings) -> None:
        for name in ("top_n", "top_fraction"):
            if getattr(self.selection, name) is not None:
                raise ValueError(
                    f"target.pairs and selection.{name} are both set: --set selection.{name}=null"
                )
        settings = self.selection.selector
        if isinstance(settings, QuotaSettings):
            _check_quotas(settings, self.score_columns)
        # Of each caption taken, all candidates count, though adaptive best-of-k may need fewer.
        least = target.pairs * self.generation.candidates
        if target.max_images < least:
            raise ValueError(
                f"target: {target.pairs:,} pairs need {least:,} images or more, "
                f"generation.candidates for each: --set target.max_images={least}"
            )

    @property
    def most_selected(self) -> int | None:
        """How many pairs are selected, where there are so many; None: it gives no number."""
        return self.selection.top_n if self.target is None else self.target.pairs

    @property
    def scorers(self) -> dict[str, ScorerSettings]:
        """The scorers that are on, in the order of their table."""
        return {name: scorer for name, scorer in self.scoring.items() if scorer is not None}

    @property
    def first_scorers(self) -> dict[str, ScorerSettings]:
        """Those of them that score every candidate: without ``only_best``."""
        return {name: one for name, one in self.scorers.items() if one.only_best is None}

    @property
    def finalists(self) -> int | None:
        """How many candidates of a caption the scorers with ``only_best`` see; None without any."""
        return next((one.only_best for one in self.scorers.values() if one.only_best), None)

    @property
    def scorers_with_remarks(self) -> list[str]:
        """The scorers that have something to say besides a number, in their order."""
        return [name for name in self.scorers if SCORERS[name].has_remarks]

    @property
    def question_scorers(self) -> list[str]:
        """The scorers that ask questions about captions, in their order."""
        return [name for name in self.scorers if issubclass(SCORERS[name], QuestionScorer)]

    @property
    def score_columns(self) -> list[str]:
        """The columns of the scores of a candidate: each scorer's, and the weighted sum."""
        return [*map(score_column, self.scorers), "score"]

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
            _write_out_default(values, change)
            apply_change(values, change)
        return cls.from_values(values, label)

    @classmethod
    def from_values(cls, values: Mapping[str, Any], label: str = "recipe") -> Recipe:
        """Validate plain values, as read from YAML.

        Raises:
            RecipeError: A line for each problem, with the key's path.
        """
        return validated(cls, _without_removed(values, label), label)

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process go plain values, and the plug-ins that they may need."""
        return _sent, (plugins.loaded(), self.model_dump(mode="json"))

    def to_yaml(self) -> str:
        """The whole recipe as YAML, every default written out."""
        return dump_yaml(self.model_dump(mode="json"))


def _check_quotas(settings: QuotaSettings, scores: Sequence[str]) -> None:
    """Under a target, the quota of a caption must be known before there is an image of it."""
    if settings.field is None or settings.field in scores:
        raise ValueError(
            "target: quotas must be by a field of captions, source, concept or a rule: set "
            "selection.options.field"
        )
    if settings.field not in NAMED and not isinstance(settings.bins, list):
        raise ValueError(
            f"target: bins of {settings.field} must be given by their edges, such as "
            f"selection.options.bins=[0.2, 0.3]"
        )


def _write_out_default(values: dict[str, Any], change: str) -> None:
    """Write out what is on by default before one setting of it changes: the others stay."""
    keys = change.partition("=")[0].split(".")
    for place, table in ((["curation", "rules"], RULES), (["scoring"], SCORERS)):
        *_, name = keys[: len(place) + 1]
        default = table.defaults().get(name)
        if keys[: len(place)] != place or len(keys) < len(place) + 2 or default is None:
            continue
        section: Any = values
        for key in place:
            section = section.setdefault(key, {}) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.setdefault(name, default.model_dump(mode="json"))


def _sent(sources: list[Any], values: dict[str, Any]) -> Recipe:
    plugins.restore(sources)
    return Recipe.from_values(values)


def _without_removed(values: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """Values without settings of earlier versions that were off.

    Raises:
        RecipeError: One was on.
    """
    generation = values.get("generation") if isinstance(values, Mapping) else None
    if not isinstance(generation, Mapping) or "early_rejection" not in generation:
        return values
    if generation["early_rejection"] is not None:
        raise RecipeError(
            f"{label}: generation.early_rejection: it was removed, for it saved less than a "
            f"quarter of the time (docs/log.md): remove it from the recipe"
        )
    kept = {name: value for name, value in generation.items() if name != "early_rejection"}
    return {**values, "generation": kept}


def source_name(source: SourceSettings) -> str:
    """The name of a source: the given one, else the stem of its path, wildcards left out."""
    if source.name is not None:
        return source.name
    last = without_secrets(source.path).rstrip("/").replace("\\", "/").rsplit("/", 1)[-1]
    return re.sub(r"[*?\[\]]", "", last.split(".", 1)[0]).strip("-_") or "data"
