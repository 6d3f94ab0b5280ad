"""Scores that can be compared: of both pictures of a pair, by the scorers of the same recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.components.component import LoadContext
from synthvlm.components.contract import contract
from synthvlm.data_sets.run_pairs import RunPairs
from synthvlm.errors import MissingExtraError, ModelError
from synthvlm.rating.pairs import PicturePair
from synthvlm.scorers import SCORERS, QuestionScorer
from synthvlm.scorers.base import check_scores

if TYPE_CHECKING:
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.scorers import Scorer

__all__ = ["with_scores"]

_Scored = Mapping[str, float]


def with_scores(
    pairs: Sequence[PicturePair], a: DataSet, b: DataSet, progress: Progress
) -> tuple[list[PicturePair], list[str]]:
    """The pairs with scores by the recipe of the first run of the two; without a run, with none.

    A run of that recipe's scorers keeps what it recorded; other pictures are scored here, but not
    by scorers that ask questions or an endpoint.

    Returns:
        The pairs, and a line on what is missing.
    """
    recipe = next((one.recipe for one in (a, b) if isinstance(one, RunPairs)), None)
    if recipe is None:
        return [replace(pair, scores=({}, {})) for pair in pairs], []
    sides: list[list[_Scored]] = []
    for place, one in enumerate((a, b)):
        if isinstance(one, RunPairs) and one.recipe.scorers == recipe.scorers:
            sides.append([pair.scores[place] for pair in pairs])
            continue
        try:
            sides.append(_scored(pairs, place, recipe, progress))
        except (ModelError, MissingExtraError) as error:
            why = f"scores are not compared, for the pictures of {one.label} cannot be scored: "
            return [replace(pair, scores=({}, {})) for pair in pairs], [f"{why}{error}"]
    scores = zip(*sides, strict=True)
    return [
        replace(pair, scores=(first, second))
        for pair, (first, second) in zip(pairs, scores, strict=True)
    ], []


def _scored(
    pairs: Sequence[PicturePair], place: int, recipe: Recipe, progress: Progress
) -> list[_Scored]:
    """The scores of one picture of each pair."""
    from synthvlm.models.devices import resolve_device

    settings = {
        name: one
        for name, one in recipe.scorers.items()
        if not issubclass(SCORERS[name], QuestionScorer) and not getattr(one, "endpoint", None)
    }
    weights = {name: one.weight for name, one in settings.items()}
    is_whole = settings.keys() == recipe.scorers.keys()
    with ExitStack() as resources:
        device = resolve_device(recipe.run.device)
        context = LoadContext(device, recipe.generation.dtype, resources=resources)
        scorers = {name: SCORERS.load(name, one, context) for name, one in settings.items()}
        progress.start("score", len(pairs), "pictures")
        scored: list[_Scored] = []
        for pair in pairs:
            scores = _of_picture(scorers, pair.images[place], pair.caption, device)
            if is_whole and scores.keys() == settings.keys():
                scores["score"] = math.fsum(weights[name] * scores[name] for name in settings)
            scored.append(scores)
            progress.advance(1)
        progress.finish("score", f"{len(scored):,} pictures scored")
    return scored


def _of_picture(
    scorers: Mapping[str, Scorer], image: bytes, caption: str, device: str
) -> dict[str, float]:
    import numpy as np
    import torch

    from synthvlm.captions.readers.images import decode_image

    pixels = torch.from_numpy(np.array(decode_image(image))).permute(2, 0, 1)[None]
    scores = {}
    for name, scorer in scorers.items():
        with contract("scorer", name):
            there = pixels if scorer.on_cpu else pixels.to(device)
            result = scorer.score(there, [caption])
        check_scores(name, result, 1)
        value = float(result.values[0])
        if math.isfinite(value):
            scores[name] = value
    return scores
