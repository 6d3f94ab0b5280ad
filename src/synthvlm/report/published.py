"""Published scores of other data sets, and the scorers they were measured with."""

from __future__ import annotations

__all__ = ["PUBLISHED", "is_comparable"]

#: Mean CLIPScore and SSIMScore as published (arXiv 2407.20756).
PUBLISHED = (
    ("COCO-Caption", 0.31, 0.73),
    ("BLIP-LCS (LLaVA 558K)", 0.32, 0.75),
    ("ShareGPT4V", 0.32, 0.79),
    ("SynthVLM-100K", 0.36, 0.86),
)
_CLIP = "openai/clip-vit-base-patch32"
_SIDES = (768, 336)


def is_comparable(clip: str, side: int, model_input_side: int) -> bool:
    """Whether the scorers are those of the published scores.

    Args:
        clip: Hub id of the CLIP model.
        side: Side in pixels at which SSIMScore compares images.
        model_input_side: Side in pixels to which it first scales them down.
    """
    return clip == _CLIP and (side, model_input_side) == _SIDES
