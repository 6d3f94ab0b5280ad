"""What every reader of data sets gives: pairs of a caption and an image, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeVar

from synthvlm.data_sets.conversations import BadRecord, Conversation

__all__ = [
    "NO_IMAGE",
    "UNKNOWN",
    "BadPair",
    "DataSet",
    "Entry",
    "Fault",
    "LoadedPair",
    "LocatedDataSet",
    "PairFacts",
    "Split",
    "SplitFile",
    "checked_entry",
    "conversation_entry",
    "loaded",
]

#: What can be wrong with a pair: its record, an image that is not there, one that is broken, one
#: that a scorer has no number for.
Fault = Literal["bad record", "missing image", "broken image", "no score"]
#: What a pair is for.
Split = Literal["train", "validation"]


PlaceT = TypeVar("PlaceT")


class SplitFile(NamedTuple):
    """A file of a data set, or a glob of some, and what its pairs are for."""

    path: str
    split: Split = "train"


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What a run recorded of a pair, as far as the data set holds it.

    Attributes:
        id: The caption's id, where the pair goes by another name.
        source: Name of the caption's source.
        rank: Place in the selection, 1 is best.
        scores: The value of each scorer, by its name.
        score: The weighted sum.
        seed: Seed of the image.
        index: The candidate's number.
    """

    id: str | None = None
    source: str | None = None
    rank: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    score: float | None = None
    seed: int | None = None
    index: int | None = None


#: Of a pair of which no run recorded anything, or is not asked.
UNKNOWN = PairFacts()


#: What is wrong with a pair without an image.
NO_IMAGE = "it has no image, or a URL for one"


@dataclass(frozen=True, slots=True)
class Entry:
    """A caption of a data set, whose image is not read yet.

    Attributes:
        where: Its place, for messages.
        id: As in the data set; not always unique.
        caption: The caption.
        split: What the pair is for.
        facts: What a run recorded of it; only where that was asked for.
        more: Whether the record holds more than the caption: further turns of a conversation.
    """

    where: str
    id: str
    caption: str
    split: Split = "train"
    facts: PairFacts = UNKNOWN
    more: bool = False


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
        """Every record without its image, in order; those of the split ``train`` come first."""
        ...

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """For every ``Entry`` of ``captions``, in that order, the pair or what is wrong with it."""
        ...


class LocatedDataSet(DataSet, Protocol[PlaceT]):
    """A data set of which single images can be read again."""

    def located(self) -> Iterator[tuple[Entry, PlaceT] | BadPair]:
        """As ``captions``, each with the place of its image."""
        ...

    def read_images(self, places: Sequence[PlaceT]) -> Iterator[bytes | str]:
        """The images at some places, in their order: encoded, or what is wrong with one.

        Args:
            places: In the order in which ``located`` gave them. Files that can only be read in
                order are read up to the last of them.

        Raises:
            CaptionSourceError: A file cannot be read.
        """
        ...


def conversation_entry(record: Conversation | BadRecord, split: Split) -> Entry | BadPair:
    """The caption of a conversation: its first answer."""
    if isinstance(record, BadRecord):
        return BadPair(record.where, "bad record", record.problem)
    if record.image is None:
        problem = "a conversation without an image is no pair"
        return BadPair(record.where, "bad record", problem)
    answer = next((turn.text for turn in record.turns if turn.speaker == "gpt"), "")
    more = len(record.turns) > 2 or record.system is not None
    return checked_entry(record.where, record.id or record.image, answer, split, more=more)


def checked_entry(
    where: str,
    id: str,
    text: str,
    split: Split = "train",
    *,
    facts: PairFacts = UNKNOWN,
    more: bool = False,
) -> Entry | BadPair:
    """An entry, or what is wrong with its caption; see ``Entry`` for the arguments."""
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
    return Entry(where, id, caption, split, facts, more)


def loaded(entry: Entry, data: bytes | None) -> LoadedPair | BadPair:
    """An entry with its image, or what is wrong where there is none."""
    if data is None:
        return BadPair(entry.where, "missing image", NO_IMAGE)
    return LoadedPair(entry, data)
