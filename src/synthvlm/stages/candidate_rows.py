"""From images to candidate rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.data import Candidate

if TYPE_CHECKING:
    from synthvlm.recipe import ScoringSettings
    from synthvlm.stages.drawing import Image

__all__ = ["carried", "row_of"]


def row_of(image: Image, fingerprint: str, weights: ScoringSettings) -> Candidate:
    """The row of an image that was drawn, or failed."""
    order, status = image.order, _status(image)
    return Candidate(
        caption_id=order.id,
        index=order.index,
        seed=order.seed,
        status=status,
        fingerprint=fingerprint,
        clip_score=image.clip_score,
        ssim_score=image.ssim_score,
        score=_score(image, weights) if status == "ok" else None,
        truncated=image.truncated,
        prompt_truncated=image.prompt_truncated,
        reproducible=image.reproducible,
        problem=image.problem or image.unsafe,
    )


def carried(row: Candidate, weights: ScoringSettings) -> Candidate | None:
    """The row of an earlier attempt, as it counts now; None where it must be drawn again."""
    if row.status == "unsafe":  # done with, and cannot win
        return row
    if row.clip_score is None:
        return None
    return replace(row, score=_score(row, weights), status="ok", chosen=False)


def _status(image: Image) -> str:
    if image.problem is not None:
        return "failed"
    return "ok" if image.unsafe is None else "unsafe"


def _score(of: Image | Candidate, weights: ScoringSettings) -> float:
    """The score of what is usable: clip.weight * CLIPScore + ssim.weight * SSIMScore."""
    assert of.clip_score is not None
    assert of.ssim_score is not None
    return weights.clip.weight * of.clip_score + weights.ssim.weight * of.ssim_score
