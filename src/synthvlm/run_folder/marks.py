"""Marks of people on pairs that are bad, kept in the run folder.

A mark is of an image, known by what it was made of: a new image of the caption has none. Each call
writes a file of its own, so two writers at once lose nothing, on an object store neither; of
several marks of an image the last counts. Times are made to increase from file to file, so a
writer whose clock is behind has the last word over the marks that it can see.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from synthvlm.data import fingerprint
from synthvlm.errors import RunFolderError

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.run_folder.folder import RunFolder

__all__ = ["REASONS", "Image", "Mark", "Marks", "add_marks", "read_marks"]

_FOLDER = "marks"
#: Reasons that pages offer; any other short one may be given.
REASONS = ("wrong", "ugly", "unsafe", "duplicate", "other")
_LONGEST_REASON, _LONGEST_NOTE = 40, 2000


class Image(NamedTuple):
    """The image of a pair: its caption, and the fingerprint of its candidate."""

    caption_id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What somebody said of the image of a pair.

    Attributes:
        caption_id: The caption.
        index: Number of the candidate, for people.
        fingerprint: Of the candidate: what its image depends on.
        reason: A short one, such as ``wrong``; empty where an earlier mark is taken back.
        note: Any text.
        time: When it was written, in seconds since 1970.
    """

    caption_id: str
    index: int
    fingerprint: str
    reason: str
    note: str = ""
    time: float = field(default_factory=lambda: round(time.time(), 6))

    def __post_init__(self) -> None:
        """Refuse what is too long, or no line.

        Raises:
            RunFolderError: The reason or the note.
        """
        if len(self.reason) > _LONGEST_REASON or len(self.reason.splitlines()) > 1:
            raise RunFolderError(
                f"the reason of a mark has one line of at most {_LONGEST_REASON} characters: put "
                f"the rest into the note"
            )
        if len(self.note) > _LONGEST_NOTE:
            raise RunFolderError(
                f"the note of a mark has at most {_LONGEST_NOTE:,} characters, not "
                f"{len(self.note):,}"
            )

    @property
    def image(self) -> Image:
        """What is marked."""
        return Image(self.caption_id, self.fingerprint)


class Marks(Mapping[Image, Mark]):
    """The marks that count, in the order in which they were made.

    Attributes:
        damaged: Lines that cannot be read.
    """

    def __init__(self, marks: Iterable[Mark] = (), damaged: int = 0) -> None:
        """Let the last mark of each image count.

        Args:
            marks: In the order in which they were made.
            damaged: Lines that cannot be read.
        """
        self.damaged = damaged
        last: dict[Image, Mark] = {}
        for mark in marks:
            last.pop(mark.image, None)
            last[mark.image] = mark
        self._marks = {image: mark for image, mark in last.items() if mark.reason}

    def __getitem__(self, image: Image) -> Mark:
        """The mark of an image."""
        return self._marks[image]

    def __iter__(self) -> Iterator[Image]:
        """The images that are marked."""
        return iter(self._marks)

    def __len__(self) -> int:
        """How many images are marked."""
        return len(self._marks)

    @property
    def identity(self) -> list[str]:
        """What a selection depends on; empty where nothing is marked."""
        marked = sorted((*image, mark.reason) for image, mark in self._marks.items())
        return [fingerprint("marks", marked)] if marked else []

    @property
    def problem(self) -> str | None:
        """A line about what cannot be read, if there is any."""
        if not self.damaged:
            return None
        return (
            f"{self.damaged:,} damaged lines in {_FOLDER}/ are no marks: what they said is lost, "
            f"look at the pairs again"
        )

    @property
    def columns(self) -> list[str]:
        """What ``split`` needs of candidates; none where nothing is marked."""
        return ["caption_id", "fingerprint", "chosen"] if self._marks else []

    def split(self, candidates: pa.Table) -> tuple[pa.Table, Counter[str]]:
        """The candidates that are not marked, and how many chosen ones are, by reason.

        Args:
            candidates: With ``columns``.
        """
        import pyarrow as pa

        if not self._marks:
            return candidates, Counter()
        images = zip(
            candidates["caption_id"].to_pylist(), candidates["fingerprint"].to_pylist(), strict=True
        )
        marks = [self._marks.get(Image(*image)) for image in images]
        unmarked = candidates.filter(pa.array([mark is None for mark in marks], pa.bool_()))
        chosen = zip(marks, candidates["chosen"].to_pylist(), strict=True)
        return unmarked, Counter(mark.reason for mark, is_chosen in chosen if mark and is_chosen)


def read_marks(run: RunFolder) -> Marks:
    """The marks in a run folder; a damaged line costs only itself, and is counted.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    marks = []
    objects, damaged = run.json_lines(_FOLDER)
    for values in objects:
        try:
            marks.append(Mark(**values))
        except (TypeError, AttributeError, RunFolderError):
            damaged += 1
    return Marks(marks, damaged)


def add_marks(run: RunFolder, marks: Sequence[Mark]) -> None:
    """Write marks into a run folder, also while a run works in it.

    Raises:
        RunFolderError: They cannot be written.
    """
    if not marks:
        return
    numbers = (name.removeprefix(f"{_FOLDER}/")[:20] for name in run.listing(_FOLDER))
    latest = max((int(number) for number in numbers if number.isdecimal()), default=0)
    now = max(time.time_ns(), latest + 1000)  # at least a microsecond, as times are rounded
    timed = [replace(mark, time=round(now / 1e9, 6)) for mark in marks]
    lines = [json.dumps(asdict(mark), ensure_ascii=False) for mark in timed]
    name = f"{_FOLDER}/{now:020d}-{uuid.uuid4().hex[:8]}.jsonl"
    data = "\n".join(lines).encode("utf-8", "replace") + b"\n"
    try:
        run.write(name, data)
    except RunFolderError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        run.write(name, data)  # a run that began here removed the incomplete file
