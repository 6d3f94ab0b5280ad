"""Captions that overlap evaluation benchmarks, found by the n-grams that both hold.

A model that is trained on a benchmark's texts is not measured by it. The overlap of n-grams of
words is how GPT-3's authors looked for such texts (arXiv 2005.14165, appendix C: of 13 words, and
of 8 for benchmarks of short texts).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from synthvlm.captions.readers.files import READ_ERRORS, SourceFile, find_files, suffix_of
from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.readers.parts import Part, find_parts, place_of, unreadable
from synthvlm.captions.readers.records import Fields, MissingColumnError
from synthvlm.captions.readers.sources import source_digest
from synthvlm.captions.rules.base import RuleSettings, TextRule
from synthvlm.captions.rules.batch import TextBatch, Words
from synthvlm.captions.rules.ngrams import BASE, mix
from synthvlm.components.component import LoadContext
from synthvlm.components.settings import Identify, InHash, SourcePath
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, RecipeError

__all__ = ["BenchmarkOverlap", "benchmark_digest", "read_benchmarks"]

#: A table of 64 KiB at least, for few n-grams, and 16 MiB at most.
_MIN_BITS, _MAX_BITS = 16, 24
#: Characters of a batch of benchmark texts.
_BATCH_CHARS = 1 << 16
#: Hashes that are gathered before they are merged, at least.
_MIN_PENDING = 1 << 20


class BenchmarkOverlapSettings(RuleSettings):
    """Bounds on the share of n-grams of words that occur in evaluation benchmarks."""

    max: Annotated[float | None, InHash.NEVER] = Field(0.0, description="Highest that passes.")
    files: list[SourcePath] = Field(min_length=1, description="Files, globs or fsspec URLs.")
    text_fields: list[Annotated[str, Field(min_length=1)]] = Field(
        ["caption"], min_length=1, description="Columns or keys of texts; a file may lack some."
    )
    format: Literal["auto", "txt", "json", "jsonl", "csv", "tsv", "parquet", "coco"] = Field(
        "auto", description="Of all files; auto: each by its ending."
    )
    ngram: Annotated[int, InHash.ALWAYS] = Field(8, ge=1, description="Words of an n-gram.")


class BenchmarkOverlap(TextRule):
    """Share of a text's n-grams that occur in the texts of benchmarks; 0 where there is no word.

    An n-gram is n refined words in a row (``TextBatch.words``: lower case, without punctuation and
    digits at their ends, so that a number is no word). A text of fewer words is one n-gram as a
    whole: a short caption matches a benchmark text that is the same few words, not one that merely
    holds them, and a short benchmark text matches no longer caption.

    The distinct n-grams of the benchmarks are held as sorted 64-bit hashes, 8 bytes each, with a
    table of at most 16 MiB; while they are gathered, they take up to five times as much. Of 10**12
    n-grams of captions, one is taken for one of a million by accident with a probability of 5 %.
    """

    name: ClassVar[str] = "benchmark_overlap"
    label = "Benchmark overlap"
    Settings = BenchmarkOverlapSettings

    @classmethod
    def load(cls, settings: BenchmarkOverlapSettings, context: LoadContext) -> BenchmarkOverlap:
        """Read the benchmarks, see ``from_files``."""
        return cls.from_files(settings.files, settings.text_fields, settings.format, settings.ngram)

    @classmethod
    def identity(cls, settings: BenchmarkOverlapSettings, identify: Identify) -> object:
        """What the files hold: files that moved are the same benchmarks."""
        content = benchmark_digest(settings.files, settings.text_fields, settings.format)
        return content, settings.text_fields, settings.format, settings.ngram

    def __init__(self, texts: Iterable[str], ngram: int = 8) -> None:
        """Hash the n-grams of the texts, which are read once.

        Args:
            texts: The texts of the benchmarks.
            ngram: Words of an n-gram; ValueError unless at least 1.
        """
        if ngram < 1:
            raise ValueError(f"ngram must be at least 1, got {ngram}")
        self.ngram = ngram
        self._hashes = _distinct_hashes(texts, ngram)
        # Nearly all n-grams of captions end at this table; the search takes many cache misses.
        bits = min(max((8 * len(self._hashes)).bit_length(), _MIN_BITS), _MAX_BITS)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, np.bool_)
        self._table[self._bucket(self._hashes)] = True

    @classmethod
    def from_files(
        cls,
        files: Sequence[str],
        text_fields: Sequence[str] = ("caption",),
        format: str = "auto",
        ngram: int = 8,
    ) -> BenchmarkOverlap:
        """Compare with the texts of files, see ``read_benchmarks``.

        Raises:
            RecipeError: As ``read_benchmarks``; also: all files together hold no word.
            ValueError: ``ngram`` is below 1.
            MissingExtraError: The file system needs a package that is not installed.
        """
        rule = cls(read_benchmarks(files, text_fields, format), ngram)
        if not len(rule):
            raise RecipeError(
                f"{cls.name}: {', '.join(files)}: there is no word, only numbers and punctuation"
            )
        return rule

    def __len__(self) -> int:
        """Distinct n-grams of the benchmarks."""
        return len(self._hashes)

    def _bucket(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        return (hashes >> self._shift).astype(np.intp)

    def measure(self, batch: TextBatch) -> npt.NDArray[np.float64]:
        """The share (0 .. 1) of each text, shape (len(batch),)."""
        hashes, rows = _ngrams(batch.words, self.ngram)
        suspects = np.flatnonzero(self._table[self._bucket(hashes)])
        at = np.searchsorted(self._hashes, hashes[suspects])
        at = np.minimum(at, len(self) - 1)
        shared = suspects[self._hashes[at] == hashes[suspects]]
        counts = np.bincount(rows, minlength=len(batch))
        return np.bincount(rows[shared], minlength=len(batch)) / np.maximum(counts, 1)


def _ngrams(words: Words, n: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Hash of each n-gram and the row it stands in; shape (n-grams,)."""
    counts = np.diff(words.starts)
    grams = np.where(counts < n, np.minimum(counts, 1), counts - (n - 1))
    rows = np.repeat(np.arange(len(counts)), grams)
    begins = np.arange(len(rows)) + np.repeat(words.starts[:-1] - np.cumsum(grams) + grams, grams)
    lengths = np.minimum(counts, n)[rows]
    # The length comes first, so that no short n-gram is the beginning of a long one.
    hashes = lengths.astype(np.uint64)
    for offset in range(n):
        inside = np.flatnonzero(lengths > offset)
        hashes[inside] = hashes[inside] * np.uint64(BASE) + words.hashes[begins[inside] + offset]
    return mix(hashes), rows


