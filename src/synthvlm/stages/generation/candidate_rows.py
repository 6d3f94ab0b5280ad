"""From images to candidate rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.data import Candidate

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.stages.generation.batch_generator import ScoredImage

__all__ = ["carried", "row_of"]


def row_of(image: ScoredImage, fingerprint: str, recipe: Recipe) -> Candidate:
    """The row of an image that was generated, or failed."""
    request, status = image.request, _status(image)
    return Candidate(
        caption_id=request.id,
        index=request.index,
        seed=request.seed,
        status=status,
        fingerprint=fingerprint,
        scores=image.scores,
        score=_score(image.scores, recipe) if status == "ok" else None,
        truncated=image.truncated,
        prompt_truncated=image.prompt_truncated,
        reproducible=image.reproducible,
        problem=image.problem or image.unsafe,
    )


def carried(row: Candidate, recipe: Recipe) -> Candidate | None:
    """The row of an earlier attempt, as it counts now; None where it must be generated again."""
    if row.status == "unsafe":  # done with, and cannot win
        return row
    if not row.scores:
        return None
    return replace(row, score=_score(row.scores, recipe), status="ok", chosen=False)


def _status(image: ScoredImage) -> str:
    if image.problem is not None:
        return "failed"
    return "ok" if image.unsafe is None else "unsafe"


def _score(scores: Mapping[str, float], recipe: Recipe) -> float:
    """The weighted sum of what the scorers say (method: CLIPScore + 0.5 * SSIMScore)."""
    return sum(scorer.weight * scores[name] for name, scorer in recipe.scorers.items())
