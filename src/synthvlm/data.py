"""The typed records that cross the stages, and the Arrow schemas of the run folder's tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

__all__ = [
    "PLAIN_CAPTION",
    "PLAIN_QUESTIONS",
    "WITH_IMAGE",
    "Candidate",
    "Caption",
    "Pair",
    "Preview",
    "candidate_schema",
    "candidate_seed",
    "candidate_table",
    "caption_schema",
    "digest",
    "file_stem",
    "fingerprint",
    "is_sampled",
    "measure_schema",
    "model_measure_schema",
    "pair_schema",
    "preview_schema",
    "remark_column",
    "score_column",
    "scorer_of",
    "selection_schema",
    "table_of",
    "take_rows",
    "written_schema",
]


#: Statuses of candidates that have an image, and may win by another recipe.
WITH_IMAGE = ("ok", "rejected", "outranked")
_SCORE, _REMARKS = "_score", "_remarks"  # the ends of names of columns
#: What every generator can make an image of, every scorer score and every rule measure. Where it
#: fails too, the model is to blame and not the captions.
PLAIN_CAPTION = "A red apple lies on a wooden table."
#: Questions about it.
PLAIN_QUESTIONS = ("Is there an apple?", "Is the apple red?", "Is there a wooden table?")
#: About so many bytes ``take_rows`` puts into one chunk; a column of text holds below 2 GiB.
_BYTES_OF_A_CHUNK = 2**28


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
        size: Rows or lines of the file that it stands for: what a problem loses.
    """

    id: str
    source: str
    row: int
    text_raw: str
    text: str
    problem: str | None = None
    size: int = 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One generated image of a caption, without its pixels.

    Attributes:
        caption_id: The caption's id.
        index: Zero-based number among the candidates of the caption.
        seed: The image generator's seed (0 .. 2**63 - 1).
        status: ``ok``; ``failed``; ``pending``, because the run was stopped before; ``unsafe``, by
            the image check; ``rejected``, by the minimum of a scorer; ``outranked``, because it is
            not among the candidates that all scorers see; or ``skipped``, because the caption was
            done before. Early versions also stored ``surplus``, for ``ok`` candidates that did not
            count.
        fingerprint: What the image and its scores depend on.
        scores: The value of each scorer that has seen it, by name; empty where there is no image.
        remarks: What scorers have to say besides, by their names; those that have something.
        score: The weighted sum; None unless ok.
        truncated: Whether the scorer's text tower cut the caption off.
        reproducible: Whether the seed determines the image.
        prompt_truncated: Whether the text encoders of the generator cut it off.
        chosen: Whether this is the caption's best candidate.
        problem: Why it failed, is pending, unsafe or rejected, or None.
    """

    caption_id: str
    index: int
    seed: int
    status: str
    fingerprint: str
    scores: Mapping[str, float] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None
    truncated: bool = False
    prompt_truncated: bool = False
    reproducible: bool = True
    chosen: bool = False
    problem: str | None = None

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Candidate:
        """A candidate from a row of ``candidates/``; columns that it does not know are left out."""
        known = {name: row[name] for name in _CANDIDATE_COLUMNS if name in row}
        scores = {
            scorer: value
            for name, value in row.items()
            if value is not None and (scorer := scorer_of(name)) is not None
        }
        texts = ((name, text) for name, text in row.items() if name.endswith(_REMARKS) and text)
        remarks = {name.removesuffix(_REMARKS): text for name, text in texts}
        return cls(**known, scores=scores, remarks=remarks)


#: The columns of ``candidates/`` besides the scores and remarks.
_CANDIDATE_COLUMNS = tuple(f.name for f in fields(Candidate) if f.name not in ("scores", "remarks"))


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
        image_embedding: Of the first scorer that embeds, unit length; None where none does.
        text_embedding: The same of the caption.
    """

    caption_id: str
    index: int
    image: bytes
    format: str
    width: int
    height: int
    image_embedding: Sequence[float] | npt.NDArray[np.float16] | None = None
    text_embedding: Sequence[float] | npt.NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A thumbnail of a losing candidate, for the report."""

    caption_id: str
    index: int
    thumbnail: bytes


def measure_schema(rules: Sequence[str] = ()) -> pa.Schema:
    """Schema of ``measures/``: every input caption and its measures, before any verdict.

    Args:
        rules: Names of the rules that measured; each has a column.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("row", pa.int64()),
            ("text_raw", pa.string()),
            ("text", pa.string()),
            ("problem", pa.string()),
            *((name, pa.float64()) for name in rules),
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


