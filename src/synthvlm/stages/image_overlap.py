"""Pairs whose image is a near copy of a reference image are left out, with the reason.

Images of pairs are compared shard by shard, and what each is most similar to is kept in
``image-overlap/``, whatever the threshold: another one compares nothing again. References are read
only where a shard has to be compared; nothing of them is stored but their names.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from synthvlm.captions.readers.images import decode_image
from synthvlm.captions.readers.reference_images import (
    ReferenceImage,
    check_references,
    read_reference_images,
    reference_digest,
)
from synthvlm.data import fingerprint, take_rows
from synthvlm.errors import RecipeError
from synthvlm.selectors.near_copies import VERSION, References, SmallImage, small_image
from synthvlm.stages.selection_columns import shard_rows

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe.selection import ImageOverlapSettings
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["COMPARED", "OVERLAP_FILE", "ImageOverlap", "check_overlap", "references_fingerprint"]

#: The pairs that are left out, each with the reference that its image is a near copy of.
OVERLAP_FILE = "image-overlap.parquet"
#: Stage, and folder, of what each image is most similar to.
COMPARED = "image-overlap"
_PLACE = "selection.image_overlap"
#: Images that are decoded ahead.
_AHEAD = 64

#: Of each image that is like a reference at all, what is known of the most similar one.
_COLUMNS = ("reference", "similarity", "share", "flipped")
_Match = tuple[str, float, float, bool]

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def check_overlap(settings: ImageOverlapSettings | None) -> None:
    """Look for the reference images, before any image is generated for a selection.

    Raises:
        CaptionSourceError: A path is missing, or holds no images.
    """
    if settings is not None:
        check_references(settings.images, settings.image_field, _PLACE)


def references_fingerprint(settings: ImageOverlapSettings) -> str:
    """What the comparison with references depends on: their content, wherever they lie.

    Raises:
        CaptionSourceError: They cannot be read.
    """
    digest = reference_digest(settings.images, _PLACE)
    return fingerprint(COMPARED, VERSION, digest, settings.image_field)


@dataclass(frozen=True, slots=True)
class _Known:
    """The references in memory."""

    names: list[str]
    index: References
    facts: dict[str, Any]


class ImageOverlap:
    """Compares images of pairs with reference images.

    Attributes:
        facts: How many references there are (``references``), and where some could not be read,
            how many (``unreadable``) and why the first one (``problem``); after ``without``.
    """

    def __init__(self, run: RunFolder, settings: ImageOverlapSettings, progress: Progress) -> None:
        """Nothing is read yet."""
        self._run, self._settings, self._progress = run, settings, progress
        self._references: _Known | None = None
        self.facts: dict[str, Any] = {}

    def without(
        self, generated: Mapping[int, Marker], pairs: pa.Table
    ) -> tuple[pa.Table, pa.Table]:
        """Pairs without the near copies.

        Args:
            generated: Markers of the stage generate.
            pairs: In the order of their caption ids.

        Returns:
            The pairs that stay; and of the others ``caption_id``, ``score``, the ``reference``
            that the image is a near copy of, their ``similarity``, the ``share`` of the
            reference's area that the image shows, and whether it is ``flipped``.

        Raises:
            CaptionSourceError: References cannot be read.
            RecipeError: None of them can.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        run, depends = self._run, references_fingerprint(self._settings)
        known = run.markers(COMPARED)
        present = list(shard_rows(pairs))
        self._progress.start(COMPARED, len(present), "shards")
        parts, places = [], []
        for shard, rows in present:
            (stored,) = [file for file in generated[shard].files if file.folder == "pairs"]
            expected = fingerprint(depends, stored.checksum)
            marker = known.get(shard)
            if marker is None or marker.fingerprint != expected:
                references = self._known()
                file = run.write_table(COMPARED, shard, self._compared(stored.path, references))
                facts = references.facts
                marker = known[shard] = run.commit(COMPARED, shard, expected, [file], facts)
            self.facts = dict(marker.facts)
            table = run.read_table(marker.files[0].path)
            ids = pairs["caption_id"].take(pa.array(rows))
            found = pc.index_in(ids, table["caption_id"].combine_chunks())
            parts.append(table.drop_columns("caption_id").take(found.combine_chunks()))
            places.append(rows)
            self._progress.advance(1)
        run.sweep(COMPARED, [COMPARED], known)
        return _split(pairs, parts, places, self._settings.max_similarity)

    def _known(self) -> _Known:
        if self._references is None:
            settings = self._settings
            images = read_reference_images(settings.images, settings.image_field, _PLACE)
            self._references = _read(images)
            problem = self._references.facts.get("problem")
            if not len(self._references.index):
                raise RecipeError(f"{_PLACE}.images: no image can be read: {problem}")
        return self._references

    def _compared(self, name: str, references: _Known) -> pa.Table:
        """What each image of a file of pairs is most similar to; null where it is like none."""

        def nearest(image: bytes) -> _Match | None:
            found = references.index.nearest(small_image(decode_image(image)))
            if found is None:
                return None
            return references.names[found.reference], found.similarity, found.share, found.flipped

        ids: list[str] = []
        matches: list[_Match | None] = []
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for rows in self._run.row_groups(name, ["caption_id", "image"]):
                ids += rows["caption_id"].to_pylist()
                matches += threads.map(nearest, rows["image"].to_pylist())
        return _table(ids, matches)


