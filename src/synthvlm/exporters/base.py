"""What an exporter is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from synthvlm.components.component import Component
from synthvlm.data import file_stem
from synthvlm.errors import PluginError

__all__ = [
    "DataSetFacts",
    "ExportedPair",
    "Exporter",
    "FileFacts",
    "Split",
    "Write",
    "check_record",
    "write_image",
]

#: The part of a data set that a pair is for.
Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class ExportedPair:
    """A pair of a data set, whole. What is not known of a pair that no run made is None.

    Attributes:
        id: The caption's id.
        caption: The normalised caption.
        image: The encoded image.
        format: ``png``, ``jpeg`` or ``webp``.
        width: In pixels.
        height: In pixels.
        source: Name of the caption's source.
        rank: Place in the selection, 1 is best; or None.
        scores: The value of each scorer, by its name, in the order of the columns; all pairs of a
            data set have the same names.
        score: The weighted sum, or None.
        seed: Seed of the image, or None.
        index: The candidate's number, or None.
        split: Whether it is for training, or held out.
    """

    id: str
    caption: str
    image: bytes
    format: str
    width: int
    height: int
    source: str
    rank: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    seed: int | None = None
    index: int | None = None
    split: Split = "train"

    @property
    def suffix(self) -> str:
        """The end of the name of its image file, such as ``png``."""
        return "jpg" if self.format == "jpeg" else self.format

    @property
    def file_name(self) -> str:
        """A safe file name, made from a hash of the id."""
        return f"{file_stem(self.id)}.{self.suffix}"


#: Writes a whole file of the data set: its name relative to the data set, and its bytes, in chunks
#: that need not be in memory together. Formats may write the same file, with the same bytes: it is
#: written once.
Write = Callable[[str, Iterable[bytes]], None]


class FileFacts(NamedTuple):
    """A file's size in bytes and its SHA-256, in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DataSetFacts:
    """A data set as a whole, for a format that describes the files of the others.

    Attributes:
        name: Of the data set: a title in words.
        description: What it is, in a sentence or two of plain text.
        license: As the recipe or the user states it, or None.
        version: Of the data set, or None.
        identity: A hash of its content.
        splits: Number of pairs of each split that has any.
        scores: Names of its scorers.
        files: Its files by name, relative to the data set, but not the single images: there may be
            millions of them.
        image_folders: The folders that hold images as files, such as ``images``.
    """

    name: str
    description: str
    license: str | None
    version: str | None
    identity: str
    splits: Mapping[str, int]
    scores: tuple[str, ...]
    files: Mapping[str, FileFacts]
    image_folders: tuple[str, ...]


class Exporter(Component):
    """Writes selected pairs in one format.

    Attributes:
        usage: One line of Markdown for the data-set card: how the format is read.
        tables: Pattern of the files that ``datasets`` reads, with ``{split}`` in it; or none.
    """

    usage: ClassVar[str] = ""
    tables: ClassVar[str] = ""

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part: consecutive pairs, whose images are read as they come.

        All pairs of a part are of one split; parts of ``train`` come before all others.

        Returns:
            What ``finish`` needs to know of the part; it is kept with the run.
        """
        raise NotImplementedError

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Write what needs all parts, given what each returned, once they are all written."""
        raise NotImplementedError

    def describe(self, facts: DataSetFacts, write: Write) -> None:
        """Write what describes the files of all formats; called last. By default nothing."""


def write_image(part: int, pair: ExportedPair, write: Write) -> str:
    """Write the image of a pair as a file, and return its name in the data set."""
    name = f"images/{part:05d}/{pair.file_name}"
    write(name, [pair.image])
    return name


def check_record(name: str, kept: object) -> None:
    """Hold an exporter to its contract.

    Raises:
        PluginError: What it returned of a part are no bytes; the message names it.
    """
    if not isinstance(kept, bytes):
        raise PluginError(
            f"exporter {name!r}: write_part returned {type(kept).__name__}, not bytes"
        )
