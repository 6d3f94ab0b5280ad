"""LLaVA conversations: those about no image are left out where others are about one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, BinaryIO

from synthvlm.captions.readers.records import NO_IMAGE, Fields, Record

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["IMAGE_NAMES", "conversations", "may_lack_images"]

#: Fields that name the image of a conversation.
IMAGE_NAMES = re.compile("image|img|photo|picture|^file_?name$|^path$|^url$", re.IGNORECASE)


def conversations(
    read: Callable[[BinaryIO, Fields], Iterator[Record]], file: BinaryIO, fields: Fields
) -> Iterator[Record]:
    """The records of a file of conversations; those without an image are left out if any has one.

    The file is read up to the first that has an image, and then from its start.

    Args:
        read: Reads the file.
        file: The file.
        fields: What is asked for; rows of images are as many either way.
    """
    if fields.image is None:
        chosen = replace(fields, only_with_image=True, say=lambda line: None)
        rows = (row.text is not NO_IMAGE for row in read(file, chosen) if row.problem is None)
        if any(rows):
            fields = replace(fields, only_with_image=True)
        else:
            fields.note("no conversation has an image: all are read")
        file.seek(0)
    yield from read(file, fields)


def may_lack_images(group: pq.RowGroupMetaData) -> bool:
    """Whether rows of a row group may have no image, by the statistics of its columns."""
    for number in range(group.num_columns):
        column = group.column(number)
        known = column.statistics
        if IMAGE_NAMES.search(column.path_in_schema.split(".")[0]) and known is not None:
            is_blank = not known.has_min_max or known.min in ("", b"")
            if known.has_null_count and known.null_count == 0 and not is_blank:
                return False
    return True