def _table(ids: Sequence[str], matches: Sequence[_Match | None]) -> pa.Table:
    import pyarrow as pa

    types = (pa.string(), pa.float64(), pa.float64(), pa.bool_())
    columns = [
        pa.array([None if match is None else match[n] for match in matches], type)
        for n, type in enumerate(types)
    ]
    return pa.table([pa.array(ids, pa.string()), *columns], ["caption_id", *_COLUMNS])


def _split(
    pairs: pa.Table,
    parts: Sequence[pa.Table],
    places: Sequence[npt.NDArray[np.int64]],
    max_similarity: float,
) -> tuple[pa.Table, pa.Table]:
    """The pairs that stay, and why the others do not, both in their order."""
    import pyarrow as pa

    matches = _table([], []).drop_columns("caption_id")
    if parts:
        order = np.argsort(np.concatenate(places))
        matches = take_rows(pa.concat_tables(parts), order)
    similarity = matches["similarity"].fill_null(-1.0).to_numpy()
    stays, goes = (
        np.flatnonzero(similarity <= max_similarity),
        np.flatnonzero(similarity > max_similarity),
    )
    reasons = take_rows(pairs.select(["caption_id", "score"]), goes)
    for name in _COLUMNS:
        reasons = reasons.append_column(name, take_rows(matches, goes)[name])
    return take_rows(pairs, stays), reasons


def _read(images: Iterable[ReferenceImage]) -> _Known:
    """The references that can be read, and how many cannot."""
    names: list[str] = []
    problems: list[str] = []

    def usable() -> Iterator[SmallImage]:
        for image, (small, problem) in _ahead(_small, images):
            if small is None:
                problems.append(problem)
            else:
                names.append(image.name)
                yield small

    index = References(usable())
    facts: dict[str, Any] = {"references": len(index)}
    if problems:
        facts |= {"unreadable": len(problems), "problem": problems[0]}
    return _Known(names, index, facts)


def _small(image: ReferenceImage) -> tuple[SmallImage | None, str]:
    """What a reference is compared by, or why it cannot be."""
    if image.data is None:
        return None, image.problem or image.name
    try:
        return small_image(decode_image(image.data)), ""
    except ValueError as error:
        return None, f"{image.name}: {error}"


def _ahead(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[tuple[_In, _Out]]:
    """Each item and what is made of it, in order; some are in work at a time, and in memory."""
    waiting: deque[tuple[_In, Future[_Out]]] = deque()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for item in items:
            waiting.append((item, threads.submit(work, item)))
            if len(waiting) > _AHEAD:
                first, made = waiting.popleft()
                yield first, made.result()
        for first, made in waiting:
            yield first, made.result()