def caption_schema(rules: Sequence[str] = ()) -> pa.Schema:
    """Schema of ``captions/``: the captions with the measures of rules, and the verdicts.

    Args:
        rules: As in ``measure_schema``, those with models among them.
    """
    import pyarrow as pa

    schema = measure_schema(rules)
    for name, kind in (
        ("kept", pa.bool_()),
        ("rejected_by", pa.string()),
        ("duplicate_of", pa.string()),
    ):
        schema = schema.append(pa.field(name, kind))
    return schema


def candidate_schema(scorers: Sequence[str], with_remarks: Sequence[str] = ()) -> pa.Schema:
    """Schema of ``candidates/``: one row per candidate, the losers too. No pixels.

    Args:
        scorers: Names of the scorers; each has a column.
        with_remarks: Those of them that have remarks, for which there is one more.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("caption_id", pa.string()),
            ("index", pa.int32()),
            ("seed", pa.int64()),
            ("status", pa.string()),
            ("fingerprint", pa.string()),
            *((score_column(name), pa.float64()) for name in scorers),
            *((remark_column(name), pa.string()) for name in with_remarks),
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


def selection_schema(scorers: Sequence[str]) -> pa.Schema:
    """Schema of ``selection.parquet``: one row per selected pair, best first.

    Args:
        scorers: Names of the scorers; each has a column.
    """
    import pyarrow as pa

    return pa.schema(
        [
            ("rank", pa.int64()),
            ("caption_id", pa.string()),
            ("index", pa.int32()),
            *((score_column(name), pa.float64()) for name in scorers),
            ("score", pa.float64()),
            ("shard", pa.int32()),
        ]
    )


def score_column(scorer: str) -> str:
    """The column of a scorer's values, in every table of candidates and pairs."""
    return f"{scorer}{_SCORE}"


def remark_column(scorer: str) -> str:
    """The column of a scorer's remarks, in tables of candidates."""
    return f"{scorer}{_REMARKS}"


def scorer_of(column: str) -> str | None:
    """The scorer of a column of scores; None of another column."""
    return column.removesuffix(_SCORE) if column.endswith(_SCORE) else None


def candidate_table(
    candidates: Sequence[Candidate], scorers: Sequence[str], with_remarks: Sequence[str] = ()
) -> pa.Table:
    """Candidates as a table of ``candidate_schema``."""
    import pyarrow as pa

    columns: dict[str, list[object]] = {
        name: [getattr(candidate, name) for candidate in candidates] for name in _CANDIDATE_COLUMNS
    }
    for name in scorers:
        columns[score_column(name)] = [candidate.scores.get(name) for candidate in candidates]
    for name in with_remarks:
        columns[remark_column(name)] = [candidate.remarks.get(name) for candidate in candidates]
    return pa.Table.from_pydict(columns, candidate_schema(scorers, with_remarks))


def table_of(records: Sequence[object], schema: pa.Schema) -> pa.Table:
    """Records as a table: its columns are their attributes."""
    import pyarrow as pa

    columns = {name: [getattr(record, name) for record in records] for name in schema.names}
    return pa.Table.from_pydict(columns, schema)


def take_rows(table: pa.Table, rows: npt.NDArray[np.integer[Any]]) -> pa.Table:
    """Some rows of a table, in the given order; of any size.

    ``Table.take`` and ``Table.sort_by`` first join the chunks of a column, and fail if they hold
    2 GiB of text together, as the ids of a large run do. Here the result has chunks of its own.

    Args:
        table: The table.
        rows: Row numbers, shape (n,), none of them negative.
    """
    import numpy as np
    import pyarrow as pa

    batches = table.to_batches()
    starts = np.cumsum([0, *(len(batch) for batch in batches)])
    at_once = max(1, _BYTES_OF_A_CHUNK * len(table) // max(1, table.nbytes))
    parts = [table.slice(0, 0)]
    for first in range(0, len(rows), at_once):
        wanted = np.asarray(rows[first : first + at_once], np.int64)
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        ends = np.searchsorted(ascending, starts)
        pieces = [
            batch.take(pa.array(ascending[ends[n] : ends[n + 1]] - starts[n]))
            for n, batch in enumerate(batches)
            if ends[n] < ends[n + 1]
        ]
        joined = pa.Table.from_batches(pieces, table.schema)
        parts.append(joined.take(pa.array(np.argsort(order))))
    return pa.concat_tables(parts)


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
