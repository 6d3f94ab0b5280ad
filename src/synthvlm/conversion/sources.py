"""What is converted: the pairs of a run, or of a data set that no run here made."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from synthvlm.captions.readers.files import find_files
from synthvlm.captions.readers.images import image_size
from synthvlm.captions.rules.control_tokens import control_tokens
from synthvlm.data import fingerprint
from synthvlm.data_sets.pairs import BadPair, Entry, LoadedPair
from synthvlm.errors import CaptionSourceError, TooManyFailuresError
from synthvlm.exporters import ExportedPair
from synthvlm.stages.data_set_fingerprints import part_fingerprints

if TYPE_CHECKING:
    from synthvlm.data_sets.inputs import KnownDataSet
    from synthvlm.data_sets.run_pairs import RunPairs
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = ["ForeignPairs", "Losses", "PairSource", "SelectedRun"]

#: Where a bad record of each kind is, for people.
_EXAMPLES = 3
#: What stands before the last colon of a problem, but for those within braces.
_FILE = re.compile(r".*: (?=[^{}]*$)", re.DOTALL)
#: How the files of the formats begin that exporters know.
_BEGINNINGS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg"}


class PairSource(Protocol):
    """Pairs that may be gone through several times.

    Attributes:
        path: As a user wrote it.
        count: Pairs, at most.
        identity: Which pairs these are.
    """

    path: str
    count: int
    identity: str

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the scorers whose values the pairs have."""
        ...

    def parts(self) -> Iterator[Iterable[ExportedPair]]:
        """The pairs, cut into parts of one split; a part is read before the next one."""
        ...


class SelectedRun:
    """The selected pairs of a run, marked as its own export marks them."""

    def __init__(self, run: RunPairs, recipe: Recipe) -> None:
        """Open them.

        Args:
            run: The run.
            recipe: Its recipe, but for the settings of ``export``.

        Raises:
            RecipeError: A caption holds a control token.
        """
        self.run, self.recipe = run, recipe
        self._selected = run.selected(recipe)
        self._selected.refuse_control_tokens()
        self._selected.refuse_empty_split()
        self.path, self.count = run.path, len(self._selected)
        parts = sorted(part_fingerprints(recipe, self._selected).items())
        self.identity = fingerprint("run", parts)

    @property
    def scorers(self) -> tuple[str, ...]:
        """See ``PairSource``."""
        return tuple(self.recipe.scorers)

    def parts(self) -> Iterator[Iterable[ExportedPair]]:
        """See ``PairSource``."""
        for part in self._selected.parts():
            yield self._selected.pairs(part)


@dataclass(slots=True)
class Losses:
    """What of a data set is no usable pair.

    Attributes:
        records: Read in all.
        problems: Bad records by what is wrong with them.
        examples: Where the first of each are.
    """

    records: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, bad: BadPair) -> None:
        """Count a bad record; what is wrong is told by its kind where it names a file."""
        problem = bad.problem if bad.fault == "bad record" else bad.fault
        problem = _FILE.sub("", problem)[:200]
        if problem not in self.problems and len(self.problems) >= 100:
            problem = "other problems"
        self.problems[problem] += 1
        places = self.examples.setdefault(problem, [])
        if len(places) < _EXAMPLES:
            detail = f": {bad.problem}" if bad.fault != "bad record" else ""
            places.append(f"{bad.where}{detail}"[:300])

    @property
    def bad(self) -> int:
        """Records that are no usable pairs."""
        return self.problems.total()

    def lines(self) -> Iterator[str]:
        """For people."""
        for problem, count in self.problems.most_common():
            yield f"{count:,} records: {problem}"
            yield from (f"  {where}" for where in self.examples[problem])


