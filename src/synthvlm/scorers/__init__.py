"""What a pair is worth: scorers of pairs, and checks of images."""

from __future__ import annotations

from synthvlm.components.table import Table
from synthvlm.scorers.base import QuestionScorer, Scorer, ScorerSettings, Scores

__all__ = ["SCORERS", "QuestionScorer", "Scorer", "ScorerSettings", "Scores", "scorer_label"]

SCORERS = Table(
    "scorer",
    Scorer,
    {
        "clip": "synthvlm.scorers.clip:ClipScorer",
        "ssim": "synthvlm.scorers.ssim:SsimScorer",
        "siglip": "synthvlm.scorers.siglip:SiglipScorer",
        "open_clip": "synthvlm.scorers.open_clip:OpenClipScorer",
        "vqa": "synthvlm.scorers.vqa:VqaScorer",
        "questions": "synthvlm.scorers.questions:QuestionVerification",
        "pickscore": "synthvlm.scorers.pickscore:PickScoreScorer",
        "hpsv2": "synthvlm.scorers.hpsv2:HpsV2Scorer",
        "imagereward": "synthvlm.scorers.imagereward:ImageRewardScorer",
        "aesthetic": "synthvlm.scorers.aesthetic:AestheticScorer",
    },
    on_by_default=("clip", "ssim"),
)


def scorer_label(name: str, settings: ScorerSettings) -> str:
    """The label of a scorer's values, with what tells those of other settings apart."""
    return SCORERS[name].label_of(settings)
