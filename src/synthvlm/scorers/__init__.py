"""What a pair is worth: scorers of pairs, and checks of images."""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.scorers.base import Scorer, ScorerSettings, Scores

__all__ = ["SCORERS", "Scorer", "ScorerSettings", "Scores"]

SCORERS = Table(
    "scorer",
    Scorer,
    {
        "clip": "synthvlm.scorers.clip:ClipScorer",
        "ssim": "synthvlm.scorers.ssim:SsimScorer",
        "siglip": "synthvlm.scorers.siglip:SiglipScorer",
    },
    on_by_default=("clip", "ssim"),
)