class ForeignPairs:
    """The pairs of a data set, its images byte by byte as they are.

    Ids that several records share get a number, for files are named by them.

    Attributes:
        losses: What is no usable pair, as far as it is read.
        numbered: Records whose id got a number.
        shortened: Records of which only the first answer is taken: they have more turns.
    """

    def __init__(
        self, data_set: KnownDataSet, part_size: int, max_failed_share: float, progress: Progress
    ) -> None:
        """Read all captions once.

        Args:
            data_set: The data set.
            part_size: Pairs of a part.
            max_failed_share: Of the records.
            progress: Shows it.

        Raises:
            CaptionSourceError: It cannot be read, or has no usable pair.
            TooManyFailuresError: More records are bad than that.
        """
        self.data_set, self.path = data_set, data_set.path
        self._size, self._share = part_size, max_failed_share
        self.losses, self.shortened = Losses(), 0
        self._scorers: tuple[str, ...] | None = None
        self._captions_lost = Losses()
        hashes = array("Q")
        progress.start("check", None, "records")
        for one in data_set.captions():
            progress.advance(1)
            self._captions_lost.records += 1
            bad = one if isinstance(one, BadPair) else _refused(one)
            if bad is not None:
                self._captions_lost.add(bad)
            elif isinstance(one, Entry):
                self._take(one)
                hashes.append(_hash(one.id))
        self.count = len(hashes)
        progress.finish("check", f"{self.count:,} of {self._captions_lost.records:,} captions")
        self._ids = np.sort(np.frombuffer(hashes, np.uint64)) if hashes else np.empty(0, np.uint64)
        self._shared = np.unique(self._ids[1:][self._ids[1:] == self._ids[:-1]])
        self.numbered = 0
        self._restart()
        self.identity = fingerprint("data set", self._state())
        if not self.count:
            lines = "; ".join(islice(self.losses.lines(), 2))
            raise CaptionSourceError(f"{self.path}: no usable pair{lines and f': {lines}'}")

    @property
    def scorers(self) -> tuple[str, ...]:
        """See ``PairSource``."""
        return self._scorers or ()

    def parts(self) -> Iterator[Iterable[ExportedPair]]:
        """See ``PairSource``."""
        self._restart()
        for _, pairs in groupby(self._pairs(), key=lambda pair: pair.split):
            left = iter(pairs)
            for first in left:
                yield chain([first], islice(left, self._size - 1))

    def _restart(self) -> None:
        """Count from the captions on; images are counted as they are read."""
        read = self._captions_lost
        examples = {problem: list(places) for problem, places in read.examples.items()}
        self.losses = Losses(read.records, Counter(read.problems), examples)
        self.numbered = 0
        self._check_share()

    def _take(self, entry: Entry) -> None:
        self.shortened += entry.more
        names = tuple(entry.facts.scores)
        if self._scorers is None:
            self._scorers = names
        elif self._scorers != names:
            self._scorers = ()  # all pairs of a data set have the same ones

    def _pairs(self) -> Iterator[ExportedPair]:
        seen: Counter[int] = Counter()
        for pair in self.data_set.pairs():
            if isinstance(pair, LoadedPair):
                if _refused(pair.entry) is not None:
                    continue
                exported = self._exported(pair, seen)
                if isinstance(exported, ExportedPair):
                    yield exported
                    continue
                pair = exported
            self.losses.add(pair)
            self._check_share()

    def _exported(self, pair: LoadedPair, seen: Counter[int]) -> ExportedPair | BadPair:
        entry, image, facts = pair.entry, pair.image, pair.entry.facts
        format = _format_of(image)
        if format is None:
            return BadPair(entry.where, "broken image", "it is no PNG, JPEG or WebP")
        try:
            width, height = image_size(image)
        except ValueError as error:
            return BadPair(entry.where, "broken image", str(error))
        return ExportedPair(
            id=self._unique(entry.id, seen),
            caption=entry.caption,
            image=image,
            format=format,
            width=width,
            height=height,
            source=facts.source or self.data_set.label,
            rank=facts.rank,
            scores={name: facts.scores[name] for name in self._scorers or ()},
            score=facts.score,
            seed=facts.seed,
            index=facts.index,
            split=entry.split,
        )

    def _unique(self, id: str, seen: Counter[int]) -> str:
        """The id, with a number where it was there before."""
        key = _hash(id)
        if not len(self._shared) or not _holds(self._shared, key):
            return id
        seen[key] += 1
        number = seen[key]
        if number == 1:
            return id
        self.numbered += 1
        while _holds(self._ids, _hash(f"{id}-{number}")):
            seen[key] += 1
            number = seen[key]
        return f"{id}-{number}"

    def _check_share(self) -> None:
        losses = self.losses
        if losses.bad > self._share * losses.records:
            first = next(iter(losses.examples.items()))
            raise TooManyFailuresError(
                f"{self.path}: {losses.bad:,} of {losses.records:,} records are no usable pairs, "
                f"more than a share of {self._share:g}; the first: {first[1][0]}: {first[0]}; mend "
                f"them, or raise --max-failed-share"
            )

    def _state(self) -> list[tuple[str, int, int]]:
        """Names, sizes and times of the files of records: as long as they stay, so do these."""
        files = [file for one in self.data_set.files for file in find_files(one.path)]
        infos = [(file.fs_path, os.stat(file.fs_path)) for file in files]
        return [(path, info.st_size, info.st_mtime_ns) for path, info in infos]


def _refused(entry: Entry) -> BadPair | None:
    """What is wrong with a caption for every trainer; see ``refuse_control_tokens``."""
    tokens = control_tokens(entry.caption)
    if not tokens:
        return None
    problem = "its caption holds a control token of tokenizers"
    return BadPair(f"{entry.where} ({tokens[0]!r})", "bad record", problem)


def _format_of(image: bytes) -> str | None:
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in _BEGINNINGS.items() if image.startswith(start)), None)


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _holds(ordered: npt.NDArray[np.uint64], value: int) -> bool:
    place = int(np.searchsorted(ordered, np.uint64(value)))
    return place < len(ordered) and int(ordered[place]) == value
