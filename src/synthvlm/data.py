"""The typed records that cross the stages, and the Arrow schemas of the run folder's tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

__all__ = [
    "CHOSEN_SCORES",
    "MODEL_MEASURES",
    "TEXT_MEASURES",
    "Candidate",
    "Caption",
    "Pair",
    "Preview",
    "candidate_schema",
    "candidate_seed",
    "caption_schema",
    "digest",
    "file_stem",
    "fingerprint",
    "is_sampled",
    "measure_schema",
    "model_measure_schema",
    "pair_schema",
    "preview_schema",
    "selection_schema",
    "table_of",
    "written_schema",
]

#: The model-free measures, in the order in which their rules are applied: the method's five, then
#: the others.
TEXT_MEASURES = (
    "alnum_ratio",
    "char_rep_ratio",
    "flagged_words_ratio",
    "special_char_ratio",
    "word_rep_ratio",
    "char_count",
    "word_count",
    "language",
    "personal_data",
    "person_names",
    "benchmark_overlap",
)

#: The measures that need a model, in the order in which their rules are applied: to captions that
#: passed all the rules before, duplicates removed.
MODEL_MEASURES = (
    "tagged_names",
    "perplexity",
    "image_text_matching",
    "clip_similarity",
    "judge",
    "alignment",
)

#: The scores of a candidate that a selection may bound.
CHOSEN_SCORES = ("clip_score", "ssim_score", "score")


@dataclass(frozen=True, slots=True)
class Caption:
    """One row of a caption source.

    Attributes:
        id: The given id, else ``<source>-<row>``. Unique within a run.
        source: Name of the source in the recipe.
        row: Zero-based position in the source.
        text_raw: The text as it was read ("" where it could not be read).
        text: The normalised text, which rules, prompts and exports use.
        problem: Why the row could not be read, or None.
    """

    id: str
    source: str
    row: int
    text_raw: str
    text: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One generated image of a caption, without its pixels.

    Attributes:
        caption_id: The caption's id.
        index: Zero-based number among the candidates of the caption.
        seed: Seed of the generator that drew the image (0 .. 2**63 - 1).
        status: ``ok``; ``failed``; ``unsafe``, says the image check; ``skipped``, for the caption
            was done before; or ``surplus``: drawn by an earlier attempt, and not needed.
        fingerprint: What the image and its scores depend on.
        clip_score: Cosine similarity, clipped at 0 (0 .. 1); None unless ok.
        ssim_score: Structural similarity (-1 .. 1); None unless ok.
        score: The weighted sum; None unless ok.
        truncated: Whether the scorer's text tower cut the caption off.
        reproducible: Whether the seed determines the image.
        prompt_truncated: Whether the text encoders of the generator cut it off.
        chosen: Whether this is the caption's best candidate.
        problem: Why it failed or is unsafe, or None.
    """

    caption_id: str
    index: int
    seed: int
    status: str
    fingerprint: str
    clip_score: float | None = None
    ssim_score: float | None = None
    score: float | None = None
    truncated: bool = False
    prompt_truncated: bool = False
    reproducible: bool = True
    chosen: bool = False
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """The chosen candidate of a caption with its encoded image.

    Attributes:
        caption_id: The caption's id.
        index: The candidate's number.
        image: The encoded image.
        format: ``png``, ``jpeg`` or ``webp``.
        width: In pixels.
        height: In pixels.
        image_embedding: The scorer's image embedding, unit length.
        text_embedding: The scorer's text embedding, unit length.
    """

    caption_id: str
    index: int
    image: bytes
    format: str
    width: int
    height: int
    image_embedding: Sequence[float] | npt.NDArray[np.float16]
    text_embedding: Sequence[float] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Preview:
    """A thumbnail of a losing candidate, for the report."""

    caption_id: str
    index: int
    thumbnail: bytes


def measure_schema() -> pa.Schema:
    """Schema of ``measures/``: every input caption and its measures, before any verdict."""
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("row", pa.int64()),
            ("text_raw", pa.string()),
            ("text", pa.string()),
            ("problem", pa.string()),
            *((name, pa.float64()) for name in TEXT_MEASURES),
        ]
    )


