"""What the card says of images that were compared with reference images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from synthvlm.safe_text import for_markdown

__all__ = ["ImageOverlapFacts", "image_overlap_text"]


@dataclass(frozen=True, slots=True)
class ImageOverlapFacts:
    """What images were compared with.

    Attributes:
        names: The last parts of the paths of the reference images.
        references: Reference images that were compared.
        unreadable: Those that could not be read.
        max_similarity: Above it, an image is a near copy.
        left_out: Pairs that were left out.
    """

    names: Sequence[str]
    references: int
    unreadable: int
    max_similarity: float
    left_out: int


def image_overlap_text(facts: ImageOverlapFacts | None) -> str:
    """What was compared with what, how, and what was found."""
    if facts is None:
        return (
            "Generated images were **not** compared with reference images or those of benchmarks."
        )
    names = ", ".join(for_markdown(name) for name in facts.names)
    unreadable = (
        f" {facts.unreadable:,} more could not be read, and were not compared."
        if facts.unreadable
        else ""
    )
    return (
        f"The images of all pairs that have the minimum scores were compared with "
        f"{facts.references:,} reference images ({names}), whole, cropped and flipped: by colours "
        f"in 8 x 8 pixels, and the most similar ones by the correlation of colours and details "
        f"after alignment. Left out as near copies (similarity above {facts.max_similarity:g}): "
        f"{facts.left_out:,}.{unreadable} Copies of other images, of small parts, or in another "
        f"style were not looked for."
    )
