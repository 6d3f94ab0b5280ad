"""What a pair is worth: scorers of pairs, and checks of images."""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores

__all__ = ["SCORERS", "Scorer", "ScorerSettings", "Scores", "scorer_label"]

SCORERS = Table(
    "scorer",
    Scorer,
    {
        "clip": "synthvlm.scorers.clip:ClipScorer",
        "ssim": "synthvlm.scorers.ssim:SsimScorer",
        "siglip": "synthvlm.scorers.siglip:SiglipScorer",
        "vqa": "synthvlm.scorers.vqa:VqaScorer",
    },
    on_by_default=("clip", "ssim"),
)


def scorer_label(name: str, settings: ScorerSettings) -> str:
    """The label of a scorer's values, with what tells those of other settings apart."""
    return SCORERS[name].label_of(settings)
