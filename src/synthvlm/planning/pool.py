"""The captions of a recipe's sources, counted in one pass, and some of them chosen by hash."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.errors import CaptionSourceError, RecipeError
from synthvlm.recipe import source_name
from synthvlm.stages.curation.resources import hub_arguments, source_path
from synthvlm.stages.curation.written import is_written

if TYPE_CHECKING:
    from synthvlm.data import Caption
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe

__all__ = ["Pool", "choose"]

#: Captions between two signs of life.
_SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Pool:
    """The captions of a recipe's sources, counted, and a sample of them.

    Attributes:
        read: Captions read.
        unreadable: Of these, captions that could not be read.
        distinct: Readable captions; equal texts count once where the recipe removes duplicates.
        sample: Those of them with the smallest hashes, in the order of the hashes, so that a
            smaller sample is the beginning of a larger one.
    """

    read: int
    unreadable: int
    distinct: int
    sample: Sequence[Caption]


def choose(recipe: Recipe, size: int, progress: Progress) -> Pool:
    """Read all sources once, up to the limit; count their captions, and choose some by hash.

    Memory grows by 8 bytes a caption.

    Args:
        recipe: Whose sources.
        size: Captions to choose.
        progress: Shows captions counted.

    Raises:
        RecipeError: A model writes the captions of a source.
        CaptionSourceError: A source is missing or not what it should be.
    """
    _refuse_written(recipe)
    by_text = recipe.curation.deduplicate
    progress.start("count", recipe.limit, "captions")
    read = unreadable = 0
    first: str | None = None
    hashes = array("Q")
    chosen: dict[int, Caption] = {}
    largest: list[int] = []  # negative, for heapq keeps the smallest in front
    for caption in _captions(recipe):
        read += 1
        if read % _SHOWN == 0:
            progress.advance(_SHOWN)
        if caption.problem is not None:
            unreadable += 1
            first = first or f"{caption.source}: {caption.problem}"
            continue
        key = _hash(caption.text if by_text else caption.id)
        hashes.append(key)
        if key in chosen or (len(largest) == size and -key < largest[0]):
            continue
        chosen[key] = caption
        heapq.heappush(largest, -key)
        if len(largest) > size:
            del chosen[-heapq.heappop(largest)]
    progress.advance(read % _SHOWN)
    if not chosen:
        raise CaptionSourceError(f"none of {read:,} captions can be read; the first: {first}")
    distinct = len(np.unique(np.frombuffer(hashes, np.uint64))) if by_text else len(hashes)
    return Pool(read, unreadable, distinct, [chosen[key] for key in sorted(chosen)])


def _refuse_written(recipe: Recipe) -> None:
    for source in recipe.sources:
        if is_written(source):
            raise RecipeError(
                f"a model writes the captions of source {source_name(source)!r}, and a trial does "
                f"not: write them first (`synthvlm curate ... --out RUN`), then name "
                f"--captions 'RUN/captions/*.parquet' --set sources.0.text_field=text_raw"
            )


def _captions(recipe: Recipe) -> Iterator[Caption]:
    from synthvlm.captions.readers.normalize import normalize
    from synthvlm.captions.readers.sources import read_captions

    curation = recipe.curation
    normalizer = partial(
        normalize,
        fix_unicode=curation.fix_unicode,
        normalize_punctuation=curation.normalize_punctuation,
    )

    def all_sources() -> Iterator[Caption]:
        for source in recipe.sources:
            yield from read_captions(
                source_path(source),
                name=source_name(source),
                format=source.format,
                text_field=source.text_field,
                id_field=source.id_field,
                normalize=normalizer,
                **hub_arguments(source),
            )

    return islice(all_sources(), recipe.limit)


def _hash(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())
