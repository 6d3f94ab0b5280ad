"""The texts of evaluation benchmarks, from files in the formats of caption sources.

A text that is not read is one that nothing is compared with, so what cannot be read is an error.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property

from synthvlm.captions.readers.files import READ_ERRORS, SourceFile, find_files
from synthvlm.captions.readers.normalize import normalize
from synthvlm.captions.readers.parts import Part, find_parts, place_of, unreadable
from synthvlm.captions.readers.records import Fields, MissingColumnError
from synthvlm.captions.readers.sources import source_digest
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, RecipeError

__all__ = ["benchmark_digest", "read_benchmarks"]

_RULE = "benchmark_overlap"
#: Stands for the field of a file without fields.
_LINES = ""


def read_benchmarks(
    files: Sequence[str], text_fields: Sequence[str] = ("caption",), format: str = "auto"
) -> Iterator[str]:
    """Read the texts of benchmarks, in constant memory.

    Each text is given as it is written, and also normalised with all options
    (``captions.normalize``) where that differs: captions are compared in one form or the other.

    Args:
        files: Paths, globs and fsspec URLs of what ``captions.sources`` reads, compressed or not.
        text_fields: Columns or keys that hold texts; of no use to ``txt``, where each line is one.
            A file, or a row, may lack some of them; null, an empty text and a number in a JSON
            file are no text.
        format: A file format of ``captions.sources`` for all files, or ``auto``.

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

    Of the bytes of local files (``captions.sources.source_digest``). Of each file, no more is
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

    def check(self, columns: list[str]) -> None:
        if self.text not in columns:
            raise _NoColumn


class _NoColumn(CaptionSourceError):
    """The table lacks the column."""


def _find(files: Sequence[str]) -> Iterator[SourceFile]:
    for path in files:
        with _as_recipe_errors():
            found = find_files(path)
        yield from found


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
    except _NoColumn:
        return
    except READ_ERRORS as error:
        raise unreadable(part.path, error) from error


def _reason(part: Part, field: str) -> str:
    """What a reader says that must find the field: it names the fields that are there."""
    try:
        records = part.read(Fields(part.path, field, "id"))
        problem = next((record.problem for record in records if record.problem), None)
    except MissingColumnError as error:
        problem = error.problem
    return f": {problem}; set text_fields" if problem else ""


def _kind(file: SourceFile, format: str) -> str:
    return file.suffix if format == "auto" else format


def _error(message: str) -> RecipeError:
    return RecipeError(f"{_RULE}: {message}")


@contextmanager
def _as_recipe_errors() -> Iterator[None]:
    """A benchmark is no caption source: name the rule whose file is wrong."""
    try:
        yield
    except CaptionSourceError as error:
        raise _error(str(error)) from error
