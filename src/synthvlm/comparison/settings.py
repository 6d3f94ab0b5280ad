"""How data sets are compared: which scorers, how many pairs, where; and the scorers, loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import PlainValidator, SerializeAsAny, model_validator

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.components.settings import Settings, named_models
from synthvlm.errors import RecipeError
from synthvlm.models.devices import resolve_device
from synthvlm.recipe.problems import validated
from synthvlm.recipe.yaml_text import apply_change
from synthvlm.report.published import PUBLISHED_CLIP, differences
from synthvlm.scorers import SCORERS, QuestionScorer, ScorerSettings
from synthvlm.scorers.base import check_scores
from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings

if TYPE_CHECKING:
    import numpy as np

    from synthvlm.scorers import Scorer, Scores

__all__ = [
    "OF_RUNS",
    "ComparisonSettings",
    "LoadedScorers",
    "choose_scorers",
    "model_label",
    "parse_sample",
    "scorer_models",
    "weighted_sum",
]


#: Settings of all scorers that only runs have: they choose among candidates.
OF_RUNS = {"minimum", "only_best"}


class _Scoring(Settings):
    """The section ``scoring`` of a recipe, by itself."""

    scoring: Annotated[
        dict[str, SerializeAsAny[ScorerSettings] | None], PlainValidator(SCORERS.validate)
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not any(scorer.weight for scorer in self.scoring.values() if scorer is not None):
            raise ValueError("scoring: all weights are 0, or no scorer is on: nothing to compare")
        for name, scorer in self.scoring.items():
            if scorer is not None and issubclass(SCORERS[name], QuestionScorer):
                raise ValueError(
                    f"scoring.{name} is for runs, which have questions about captions written "
                    f"first: leave it out"
                )
            for key in sorted(OF_RUNS):
                if scorer is not None and getattr(scorer, key) is not None:
                    raise ValueError(
                        f"scoring.{name}.{key} is for runs: compare has every scorer score every "
                        f"pair; leave it out"
                    )
        return self


def choose_scorers(
    names: Sequence[str] = (),
    changes: Sequence[str] = (),
    *,
    clip: str | None = None,
    revision: str | None = None,
) -> dict[str, ScorerSettings]:
    """The scorers of a comparison, in the order of their table.

    Args:
        names: Scorers that are on; none for those of the paper, CLIPScore and SSIMScore.
        changes: Of the form ``scoring.NAME.KEY=VALUE``, as for a recipe: a scorer that one names
            is on, too; ``scoring.NAME=null`` switches it off.
        clip: Hub id or folder of the CLIP model, or ``tiny``; None for the paper's.
        revision: Of the CLIP model on the hub.

    Raises:
        RecipeError: A line for each problem: there is no such scorer or setting, or a value is
            wrong; or none is on; or a CLIP model is named, and the scorer ``clip`` is off.
    """
    on: dict[str, Any] = {name: {} for name in names}
    off = {name: None for name in SCORERS.defaults() if names and name not in names}
    values: dict[str, Any] = {"scoring": off | on}
    for change in changes:
        apply_change(values, change)
    scoring = values["scoring"]
    if isinstance(scoring, dict) and isinstance(scoring.get("clip", {}), dict):
        # A recipe's CLIP model is the embedded one by default, a comparison's that of the paper.
        named = {"model": clip or PUBLISHED_CLIP, "revision": revision}
        scoring["clip"] = named | scoring.get("clip", {})
    chosen = validated(_Scoring, values, "compare").scoring
    scorers = {name: settings for name, settings in chosen.items() if settings is not None}
    if (clip or revision) and "clip" not in scorers:
        raise RecipeError("--clip and --revision name a model of the scorer clip, which is off")
    return scorers


def parse_sample(text: str) -> int | None:
    """Pairs to score, a number of at least 2; None for ``all``.

    Raises:
        RecipeError: It is neither.
    """
    if text == "all":
        return None
    if not text.isascii() or not text.isdecimal() or int(text[:9]) < 2:
        raise RecipeError(f"--sample {text}: expected a number of pairs, at least 2, or all")
    return int(text[:9])


@dataclass(frozen=True, slots=True)
class ComparisonSettings:
    """How data sets are compared.

    Attributes:
        scorers: Settings by name, in the order of their table.
        sample: Pairs of each data set to score, at most; None for all.
        device: Torch device of the scorers, or ``auto``.
        map_points: Pairs of each data set on the maps, taken from the sample; 0 for no maps.
        seed: Of the maps.
    """

    scorers: Mapping[str, ScorerSettings] = field(default_factory=choose_scorers)
    sample: int | None = 1000
    device: str = "auto"
    map_points: int = 1000
    seed: int = 0

    def sample_size(self, pairs: int) -> int:
        """How many of so many pairs are to be scored."""
        return pairs if self.sample is None else min(self.sample, pairs)

    @property
    def clip(self) -> ClipSettings | None:
        """The settings of CLIPScore; None where it is off."""
        settings = self.scorers.get("clip")
        return settings if isinstance(settings, ClipSettings) else None

    @property
    def ssim(self) -> SsimSettings | None:
        """The settings of SSIMScore; None where it is off."""
        settings = self.scorers.get("ssim")
        return settings if isinstance(settings, SsimSettings) else None

    @property
    def is_comparable(self) -> bool:
        """Whether CLIPScore and SSIMScore are on, with the settings of the published figures."""
        is_whole = self.clip is not None and self.ssim is not None
        return is_whole and not list(differences(self.clip, self.ssim))


@dataclass(frozen=True, slots=True)
class LoadedScorers:
    """Scorers that are ready for use.

    Attributes:
        by_name: In the order of their table.
        device: Torch device of those that do not work on the CPU.
    """

    by_name: Mapping[str, Scorer]
    device: str

    @classmethod
    def load(cls, settings: ComparisonSettings, resources: ExitStack) -> LoadedScorers:
        """Load the scorers of a comparison; what they hold is closed with the resources.

        Raises:
            ModelError: A model cannot be loaded.
            PluginError: A scorer of a user fails.
        """
        context = LoadContext(resolve_device(settings.device), resources=resources)
        scorers = settings.scorers.items()
        return cls(
            {name: SCORERS.load(name, own, context) for name, own in scorers}, context.device
        )

    def score(self, pixels: np.ndarray, captions: Sequence[str]) -> dict[str, Scores]:
        """The scores by each scorer of images (uint8, shape (n, height, width, 3)) and captions.

        Raises:
            PluginError: A scorer fails.
        """
        import torch

        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        results = {}
        for name, scorer in self.by_name.items():
            with contract("scorer", name):
                there = images if scorer.on_cpu else images.to(self.device)
                results[name] = scorer.score(there, captions)
            check_scores(name, results[name], len(captions))
        return results


def weighted_sum(scorers: Mapping[str, ScorerSettings], times: str = " ") -> str:
    """The weighted score in words, such as ``CLIPScore + 0.5 SSIMScore``."""
    terms = [(settings.weight, SCORERS.label(name)) for name, settings in scorers.items()]
    return " + ".join(
        label if weight == 1 else f"{weight:g}{times}{label}" for weight, label in terms if weight
    )


def model_label(scorer: str) -> str:
    """What the model of a scorer is called: ``CLIP`` makes CLIPScores."""
    label = SCORERS.label(scorer)
    return label.removesuffix("Score") or label


def scorer_models(scorers: Mapping[str, ScorerSettings]) -> list[tuple[str, str]]:
    """The models of all scorers: label and name of each."""
    return [
        (model_label(scorer), model)
        for scorer, settings in scorers.items()
        for model, _, _ in named_models(settings)
    ]