def _distinct_hashes(texts: Iterable[str], n: int) -> npt.NDArray[np.uint64]:
    """The hashes of all n-grams, sorted, each once."""
    parts: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    merged = pending = 0
    for batch in _batches(texts):
        parts.append(_ngrams(batch.words, n)[0])
        pending += len(parts[-1])
        if pending > max(merged, _MIN_PENDING):  # so the work of all merges stays small
            parts = [_merged(parts)]
            merged, pending = len(parts[0]), 0
    return _merged(parts)


def _merged(parts: list[npt.NDArray[np.uint64]]) -> npt.NDArray[np.uint64]:
    """The hashes of all parts, sorted, each once; empties the list, to spare memory."""
    hashes = np.concatenate(parts)
    parts.clear()
    hashes.sort()
    is_new = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
    distinct: npt.NDArray[np.uint64] = hashes[is_new]
    return distinct


def _batches(texts: Iterable[str]) -> Iterator[TextBatch]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 1
        if size >= _BATCH_CHARS:
            yield TextBatch(batch)
            batch, size = [], 0
    yield TextBatch(batch)


_RULE = "benchmark_overlap"
#: Stands for the field of a file without fields.
_LINES = ""


def read_benchmarks(
    files: Sequence[str], text_fields: Sequence[str] = ("caption",), format: str = "auto"
) -> Iterator[str]:
    """Read the texts of benchmarks, in constant memory.

    Each text is given as it is written, and also normalised with all options
    (``readers.normalize``) where that differs: captions are compared in one form or the other.

    Args:
        files: Paths, globs and fsspec URLs of what ``readers.sources`` reads, compressed or not.
        text_fields: Columns or keys that hold texts; of no use to ``txt``, where each line is one.
            A file, or a row, may lack some of them; null, an empty text and a number in a JSON
            file are no text.
        format: A file format of ``readers.sources`` for all files, or ``auto``.

    Raises:
        RecipeError: A file is missing, damaged, of unknown format, or holds no text in these
            fields; a row cannot be read; a field is in no file, or something else than text.
        MissingExtraError: The file system needs a package that is not installed.
    """
    seen = set()
    for file in _find(files):
        for field, text in _texts_of_file(file, text_fields, format):
            seen.add(field)
            yield text
            normal = normalize(text)
            if normal != text:
                yield normal
    missing = [field for field in text_fields if field not in seen]
    if missing and seen != {_LINES}:
        names = ", ".join(map(repr, missing))
        raise _error(f"no file holds text in the field {names}; correct or remove it")


