"""The parts of a source: its files, each with the reader of its format, or a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO, NamedTuple

from synthvlm.captions.readers.arrow_tables import (
    check_hub_path,
    parquet_files,
    read_hub,
    read_parquet,
)
from synthvlm.captions.readers.files import SourceFile, file_system, find_files, reason_of
from synthvlm.captions.readers.images import ImageFolder, read_image_file
from synthvlm.captions.readers.json_files import (
    IMAGE_OF_SHAPE,
    read_coco,
    read_json,
    read_json_lines,
    read_llava,
)
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.captions.readers.text_files import read_csv, read_tsv, read_txt
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
    "tar": "webdataset",
    **dict.fromkeys(IMAGE_EXTENSIONS.split(";"), "images"),
}


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
) -> list[Part]:
    """The parts of a source, in order; raises where the source cannot be one.

    Args:
        path: As in ``read_captions``.
        format: As there.
        split: As there.
        subset: As there.
        revision: As there.
        place: Of the source in a recipe, for advice.
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
        kind = FORMATS[_format_of(file, place) if format == "auto" else format]
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


def _format_of(file: SourceFile, place: str | None) -> str:
    if file.suffix not in SUFFIXES:
        ending = file.suffix and f".{file.suffix}"
        advice = Fields(file.path, "", None, place=place).advice("format", "jsonl", ", as in ")
        raise CaptionSourceError(
            f"{file.path}: cannot tell the format of captions from the ending {ending!r}; "
            f"set format to one of {', '.join([*FORMATS, HUGGINGFACE])}{advice}"
        )
    return SUFFIXES[file.suffix]


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
    return CaptionSourceError(f"{path}: cannot be read{after}: {reason_of(error)}")
