"""What came of making candidates again, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "Regenerated", "Regeneration"]

#: Grey levels, and scores, by which images made on another device or in another batch may differ.
GREY_LEVELS = 2
SCORE_ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Comparison:
    """An image beside a stored one, both as they decode.

    Attributes:
        is_identical: Whether all pixels are equal.
        largest: Largest difference in grey levels (0 .. 255); None: the sizes differ.
        mean: Mean difference in grey levels, of the channel that differs most.
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

        Lossy encoders make more of a grey level that differs: there the mean counts.
        """
        if self.largest is None:
            return False
        return (self.largest if self.encoding == "png" else self.mean) <= GREY_LEVELS

    def text(self) -> str:
        """For people."""
        if self.is_identical:
            return "bit for bit the stored one"
        if self.largest is None:
            return "of another size than the stored one"
        return (
            f"{self.share:.2%} of its pixels differ from the stored one, by at most {self.largest} "
            f"grey levels, {self.mean:.2g} on average"
            f"{'' if self.is_same else ': more than rounding'}"
        )


@dataclass(frozen=True, slots=True)
class Regenerated:
    """A candidate that was made again, or why it was not.

    Attributes:
        index: Its number.
        seed: Its seed.
        status: As in its row.
        chosen: Whether it is the winner.
        notes: What one should know of it.
        problem: Why there is no new image, or None.
        image: The winner's image beside the stored one; None: it is none, or it is lost.
        thumbnail: The same of a loser's thumbnail, if it has one.
        scores: Of each score the stored and the new value.
        file: Where the image was written; None: nowhere.
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
        """Whether all that was kept of it came out again within rounding."""
        compared = [c.is_same for c in (self.image, self.thumbnail) if c is not None]
        scores = (abs(new - old) <= SCORE_ROUNDING for old, new in (self.scores or {}).values())
        return self.problem is None and all(compared) and all(scores)

    @property
    def largest_score(self) -> float:
        """Largest difference of a score; 0 where none is known."""
        return max((abs(new - old) for old, new in (self.scores or {}).values()), default=0.0)

    def text(self) -> Iterator[str]:
        """Lines for people."""
        what = "winner" if self.chosen else self.status
        told = [f"candidate {self.index} ({what}, seed {self.seed}): "]
        if self.problem is not None:
            yield f"{told[0]}not made again: {self.problem}"
            return
        parts = []
        if self.image is not None:
            parts.append(f"its image is {self.image.text()}")
        if self.thumbnail is not None:
            parts.append(f"its thumbnail is {self.thumbnail.text()}")
        if self.scores:
            largest = self.largest_score
            parts.append(f"its scores differ by {largest:.1e}" if largest else "equal scores")
        yield told[0] + ("; ".join(parts) or "made again, nothing to compare it with")
        yield from (f"  {note}" for note in self.notes)
        if self.file is not None:
            yield f"  written to {self.file}"


@dataclass(frozen=True, slots=True)
class Regeneration:
    """The candidates of a caption that were made again.

    Attributes:
        id: The caption's id.
        text: The caption.
        shard: Its shard.
        candidates: In the order of their numbers.
        skipped: Lines on those that were never drawn.
    """

    id: str
    text: str
    shard: int
    candidates: tuple[Regenerated, ...]
    skipped: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        """Whether all came out again within rounding."""
        return all(candidate.is_same for candidate in self.candidates)

    def values(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {**asdict(self), "is_same": self.is_same}
        for told, candidate in zip(values["candidates"], self.candidates, strict=True):
            told["is_same"] = candidate.is_same
        return values

    def lines(self) -> Iterator[str]:
        """Lines for people."""
        yield f"{self.id}: {self.text}"
        for candidate in self.candidates:
            yield from candidate.text()
        yield from self.skipped
        if self.is_same:
            yield "the same within rounding"
        else:
            yield "not the same: what was kept is not what recipe, models and device give here"