def benchmark_digest(
    files: Sequence[str], text_fields: Sequence[str] = ("caption",), format: str = "auto"
) -> str:
    """A hash of what the files hold, whatever their paths and order.

    Of the bytes of local files (``readers.sources.source_digest``). Of each file, no more is
    parsed than tells that there is a text in it.

    Args:
        files: As in ``read_benchmarks``.
        text_fields: As in ``read_benchmarks``.
        format: As in ``read_benchmarks``.

    Raises:
        RecipeError: A file is missing, unreadable, of unknown format, or holds no text.
        MissingExtraError: The file system needs a package that is not installed.
    """
    digests = set()
    for file in _find(files):
        with closing(_texts_of_file(file, text_fields, format)) as texts:
            next(texts)
        with _as_recipe_errors():
            content = source_digest(file.path, format=format)
        digests.add((_kind(file, format), content))
    return fingerprint(sorted(digests))


@dataclass(frozen=True)
class _TextField(Fields):
    """A field of text that a file or a row may lack."""

    @cached_property
    def required(self) -> tuple[str, ...]:
        return ()

    def check(
        self, columns: list[str], texts: Sequence[str] | None = None, likely: str | None = None
    ) -> None:
        if self.text not in columns:
            raise _NoColumn


class _NoColumn(CaptionSourceError):
    """The table lacks the column."""


def _find(files: Sequence[str]) -> Iterator[SourceFile]:
    for path in files:
        with _as_recipe_errors():
            matches = find_files(path)
        yield from matches


def _texts_of_file(
    file: SourceFile, text_fields: Sequence[str], format: str
) -> Generator[tuple[str, str]]:
    """The texts of a file, each with its field; at least one."""
    with _as_recipe_errors():
        (part,) = find_parts(file.path, format, "train", None, None)
        lines = _kind(file, format) == "txt"
        empty = True
        for field in (_LINES,) if lines else text_fields:
            for text in _texts_of_field(part, field):
                empty = False
                yield field, text
        if empty:
            fields = "" if lines else f" in {', '.join(map(repr, text_fields))}"
            raise _error(f"{part.path} holds no text{fields}{_reason(part, text_fields[0])}")


def _texts_of_field(part: Part, field: str) -> Iterator[str]:
    try:
        for record in part.read(_TextField(part.path, field, "id")):
            if record.problem is not None:
                raise _error(f"{part.path}, {place_of(record, part.unit)}: {record.problem}")
            if isinstance(record.text, str):
                if record.text.strip():
                    yield record.text
            elif isinstance(record.text, list | dict):
                kind = "a list" if isinstance(record.text, list) else "an object"
                place = f"{part.path}, {place_of(record, part.unit)}"
                raise _error(f"{place}: {field!r} must be a string, not {kind}")
    except (_NoColumn, MissingColumnError):
        return
    except READ_ERRORS as error:
        raise unreadable(part.path, error) from error


def _reason(part: Part, field: str) -> str:
    """What a reader says that must find the field: it names the fields that are there."""
    try:
        records = part.read(Fields(part.path, field, "id"))
        problem = next((record.problem for record in records if record.problem), None)
    except MissingColumnError as error:
        problem = error.problem + error.advice
    return f": {problem}; set text_fields" if problem else ""


def _kind(file: SourceFile, format: str) -> str:
    return suffix_of(file.path) if format == "auto" else format


def _error(message: str) -> RecipeError:
    return RecipeError(f"{_RULE}: {message}")


@contextmanager
def _as_recipe_errors() -> Iterator[None]:
    """A benchmark is no caption source: name the rule whose file is wrong."""
    try:
        yield
    except CaptionSourceError as error:
        raise _error(str(error)) from error
