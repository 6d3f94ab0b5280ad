"""Parquet files of conversations or messages, with the images in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.arrow_tables import rows_at_a_time
from synthvlm.captions.readers.files import READ_ERRORS, SourceFile, find_files
from synthvlm.captions.readers.images import ImageFolder, ImageProblem
from synthvlm.captions.readers.parts import unreadable
from synthvlm.data_sets.conversations import (
    IMAGE_MARK,
    BadRecord,
    Conversation,
    conversation_of,
)
from synthvlm.data_sets.pairs import (
    NO_IMAGE,
    BadPair,
    Entry,
    LoadedPair,
    Split,
    SplitFile,
    conversation_entry,
    loaded,
)
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ConversationTables", "text_column"]

_TALKS, _IMAGES = ("messages", "conversations"), ("images", "image")
_TEXTS = ("caption", "text")
_ROWS = 32
#: Stands for the name of an image that is in its row, or not read.
_IN_ROW = "image"


def text_column(path: str) -> str:
    """The column of captions of Parquet files: ``caption``, ``text``, or one of conversations.

    Raises:
        CaptionSourceError: There is no such file, or the first is none of Parquet.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = find_files(path)[0]
    try:
        with first.open() as file:
            names = pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, *READ_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise CaptionSourceError(f"{first.path}: not a usable Parquet file: {reason}") from error
    return next((name for name in (*_TEXTS, *_TALKS) if name in names), "caption")


class ConversationTables:
    """Parquet files with a column of conversations or messages; the caption is the first answer.

    Images are ``{bytes, path}`` or bytes, one a row; a path is relative to the file's folder.

    Attributes:
        files: Files or globs, in the order in which they are read.
    """

    def __init__(self, label: str, path: str, files: Sequence[SplitFile]) -> None:
        """Take the paths; nothing is read yet."""
        self.label, self.path, self.files = label, path, tuple(files)

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for row in self._rows(with_images=False):
            yield conversation_entry(row.conversation(), row.split)

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        for row in self._rows(with_images=True):
            entry = conversation_entry(row.conversation(), row.split)
            if isinstance(entry, BadPair):
                continue
            if len(row.images) > 1:
                problem = f"it has {len(row.images)} images, and a pair has one"
                yield BadPair(entry.where, "missing image", problem)
                continue
            try:
                yield loaded(entry, row.image())
            except ImageProblem as error:
                yield BadPair(entry.where, "missing image", str(error))

    def located(self) -> Iterator[tuple[Entry, int] | BadPair]:
        """See ``LocatedDataSet``: an image is named by its row in all files together."""
        for place, row in enumerate(self._rows(with_images=False)):
            entry = conversation_entry(row.conversation(), row.split)
            yield entry if isinstance(entry, BadPair) else (entry, place)

    def read_images(self, places: Sequence[int]) -> Iterator[bytes | str]:
        """See ``LocatedDataSet``."""
        remaining = iter(places)
        place = next(remaining, None)
        for number, row in enumerate(self._rows(with_images=True)):
            while place == number:
                try:
                    yield row.image() or NO_IMAGE
                except ImageProblem as error:
                    yield str(error)
                place = next(remaining, None)
            if place is None:
                return

    def for_training(self) -> ConversationTables:
        """Without the files that are held out."""
        files = [file for file in self.files if file.split == "train"]
        return ConversationTables(self.label, self.path, files)

    def conversations(self) -> Iterator[tuple[Conversation | BadRecord, bytes]]:
        """Every conversation with its image; b"" where it has none."""
        for row in self._rows(with_images=True):
            record = row.conversation(len(row.images))
            try:
                yield record, row.image() or b""
            except ImageProblem as error:
                yield BadRecord(record.where, str(error)), b""

    def _rows(self, *, with_images: bool) -> Iterator[_Row]:
        import pyarrow as pa

        for split_file in self.files:
            for file in find_files(split_file.path):
                folder = ImageFolder(*file.folder)
                try:
                    for number, values in enumerate(_values(file, with_images=with_images), 1):
                        yield _Row(values, number, file.shown, folder, split_file.split)
                except (pa.ArrowException, *READ_ERRORS) as error:
                    raise unreadable(file.shown, error) from error


@dataclass(frozen=True, slots=True)
class _Row:
    values: dict[str, Any]
    number: int
    path: str
    folder: ImageFolder
    split: Split

    @property
    def images(self) -> list[Any]:
        given = self.values.get("images", self.values.get("image"))
        return given if isinstance(given, list) else [] if given is None else [given]

    def image(self) -> bytes | None:
        """The encoded image; None where there is none.

        Raises:
            ImageProblem: It cannot be had.
        """
        return self.folder.read(self.images[0]) if self.images else None

    def conversation(self, images: int | None = None) -> Conversation | BadRecord:
        """The conversation; None: as many images as it has marks for, since they are not read."""
        named = {name: value for name, value in self.values.items() if name not in _IMAGES}
        if images is None:
            talks = named.get("conversations")
            images = 1 if talks is None or IMAGE_MARK in str(talks) else 0
        if "conversations" in named and images:
            named["image"] = _IN_ROW
        elif images:
            named["images"] = [_IN_ROW] * images
        return conversation_of(named, self.path, self.number)


def _values(file: SourceFile, *, with_images: bool) -> Iterator[dict[str, Any]]:
    """The rows of a file, with the column of images or without."""
    import pyarrow.parquet as pq

    with file.open() as content:
        table = pq.ParquetFile(content, pre_buffer=False, buffer_size=1 << 20)
        names = table.schema_arrow.names
        columns = [name for name in ("id", *_TALKS) if name in names]
        if with_images:
            columns += [name for name in _IMAGES if name in names][:1]
        for group in range(table.num_row_groups):
            size = rows_at_a_time(table, group, columns, _ROWS)
            for batch in table.iter_batches(size, row_groups=[group], columns=columns):
                yield from _decoded(batch)


def _decoded(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows of a batch; one with text that is not UTF-8 holds nothing."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for number in range(len(batch)):
            try:
                yield from batch.slice(number, 1).to_pylist()
            except UnicodeDecodeError:
                yield {}
