"""One reader per format of captions: an open binary file in, records out, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from synthvlm.captions.readers.image_files import read_image_file
from synthvlm.captions.readers.json_files import read_coco, read_json, read_llava
from synthvlm.captions.readers.lines import read_jsonl, read_txt
from synthvlm.captions.readers.parquet import read_parquet
from synthvlm.captions.readers.records import Fields, Record
from synthvlm.captions.readers.tables import read_csv, read_tsv
from synthvlm.captions.readers.webdataset import IMAGE_EXTENSIONS, read_webdataset

__all__ = ["FORMATS", "HUGGINGFACE", "SUFFIXES", "FileFormat"]

#: The one format that is no file.
HUGGINGFACE = "huggingface"


class FileFormat(NamedTuple):
    """How a format is read.

    Attributes:
        read: The reader.
        unit: What it counts rows in, for messages.
        image_field: Where its rows have their original image unless told otherwise; None: nowhere
            in particular; "": they cannot have any.
    """

    read: Callable[[BinaryIO, Fields], Iterator[Record]]
    unit: str
    image_field: str | None = None


FORMATS: dict[str, FileFormat] = {
    "txt": FileFormat(read_txt, "line", ""),
    "jsonl": FileFormat(read_jsonl, "line"),
    "csv": FileFormat(read_csv, "line"),
    "tsv": FileFormat(read_tsv, "line"),
    "json": FileFormat(read_json, "item"),
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
