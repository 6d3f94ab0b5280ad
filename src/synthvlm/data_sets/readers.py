"""Data sets read as a stream: JSON files of conversations, WebDataset shards, Parquet files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Literal

from synthvlm.data_sets.conversation_tables import text_column
from synthvlm.data_sets.conversations import (
    IMAGE_MARK,
    BadRecord,
    Conversation,
    Turn,
    read_conversations,
)
from synthvlm.data_sets.pairs import (
    NO_IMAGE,
    UNKNOWN,
    BadPair,
    Entry,
    LoadedPair,
    PairFacts,
    SplitFile,
    checked_entry,
    conversation_entry,
    loaded,
)
from synthvlm.data_sets.recorded import recorded_facts

if TYPE_CHECKING:
    from synthvlm.captions.readers.images import OriginalImage
    from synthvlm.data import Caption

__all__ = ["ConversationDataSet", "TableDataSet"]


class ConversationDataSet:
    """JSON files of conversations and a folder of images; the caption is the first answer.

    Attributes:
        files: The JSON files.
        images: The folder of images.
    """

    def __init__(self, label: str, path: str, images: str, files: Sequence[SplitFile] = ()) -> None:
        """Take the paths; nothing is read yet.

        Args:
            label: What it is called.
            path: As the user wrote it.
            images: The folder that images are relative to.
            files: The JSON files; none for the path itself.
        """
        self.label, self.path, self.images = label, path, images
        self.files = tuple(files) or (SplitFile(path),)

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for record in self._records():
            yield record if isinstance(record, BadPair) else record[0]

    def located(self) -> Iterator[tuple[Entry, str] | BadPair]:
        """See ``LocatedDataSet``: an image is named by its path."""
        return self._records()

    def read_images(self, places: Sequence[str]) -> Iterator[bytes | str]:
        """See ``LocatedDataSet``."""
        from synthvlm.captions.readers.images import ImageProblem
        from synthvlm.captions.readers.parts import folder_at

        folder = folder_at(self.images)
        for name in places:
            try:
                yield folder.read(name) or NO_IMAGE
            except ImageProblem as error:
                yield str(error)

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        from synthvlm.captions.readers.images import ImageProblem
        from synthvlm.captions.readers.parts import folder_at

        folder = folder_at(self.images)
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
                yield loaded(entry, data)

    def _records(self) -> Iterator[tuple[Entry, str] | BadPair]:
        for file in self.files:
            for record in read_conversations(file.path):
                entry = conversation_entry(record, file.split)
                if isinstance(entry, BadPair):
                    yield entry
                else:
                    assert isinstance(record, Conversation)
                    assert record.image is not None
                    yield entry, record.image


class TableDataSet:
    """WebDataset shards, or Parquet files with captions and the images in them.

    Attributes:
        files: Files or globs, in the order in which they are read.
    """

    def __init__(
        self,
        label: str,
        path: str,
        format: Literal["webdataset", "parquet"],
        files: Iterable[SplitFile],
        *,
        with_facts: bool = False,
    ) -> None:
        """Take the paths; nothing is read yet.

        Args:
            label: What it is called.
            path: As the user wrote it.
            format: Of the files.
            files: Files or globs, in the order in which they are read.
            with_facts: Whether what a run recorded of pairs is read as well.
        """
        self.label, self.path = label, path
        self.files = tuple(files)
        self._format, self._with_facts = format, with_facts

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for file in self.files:
            yield from self._entries(file)

    def located(self) -> Iterator[tuple[Entry, tuple[int, int]] | BadPair]:
        """See ``LocatedDataSet``: an image is named by its file and row."""
        for number, file in enumerate(self.files):
            for row, entry in enumerate(self._entries(file)):
                yield entry if isinstance(entry, BadPair) else (entry, (number, row))

    def read_images(self, places: Sequence[tuple[int, int]]) -> Iterator[bytes | str]:
        """See ``LocatedDataSet``."""
        for number, group in itertools.groupby(places, key=itemgetter(0)):
            rows = [row for _, row in group]
            for image in self._images(self.files[number].path, rows):
                yield image.problem or image.data or NO_IMAGE

    def _images(self, path: str, rows: Iterable[int]) -> Iterator[OriginalImage]:
        from synthvlm.captions.readers.sources import read_images

        return read_images(
            path,
            rows=rows,
            to_end=True,
            format=self._format,
            text_field=self._text_field(path),
            image_field="image" if self._format == "parquet" else None,
        )

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        for file in self.files:
            images = self._images(file.path, itertools.count())
            for entry, image in zip(self._entries(file), images, strict=True):
                if isinstance(entry, BadPair):
                    continue
                if image.problem is not None:
                    yield BadPair(entry.where, "missing image", image.problem)
                else:
                    yield loaded(entry, image.data)

    def for_training(self) -> TableDataSet:
        """Without the files that are held out."""
        files = [file for file in self.files if file.split == "train"]
        return TableDataSet(self.label, self.path, self._format, files)

    def conversations(self) -> Iterator[tuple[Conversation | BadRecord, bytes]]:
        """Every pair as a conversation of one question and the caption, with its image."""
        from synthvlm.exporters.questions import question_of

        for one in self.captions():
            if isinstance(one, BadPair):
                yield BadRecord(one.where, one.problem), b""
        for pair in self.pairs():
            if isinstance(pair, BadPair):
                yield BadRecord(pair.where, pair.problem), b""
                continue
            entry = pair.entry
            human = Turn("human", f"{question_of(entry.id)}\n{IMAGE_MARK}")
            turns = (human, Turn("gpt", entry.caption))
            yield Conversation(entry.id, "", turns, entry.where), pair.image

    def _text_field(self, path: str) -> str:
        return text_column(path) if self._format == "parquet" else "caption"

    def _entries(self, file: SplitFile) -> Iterator[Entry | BadPair]:
        facts: Iterator[PairFacts] = itertools.repeat(UNKNOWN)
        if self._with_facts:
            facts = recorded_facts(file.path, self._format, self._text_field(file.path))
        for caption, known in zip(self._rows(file.path), facts, strict=False):
            if caption.problem is not None:
                yield BadPair(file.path, "bad record", caption.problem)
            else:
                id = known.id or caption.id
                where = f"{file.path}, {id[:100]}"
                yield checked_entry(where, id, caption.text_raw, file.split, facts=known)

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