def model_measure_schema() -> pa.Schema:
    """Schema of ``measures-<rule>/``: what a rule with a model measured, or why it could not."""
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("value", pa.float64()), ("problem", pa.string())])


def written_schema() -> pa.Schema:
    """Schema of ``written-<source>/``: what a model wrote of each image, or why it could not."""
    import pyarrow as pa

    return pa.schema([("row", pa.int64()), ("text", pa.string()), ("problem", pa.string())])


def caption_schema() -> pa.Schema:
    """Schema of ``captions/``: the measure rows with the models' measures and the verdicts."""
    import pyarrow as pa

    schema = measure_schema()
    for name, kind in (
        *((name, pa.float64()) for name in MODEL_MEASURES),
        ("kept", pa.bool_()),
        ("rejected_by", pa.string()),
        ("duplicate_of", pa.string()),
    ):
        schema = schema.append(pa.field(name, kind))
    return schema


def candidate_schema() -> pa.Schema:
    """Schema of ``candidates/``: one row per candidate, the losers too. No pixels."""
    import pyarrow as pa

    return pa.schema(
        [
            ("caption_id", pa.string()),
            ("index", pa.int32()),
            ("seed", pa.int64()),
            ("status", pa.string()),
            ("fingerprint", pa.string()),
            ("clip_score", pa.float64()),
            ("ssim_score", pa.float64()),
            ("score", pa.float64()),
            ("truncated", pa.bool_()),
            ("prompt_truncated", pa.bool_()),
            ("reproducible", pa.bool_()),
            ("chosen", pa.bool_()),
            ("problem", pa.string()),
        ]
    )


def pair_schema() -> pa.Schema:
    """Schema of ``pairs/``: the winner of each caption with its encoded image."""
    import pyarrow as pa

    return pa.schema(
        [
            ("caption_id", pa.string()),
            ("index", pa.int32()),
            ("image", pa.binary()),
            ("format", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("image_embedding", pa.list_(pa.float16())),
            ("text_embedding", pa.list_(pa.float16())),
        ]
    )


def preview_schema() -> pa.Schema:
    """Schema of ``previews/``: thumbnails (WebP) of losing candidates."""
    import pyarrow as pa

    return pa.schema(
        [("caption_id", pa.string()), ("index", pa.int32()), ("thumbnail", pa.binary())]
    )


def selection_schema() -> pa.Schema:
    """Schema of ``selection.parquet``: one row per selected pair, best first."""
    import pyarrow as pa

    return pa.schema(
        [
            ("rank", pa.int64()),
            ("caption_id", pa.string()),
            ("index", pa.int32()),
            ("clip_score", pa.float64()),
            ("ssim_score", pa.float64()),
            ("score", pa.float64()),
            ("shard", pa.int32()),
        ]
    )


def table_of(records: Sequence[object], schema: pa.Schema) -> pa.Table:
    """Records as a table: its columns are their attributes."""
    import pyarrow as pa

    columns = {name: [getattr(record, name) for record in records] for name in schema.names}
    return pa.Table.from_pydict(columns, schema)


def fingerprint(*parts: object) -> str:
    """A short stable hash of the ``repr`` of plain values (strings, numbers, tuples, None)."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        text = repr(part).encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.hexdigest()


def candidate_seed(run_seed: int, caption_id: str, index: int) -> int:
    """The seed (0 .. 2**63 - 1) of one candidate: a stable hash of run seed and key."""
    return int(fingerprint("seed", run_seed, caption_id, index)[:16], 16) >> 1


def file_stem(caption_id: str) -> str:
    """A safe file name for a caption: 32 hex digits of a hash, never text of the id."""
    data = caption_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def is_sampled(caption_id: str, share: float) -> bool:
    """Whether a hash of the id falls into the given share (0 .. 1) of all captions."""
    return int(fingerprint("sample", caption_id)[:8], 16) < share * 2**32


def digest(chunks: Iterable[bytes]) -> str:
    """Checksum (hex) of a byte stream."""
    result = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        result.update(chunk)
    return result.hexdigest()
