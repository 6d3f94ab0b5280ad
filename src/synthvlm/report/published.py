"""Published scores of other data sets, and the scorers they were measured with."""

from __future__ import annotations

from collections.abc import Iterator

from synthvlm.scorers.clip import ClipSettings
from synthvlm.scorers.ssim import SsimSettings

__all__ = ["PUBLISHED", "PUBLISHED_CLIP", "differences"]

#: Mean CLIPScore and SSIMScore as published (arXiv 2407.20756).
PUBLISHED = (
    ("COCO-Caption", 0.31, 0.73),
    ("BLIP-LCS (LLaVA 558K)", 0.32, 0.75),
    ("ShareGPT4V", 0.32, 0.79),
    ("SynthVLM-100K", 0.36, 0.86),
)
#: The CLIP model that they were measured with, and the sides of SSIMScore in pixels: that at which
#: it compares images, and that to which it first scales them down.
PUBLISHED_CLIP = "openai/clip-vit-base-patch32"
_SIDE, _MODEL_INPUT_SIDE = 768, 336


def differences(clip: ClipSettings | None, ssim: SsimSettings | None) -> Iterator[str]:
    """In which settings CLIPScore and SSIMScore are not those of the published scores.

    Args:
        clip: Settings of CLIPScore; None where it is off, which is no difference.
        ssim: Settings of SSIMScore, likewise.
    """
    if clip is not None and clip.model != PUBLISHED_CLIP:
        yield (
            f"CLIPScores are by {clip.model}, the published ones by CLIP ViT-B/32: not comparable"
        )
    if clip is not None and clip.prefix != (prefix := ClipSettings().prefix):
        yield (
            f"CLIPScores are with the prefix {clip.prefix!r}, the published ones with "
            f"{prefix!r}: not comparable"
        )
    if ssim is not None and (ssim.side, ssim.model_input_side) != (_SIDE, _MODEL_INPUT_SIDE):
        yield (
            f"SSIMScores are at {ssim.side} pixels through {ssim.model_input_side}, the "
            f"published ones at {_SIDE} through {_MODEL_INPUT_SIDE}: not comparable"
        )
