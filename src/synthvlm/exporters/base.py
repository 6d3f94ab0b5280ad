"""What an exporter is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from synthvlm.components.component import Component
from synthvlm.data import file_stem
from synthvlm.errors import PluginError

__all__ = ["ExportedPair", "Exporter", "Write", "check_record"]


@dataclass(frozen=True, slots=True)
class ExportedPair:
    """A selected pair, whole.

    Attributes:
        id: The caption's id.
        caption: The normalised caption.
        image: The encoded image.
        format: ``png``, ``jpeg`` or ``webp``.
        width: In pixels.
        height: In pixels.
        source: Name of the caption's source.
        rank: Place in the selection, 1 is best.
        scores: The value of each scorer, by its name, in the order of the columns.
        score: The weighted sum.
        seed: Seed of the image.
        index: The candidate's number.
    """

    id: str
    caption: str
    image: bytes
    format: str
    width: int
    height: int
    source: str
    rank: int
    scores: Mapping[str, float]
    score: float
    seed: int
    index: int

    @property
    def file_name(self) -> str:
        """A safe file name, made from a hash of the id."""
        extension = "jpg" if self.format == "jpeg" else self.format
        return f"{file_stem(self.id)}.{extension}"


#: Writes a whole file of the data set: its name relative to the data set, and its bytes, in chunks
#: that need not be in memory together.
Write = Callable[[str, Iterable[bytes]], None]


class Exporter(Component):
    """Writes selected pairs in one format.

    Attributes:
        usage: One line of Markdown for the data-set card: how the format is read.
    """

    usage: ClassVar[str] = ""

    def write_part(self, part: int, pairs: Iterable[ExportedPair], write: Write) -> bytes:
        """Write a part: consecutive pairs, whose images are read as they come.

        Returns:
            What ``finish`` needs to know of the part; it is kept with the run.
        """
        raise NotImplementedError

    def finish(self, parts: Iterable[bytes], write: Write) -> None:
        """Write what needs all parts, given what each returned, once they are all written."""
        raise NotImplementedError


def check_record(name: str, kept: object) -> None:
    """Hold an exporter to its contract.

    Raises:
        PluginError: What it returned of a part are no bytes; the message names it.
    """
    if not isinstance(kept, bytes):
        raise PluginError(
            f"exporter {name!r}: write_part returned {type(kept).__name__}, not bytes"
        )
