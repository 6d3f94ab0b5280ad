"""The results of generating candidates again, as text and as plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "Regenerated", "Regeneration"]

#: Differences that are due to rounding: another device or batch size changes images and scores by
#: at most this many grey levels, and this much.
GREY_LEVELS = 2
SCORE_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """A new image compared with the stored one, both as decoded.

    Attributes:
        is_identical: Whether all pixels are equal.
        largest: Largest difference in grey levels (0 .. 255); None if the sizes differ.
        mean: Mean difference in grey levels, in the channel that differs most.
        share: Share (0 .. 1) of the pixels that differ.
        encoding: How the new image was encoded before it was compared, e.g. ``jpeg-95``.
    """

    is_identical: bool
    largest: int | None
    mean: float
    share: float
    encoding: str

    @property
    def is_same(self) -> bool:
        """Whether it is the same image within rounding.

        Lossy encoders amplify a difference of one grey level, so there the mean counts.
        """
        if self.largest is None:
            return False
        return (self.largest if self.encoding == "png" else self.mean) <= GREY_LEVELS

    def text(self) -> str:
        """In words."""
        if self.is_identical:
            return "identical to the stored one"
        if self.largest is None:
            return "not of the size of the stored one"
        return (
            f"different from the stored one in {self.share:.2%} of its pixels, by at most "
            f"{self.largest} grey levels, {self.mean:.2g} on average"
            f"{'' if self.is_same else ' (more than rounding)'}"
        )


@dataclass(frozen=True, slots=True)
class Regenerated:
    """A candidate that was generated again, or why it was not.

    Attributes:
        index: Its number.
        seed: Its seed.
        status: The status in its row.
        chosen: Whether it is the winner.
        notes: Remarks to show.
        problem: Why there is no new image, or None.
        image: Comparison with the stored image; None if it has none.
        thumbnail: Comparison with the stored thumbnail; None if it has none.
        scores: The stored and the new value of each score.
        file: Where the new image was written, or None.
    """

    index: int
    seed: int
    status: str
    chosen: bool
    notes: tuple[str, ...] = ()
    problem: str | None = None
    image: Comparison | None = None
    thumbnail: Comparison | None = None
    scores: dict[str, tuple[float, float]] | None = None
    file: str | None = None

    @property
    def is_same(self) -> bool:
        """Whether everything stored of it is the same within rounding."""
        compared = [c.is_same for c in (self.image, self.thumbnail) if c is not None]
        scores = (abs(new - old) <= SCORE_ROUNDING for old, new in (self.scores or {}).values())
        return self.problem is None and all(compared) and all(scores)

    @property
    def largest_score(self) -> float:
        """Largest difference of a score; 0 if there are none."""
        return max((abs(new - old) for old, new in (self.scores or {}).values()), default=0.0)

    def lines(self) -> Iterator[str]:
        """Lines to print."""
        what = "winner" if self.chosen else self.status
        start = f"candidate {self.index} ({what}, seed {self.seed}): "
        if self.problem is not None:
            yield f"{start}not generated again: {self.problem}"
            return
        parts = []
        if self.image is not None:
            parts.append(f"its image is {self.image.text()}")
        if self.thumbnail is not None:
            parts.append(f"its thumbnail is {self.thumbnail.text()}")
        if self.scores:
            largest = self.largest_score
            equal = "its scores are equal"
            parts.append(f"its scores differ by {largest:.1e}" if largest else equal)
        yield start + ("; ".join(parts) or "generated again, nothing to compare it with")
        yield from (f"  {note}" for note in self.notes)
        if self.file is not None:
            yield f"  written to {self.file}"


@dataclass(frozen=True, slots=True)
class Regeneration:
    """The candidates of a caption that were generated again.

    Attributes:
        id: The caption's id.
        caption: Its text.
        shard: Its shard.
        candidates: In the order of their numbers.
        skipped: One line for each that was never generated.
    """

    id: str
    caption: str
    shard: int
    candidates: tuple[Regenerated, ...]
    skipped: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether all are the same within rounding."""
        return all(candidate.is_same for candidate in self.candidates)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {"id": self.id, "text": self.caption, **asdict(self), "is_same": self.is_same}
        del values["caption"]
        for entry, candidate in zip(values["candidates"], self.candidates, strict=True):
            entry["is_same"] = candidate.is_same
        return values

    def text(self) -> str:
        """Text to print."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.id}: {self.caption}"
        for candidate in self.candidates:
            yield from candidate.lines()
        yield from self.skipped
        if self.is_same:
            yield "the same within rounding"
        else:
            yield "not the same: other models, settings or hardware than those of the run?"
