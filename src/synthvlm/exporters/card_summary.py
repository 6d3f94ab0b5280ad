"""The card's answers to what the AI Act's summary of training content asks for.

The Commission's template of July 2025 for Article 53(1)(d) is filled in by who trains a model. Of
the data set it asks for modality, size, sources, models that made synthetic data, and measures.
Here stands what the run knows; what it did not look at is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from synthvlm.exporters.card_image_overlap import ImageOverlapFacts
from synthvlm.safe_text import markdown_table

__all__ = ["SourceFacts", "SummaryFacts", "training_summary"]

#: The template's ranges of images, by their upper ends.
_RANGES = (
    (1_000_000, "less than 1 million images"),
    (1_000_000_000, "1 million to 1 billion images"),
)
_LARGEST_RANGE = "more than 1 billion images"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Where captions come from.

    Attributes:
        name: Of the source.
        section: Of the template, as the row is called, e.g. ``Other sources (2.6)``.
        origin: What was read, and what is not known of it.
        pairs: How many pairs of the data set have its captions.
    """

    name: str
    section: str
    origin: str
    pairs: int


@dataclass(frozen=True, slots=True)
class SummaryFacts:
    """What a run knows for the summary.

    Attributes:
        models: Names of the models that made the images.
        size: Width and height of all images in pixels; None where the run does not set it.
        sources: The sources of captions.
        image_checks: What images were checked for, e.g. ``unsafe content, by org/model``.
        caption_checks: Those of the rules on ``flagged_words_ratio``, ``personal_data``, ``names``
            and ``language`` by which captions were checked.
        run_fingerprint: That of the images, or None.
        has_details: Whether the images name models, seed and run.
        is_signed: Whether the images have C2PA manifests.
    """

    models: str
    size: tuple[int, int] | None
    sources: Sequence[SourceFacts]
    image_checks: Sequence[str] = ()
    caption_checks: Collection[str] = ()
    run_fingerprint: str | None = None
    has_details: bool = True
    is_signed: bool = False


def training_summary(
    summary: SummaryFacts | None, overlap: ImageOverlapFacts | None = None
) -> list[str]:
    """The section as paragraphs of Markdown; none without facts.

    Args:
        summary: What the run knows.
        overlap: What images were compared with, or None.
    """
    if summary is None:
        return []
    about = (
        "For who trains a general-purpose AI model on this data set: what the template of the "
        "European Commission of July 2025 for the public summary of training content (EU AI Act, "
        "Article 53(1)(d)) asks for, as far as the run knows it; in brackets, the section of the "
        "template. No legal advice."
    )
    rows = [
        ("Modalities (1.3)", "image and text: one caption for each image"),
        ("Size (1.3)", _size(summary)),
        ("Types of content (1.3)", _content(summary)),
        ("Date of collection (1.3)", "not recorded in the data set"),
        *_sources(summary),
        ("People", _people(summary)),
        ("Rights (3.1)", _rights(overlap)),
        ("Illegal content (3.2)", _illegal(summary)),
        ("Other measures (3.3)", "see Counts and Captions; personal data: see People"),
        ("Marks", _marks(summary)),
    ]
    return ["## Summary of training content", about, markdown_table(("asked for", "answer"), rows)]


def _size(summary: SummaryFacts) -> str:
    count = sum(source.pairs for source in summary.sources)
    span = next((name for end, name in _RANGES if count < end), _LARGEST_RANGE)
    pixels = "" if summary.size is None else f", each {summary.size[0]} x {summary.size[1]} pixels"
    return f"{count:,} images{pixels} (range: {span}); as many captions, tokens not counted"


def _content(summary: SummaryFacts) -> str:
    is_checked = "language" in summary.caption_checks
    language = "whose language was checked" if is_checked else "their language was not determined"
    return f"images: synthetic, no photographs; text: captions of images, {language}"


def _sources(summary: SummaryFacts) -> list[tuple[str, str]]:
    """Section 2 of the template: a row for the images, and one for each source of captions."""
    rows = [
        ("Synthetic data (2.5): images", f"all, made for this data set by: {summary.models}"),
    ]
    rows += [
        (
            one.section,
            f"{one.name}: captions of {one.pairs:,} pairs, {one.origin}",
        )
        for one in summary.sources
    ]
    rows.append(
        (
            "Crawled data, data of users (2.3, 2.4)",
            "none collected by the run; whether the sources above hold any is not known to it",
        )
    )
    return rows


def _people(summary: SummaryFacts) -> str:
    what = {
        "personal_data": "personal data such as addresses and phone numbers",
        "names": "names of people",
    }
    checked = [text for check, text in what.items() if check in summary.caption_checks]
    captions = (
        f"captions were checked for {' and for '.join(checked)}"
        if checked
        else "captions were not checked for personal data or names"
    )
    faces = [check for check in summary.image_checks if "face" in check.lower()]
    images = (
        f"images were checked for {' and '.join(faces)}"
        if faces
        else "whether images show people was not checked"
    )
    return f"{captions}; {images}; whether any resembles a real person was not checked"


def _rights(overlap: ImageOverlapFacts | None) -> str:
    unchecked = (
        "whether captions are under a reservation of rights (Directive (EU) 2019/790, "
        "Article 4(3)), what the generating models were trained on, and whether images resemble "
        "protected works was not checked"
    )
    if overlap is not None:
        unchecked += f", but for copies of {overlap.references:,} reference images: see Captions"
    return f"{unchecked}; licences: see Models, captions and their terms"


def _illegal(summary: SummaryFacts) -> str:
    is_checked = "flagged_words_ratio" in summary.caption_checks
    captions = f"captions were {'' if is_checked else 'not '}checked for flagged words"
    checks = " and for ".join(summary.image_checks)
    images = f"images were checked for {checks}" if checks else "images were not checked"
    return f"{captions}; {images}; for illegal content as such neither was"


def _marks(summary: SummaryFacts) -> str:
    mark = "each image says in its XMP that a trained model made it (trainedAlgorithmicMedia)"
    if summary.has_details:
        mark += ", with models, seed and run fingerprint"
    if summary.run_fingerprint is not None and summary.has_details:
        mark += f" ({summary.run_fingerprint})"
    return mark + ("; each has a signed C2PA manifest" if summary.is_signed else "")
