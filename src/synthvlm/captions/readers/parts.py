"""The parts of a source: its files, each with the reader of its format, or a data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO, NamedTuple

from synthvlm.captions.readers.arrow_tables import (
    check_hub_path,
    parquet_files,
    read_hub,
    read_parquet,
)
from synthvlm.captions.readers.file_start import UTF8_MARK
from synthvlm.captions.readers.files import (
    SourceFile,
    file_system,
    find_files,
    reason_of,
    suffix_of,
)
from synthvlm.captions.readers.images import ImageFolder, read_image_file
from synthvlm.captions.readers.json_files import (
    IMAGE_OF_SHAPE,
    read_coco,
    read_json,
    read_json_lines,
    read_llava,
)
from synthvlm.captions.readers.records import AS_USUAL, Fields, Record, TableOptions
from synthvlm.captions.readers.table_form import HEAD_BYTES, Head, has_evident_quotes
from synthvlm.captions.readers.tables import read_cc3m, read_cc12m, read_csv, read_tsv
from synthvlm.captions.readers.text_files import line_form, read_flickr, read_txt
from synthvlm.captions.readers.webdataset import IMAGE_EXTENSIONS, read_webdataset
from synthvlm.errors import CaptionSourceError

__all__ = [
    "FORMATS",
    "HUGGINGFACE",
    "SUFFIXES",
    "FileFormat",
    "Part",
    "find_parts",
    "folder_at",
    "form_facts",
    "kind_of_path",
    "place_of",
    "unreadable",
]

#: The one format that is no file.
HUGGINGFACE = "huggingface"


class FileFormat(NamedTuple):
    """How a format is read.

    Attributes:
        read: The reader.
        unit: What it counts rows in, for messages.
        image_field: Where its rows have their original image by default; None: a source must name
            the field; "": they cannot have any.
    """

    read: Callable[[BinaryIO, Fields], Iterator[Record]]
    unit: str
    image_field: str | None = None


FORMATS: dict[str, FileFormat] = {
    "txt": FileFormat(read_txt, "line", ""),
    "jsonl": FileFormat(read_json_lines, "line"),
    "csv": FileFormat(read_csv, "line"),
    "tsv": FileFormat(read_tsv, "line"),
    "flickr": FileFormat(read_flickr, "line", "image"),
    "cc3m": FileFormat(read_cc3m, "line", ""),
    "cc12m": FileFormat(read_cc12m, "line", ""),
    "json": FileFormat(read_json, "item", IMAGE_OF_SHAPE),
    "parquet": FileFormat(read_parquet, "row"),
    "coco": FileFormat(read_coco, "annotation", "file_name"),
    "llava": FileFormat(read_llava, "item", "image"),
    "webdataset": FileFormat(read_webdataset, "sample", IMAGE_EXTENSIONS),
    "images": FileFormat(read_image_file, "image", "image"),
}

#: The format that an ending stands for.
SUFFIXES = {
    **{name: name for name in ("txt", "jsonl", "csv", "tsv", "json", "parquet")},
    "ndjson": "jsonl",
    "tab": "tsv",
    "token": "flickr",
    "tar": "webdataset",
    **dict.fromkeys(IMAGE_EXTENSIONS.split(";"), "images"),
}


#: What decompressors say of the start of a file that they cannot read.
_NOT_COMPRESSED = re.compile(
    "Not a gzipped file|Invalid data stream|format not supported|Unknown frame descriptor"
)


class Part(NamedTuple):
    """One file of a source, or a whole Hugging Face data set.

    Attributes:
        path: Of the file, for messages: without secrets of a URL.
        unit: What rows are counted in, for messages.
        image_field: As in ``FileFormat``.
        read: Makes the records.
        folder: Makes the folder that its image paths are relative to.
    """

    path: str
    unit: str
    image_field: str | None
    read: Callable[[Fields], Iterator[Record]]
    folder: Callable[[], ImageFolder]


def find_parts(
    path: str,
    format: str,
    split: str,
    subset: str | None,
    revision: str | None,
    place: str | None = None,
    table: TableOptions = AS_USUAL,
) -> list[Part]:
    """The parts of a source, in order; raises where the source cannot be one.

    Args:
        path: As in ``read_captions``.
        format: As there.
        split: As there.
        subset: As there.
        revision: As there.
        place: Of the source in a recipe, for advice.
        table: As in ``read_captions``.
    """
    if format == HUGGINGFACE:
        check_hub_path(path)
        folder = partial(folder_at, path)
        files = parquet_files(path, split, subset, revision)
        if files is None:
            read = partial(read_hub, split=split, subset=subset, revision=revision)
            return [Part(path, "row", None, read, folder)]
        kind = FORMATS["parquet"]
        return [
            Part(file.shown, kind.unit, None, partial(_file_records, file, kind.read), folder)
            for file in files
        ]
    if format != "auto" and format not in FORMATS:
        known = ", ".join([*FORMATS, HUGGINGFACE])
        raise CaptionSourceError(f"{path}: unknown format {format!r}; set format to one of {known}")
    parts = []
    for file in find_files(path):
        name = kind_of_path(file.path, format, table)
        if name is None:
            raise _unknown_format(file, place)
        if table != AS_USUAL and name not in ("csv", "tsv"):
            raise CaptionSourceError(
                f"{file.shown}: header, delimiter and quoting are settings of tables in text, and "
                f"its format is {name}: leave them out{_format_advice(place, 'csv', ', or add ')}"
            )
        kind = FORMATS[name]
        parts.append(
            Part(
                file.shown,
                kind.unit,
                kind.image_field,
                partial(_file_records, file, kind.read),
                partial(_folder_of, file),
            )
        )
    return parts


def kind_of_path(path: str, format: str, table: TableOptions) -> str | None:
    """The format of a file; None where ``auto`` cannot tell. A text of columns is a table."""
    if format != "auto":
        return format
    kind = SUFFIXES.get(suffix_of(path))
    if kind == "txt" and table != AS_USUAL:
        return "csv" if table.delimiter == "," else "tsv"
    return kind


def form_facts(file: SourceFile, kind: str | None, table: TableOptions) -> Sequence[str]:
    """What of how a text file is written is not as usual, and changes what is read of it."""
    if kind not in ("txt", "tsv"):
        return ()
    with file.open() as content:
        start = content.read(HEAD_BYTES).removeprefix(UTF8_MARK)
    if kind == "tsv":
        quotes = table.quoting is None and has_evident_quotes(
            Head.of(start), table.delimiter or "\t"
        )
        return ("quoted",) if quotes else ()
    form = line_form(start)
    return [*(["returns"] if form.returns else []), *(["flickr"] if form.is_flickr else [])]


def _unknown_format(file: SourceFile, place: str | None) -> CaptionSourceError:
    suffix = suffix_of(file.path)
    if suffix in ("xlsx", "xls", "ods"):
        return CaptionSourceError(f"{file.shown} is a spreadsheet: save it as CSV in UTF-8")
    ending = suffix and f".{suffix}"
    known = ", ".join([*FORMATS, HUGGINGFACE])
    return CaptionSourceError(
        f"{file.shown}: cannot tell the format of captions from the ending {ending!r}; "
        f"set format to one of {known}{_format_advice(place, 'jsonl', ', as in ')}"
    )


def _format_advice(place: str | None, format: str, introduction: str) -> str:
    return Fields("", "", None, place=place).advice("format", format, introduction)


def _file_records(
    file: SourceFile, read: Callable[..., Iterator[Record]], fields: Fields
) -> Iterator[Record]:
    with file.open() as content:
        yield from read(content, fields)


def _folder_of(file: SourceFile) -> ImageFolder:
    return ImageFolder(*file.folder)


def folder_at(path: str) -> ImageFolder:
    """The folder of images at a path or URL, there or not."""
    return ImageFolder(*file_system(path), path)


def place_of(record: Record, unit: str, file: str | None = None) -> str:
    """Where a row stands, for messages.

    Args:
        record: The row.
        unit: What rows are counted in; words in ``record.where`` name theirs themselves.
        file: The file, where there are several.
    """
    place = f"{unit} {record.where}" if isinstance(record.where, int) else record.where or unit
    return place if file is None else f"{file}, {place}"


def unreadable(path: str, error: Exception, rows: int = 0) -> CaptionSourceError:
    """The error of a file of which some rows could be read."""
    after = f" after row {rows}" if rows else ""
    reason = reason_of(error)
    if not rows and _NOT_COMPRESSED.search(reason):
        reason += f": if it is not compressed, rename it to {path.rpartition('.')[0]}"
    return CaptionSourceError(f"{path}: cannot be read{after}: {reason}")
