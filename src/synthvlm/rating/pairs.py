"""Which pictures are rated: those of captions that two data sets share."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.captions.readers.normalize import normalize
from synthvlm.data_sets.pairs import BadPair, Entry
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress

__all__ = ["PicturePair", "picture_problem", "sample_order", "shared_pairs"]


@dataclass(frozen=True, slots=True)
class PicturePair:
    """Two encoded pictures of a caption, of A and of B.

    Attributes:
        caption: The caption.
        caption_id: Its id in A.
        images: The pictures.
        scores: What runs recorded of them, by name of the scorer.
    """

    caption: str
    caption_id: str
    images: tuple[bytes, bytes]
    scores: tuple[Mapping[str, float], Mapping[str, float]]


def sample_order(seed: int, name: str) -> int:
    """A hash: the ``n`` things for which it is smallest are a sample, and part of larger ones."""
    text = f"{seed}\n{name}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class _Half:
    entry: Entry
    image: bytes


def shared_pairs(
    a: DataSet, b: DataSet, count: int, seed: int, progress: Progress
) -> tuple[list[PicturePair], list[str]]:
    """Pictures of captions that both data sets hold, chosen by a hash of seed and caption.

    Captions are the same where their normalised texts are; of several pairs of a caption in one
    data set the first counts.

    Args:
        a: The first.
        b: The second.
        count: Pairs, at most.
        seed: Of the choice.
        progress: Shows captions and pairs read.

    Returns:
        The pairs, and a line for each thing that was left out.

    Raises:
        CaptionSourceError: No caption is in both, or no picture of one can be used.
    """
    progress.start("captions", None, "captions")
    in_b = {_key(entry) for entry in _entries(b, progress)}
    shared = {key for entry in _entries(a, progress) if (key := _key(entry)) in in_b}
    progress.finish("captions", f"{len(shared):,} captions are in both")
    if not shared:
        raise CaptionSourceError(
            f"{a.path} and {b.path} have no caption in common: pictures are compared that were "
            f"made or taken of the same caption"
        )
    keys = heapq.nsmallest(count, shared, key=lambda key: sample_order(seed, str(key)))
    halves = [_pictures(one, keys, progress) for one in (a, b)]
    pairs, problems = [], []
    for key in keys:
        first, second = (half[key] for half in halves)
        if isinstance(first, str) or isinstance(second, str):
            problems.append(first if isinstance(first, str) else str(second))
            continue
        pairs.append(
            PicturePair(
                first.entry.caption,
                first.entry.id,
                (first.image, second.image),
                (_scores(first.entry), _scores(second.entry)),
            )
        )
    if not pairs:
        raise CaptionSourceError(
            f"{a.path} and {b.path}: none of {len(keys):,} pairs can be rated; the first: "
            f"{problems[0]}"
        )
    left_out = f"{len(problems):,} pairs are left out, because a picture cannot be used: "
    return pairs, [f"{left_out}{problems[0]}" for _ in problems[:1]]


def picture_problem(image: bytes) -> str | None:
    """Why a picture cannot be shown; None if it can."""
    from synthvlm.captions.readers.images import decode_image

    try:
        decode_image(image)
    except ValueError as error:
        return str(error)
    return None


def _entries(data_set: DataSet, progress: Progress) -> Iterator[Entry]:
    for entry in data_set.captions():
        progress.advance(1)
        if not isinstance(entry, BadPair):
            yield entry


def _key(entry: Entry) -> int:
    """A hash of the normalised caption: of millions, texts would need gigabytes."""
    text = normalize(entry.caption).encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _pictures(data_set: DataSet, keys: list[int], progress: Progress) -> dict[int, _Half | str]:
    """The first pair of each of some captions, or what is wrong with it."""
    left, pictures = set(keys), dict[int, _Half | str]()
    progress.start("pictures", len(keys), "pictures")
    for pair in data_set.pairs():
        if isinstance(pair, BadPair):
            continue  # of another pair of the caption there may be a picture
        key = _key(pair.entry)
        if key in left:
            left.remove(key)
            progress.advance(1)
            problem = picture_problem(pair.image)
            where = f"{pair.entry.where}: {problem}"
            pictures[key] = _Half(pair.entry, pair.image) if problem is None else where
            if not left:
                break
    progress.finish("pictures", f"{len(pictures):,} pictures of {data_set.label}")
    return dict.fromkeys(left, "its image is missing") | pictures


def _scores(entry: Entry) -> Mapping[str, float]:
    own = {} if entry.facts.score is None else {"score": entry.facts.score}
    return {**entry.facts.scores, **own}
