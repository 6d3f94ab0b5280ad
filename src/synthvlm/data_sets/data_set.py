"""Data sets of image-caption pairs, read as a stream: LLaVA JSON, WebDataset, Parquet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from synthvlm.data import Caption

__all__ = ["BadPair", "DataSet", "Entry", "LlavaDataSet", "LoadedPair", "TableDataSet"]

#: What can be wrong with a pair: its record, an image that is not there, one that is broken, one
#: that a scorer has no number for.
Fault = Literal["bad record", "missing image", "broken image", "no score"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A caption of a data set, whose image is not read yet.

    Attributes:
        where: Its place, for messages.
        id: As in the data set; not always unique.
        caption: The caption.
    """

    where: str
    id: str
    caption: str


@dataclass(frozen=True, slots=True)
class BadPair:
    """A record that is no usable pair, and why."""

    where: str
    fault: Fault
    problem: str


@dataclass(frozen=True, slots=True)
class LoadedPair:
    """A caption with its encoded image."""

    entry: Entry
    image: bytes


class DataSet(Protocol):
    """Image-caption pairs, which may be gone through several times.

    Attributes:
        label: What it is called.
        path: As the user wrote it.
    """

    label: str
    path: str

    def captions(self) -> Iterator[Entry | BadPair]:
        """Every record without its image, in order."""
        ...

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """For every ``Entry`` of ``captions``, in that order, the pair or what is wrong with it."""
        ...


class LlavaDataSet:
    """A LLaVA JSON and a folder of images; the caption is the first answer."""

    def __init__(self, label: str, path: str, images: str) -> None:
        """Take the paths; nothing is read yet."""
        self.label, self.path, self._images = label, path, images

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for record in self._records():
            yield record if isinstance(record, BadPair) else record[0]

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        from synthvlm.captions.readers.images import ImageProblem
        from synthvlm.captions.readers.parts import folder_at

        folder = folder_at(self._images)
        folder.check()
        for record in self._records():
            if isinstance(record, BadPair):
                continue
            entry, image = record
            try:
                data = folder.read(image)
            except ImageProblem as error:
                yield BadPair(entry.where, "missing image", str(error))
            else:
                yield _loaded(entry, data)

    def _records(self) -> Iterator[tuple[Entry, str] | BadPair]:
        from synthvlm.data_sets.conversations import BadRecord, read_conversations

        for record in read_conversations(self.path):
            if isinstance(record, BadRecord):
                yield BadPair(record.where, "bad record", record.problem)
                continue
            if record.image is None:
                problem = "a conversation without an image is no pair"
                yield BadPair(record.where, "bad record", problem)
                continue
            answer = next((turn.text for turn in record.turns if turn.speaker == "gpt"), "")
            entry = _checked(record.where, record.id or record.image, answer)
            yield entry if isinstance(entry, BadPair) else (entry, record.image)


class TableDataSet:
    """WebDataset shards, or Parquet files with the images in them."""

    def __init__(self, label: str, path: str, format: str, paths: Sequence[str]) -> None:
        """Take the paths or globs; nothing is read yet.

        Args:
            label: What it is called.
            path: As the user wrote it.
            format: ``webdataset`` or ``parquet``.
            paths: In the order in which they are read.
        """
        self.label, self.path = label, path
        self._format, self._paths = format, paths

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for path in self._paths:
            for caption in self._rows(path):
                yield _entry(path, caption)

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        from synthvlm.captions.readers.sources import read_images

        field = "image" if self._format == "parquet" else None
        for path in self._paths:
            images = read_images(
                path,
                rows=itertools.count(),
                to_end=True,
                format=self._format,
                text_field=self._text_field(path),
                image_field=field,
            )
            for caption, image in zip(self._rows(path), images, strict=True):
                entry = _entry(path, caption)
                if isinstance(entry, BadPair):
                    continue
                if image.problem is not None:
                    yield BadPair(f"{path}, {entry.id[:100]}", "missing image", image.problem)
                else:
                    yield _loaded(entry, image.data)

    def _text_field(self, path: str) -> str:
        return _text_column(path) if self._format == "parquet" else "caption"

    def _rows(self, path: str) -> Iterator[Caption]:
        from synthvlm.captions.readers.sources import read_captions

        is_parquet = self._format == "parquet"
        return read_captions(
            path,
            name="row",
            format=self._format,
            text_field=self._text_field(path),
            id_field="id" if is_parquet else "__key__",
            normalize=str,
        )


def _text_column(path: str) -> str:
    """``caption``, or ``text`` where the first file has no such column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from synthvlm.captions.readers.files import READ_ERRORS, find_files

    first = find_files(path)[0]
    try:
        with first.open() as file:
            names = pq.ParquetFile(file).schema_arrow.names
    except (pa.ArrowException, *READ_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise CaptionSourceError(f"{first.path}: not a usable Parquet file: {reason}") from error
    return "text" if "caption" not in names and "text" in names else "caption"


def _entry(path: str, caption: Caption) -> Entry | BadPair:
    if caption.problem is not None:
        return BadPair(path, "bad record", caption.problem)
    return _checked(f"{path}, {caption.id[:100]}", caption.id, caption.text_raw)


def _checked(where: str, id: str, text: str) -> Entry | BadPair:
    from synthvlm.captions.readers.sources import MAX_CAPTION_CHARS

    caption = text.strip()
    if not caption:
        return BadPair(where, "bad record", "the caption is empty")
    if len(caption) > MAX_CAPTION_CHARS:
        limit = f"the limit is {MAX_CAPTION_CHARS:,}"
        return BadPair(where, "bad record", f"the caption has {len(caption):,} characters, {limit}")
    try:
        caption.encode("utf-8")
    except UnicodeEncodeError:
        return BadPair(where, "bad record", "the caption holds a lone surrogate")
    return Entry(where, id, caption)


def _loaded(entry: Entry, data: bytes | None) -> LoadedPair | BadPair:
    if data is None:
        return BadPair(entry.where, "missing image", "it has no image, or a URL for one")
    return LoadedPair(entry, data)
