"""What the images of a data set are like, and the scores of the sampled pairs."""

from __future__ import annotations

import io
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthvlm.captions.readers.images import decode_image, image_size
from synthvlm.comparison.caption_facts import hash_of
from synthvlm.comparison.data_sets import BadPair, Entry
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.comparison.data_sets import DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.scorers.clip import ClipScorer
    from synthvlm.scorers.ssim import SsimScorer

__all__ = ["ImageFacts", "ScoredPairs", "Shown", "read_image_facts"]

#: Pairs scored together, and the pixels at which fewer are.
_BATCH, _BATCH_PIXELS = 16, 1 << 25
#: Longest side of a picture for the page.
_SHOWN_SIDE = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair for the page: its caption, a small WebP of its image, and its scores."""

    caption: str
    image: bytes
    width: int
    height: int
    clip: float
    ssim: float


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """The sampled pairs whose image could be used, in the order of the data set.

    Attributes:
        positions: Of each among the captions, shape (n,).
        captions: The text of each.
        clip: CLIPScore of each, shape (n,).
        ssim: SSIMScore of each, shape (n,).
        truncated: Captions that are longer than CLIP's text tower.
        texts: Embeddings (float32, unit length) of the pairs of the map, shape (m, d).
        images: The same of their images.
        shown: Some pairs, for the page.
    """

    positions: npt.NDArray[np.int64]
    captions: tuple[str, ...]
    clip: npt.NDArray[np.float64]
    ssim: npt.NDArray[np.float64]
    truncated: int
    texts: npt.NDArray[np.float32]
    images: npt.NDArray[np.float32]
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The images of a data set.

    Attributes:
        sizes: Width and height in pixels of each that can be opened, shape (n, 2).
        same_file: Images whose encoded bytes came before.
        same_pixels: Sampled images whose pixels came before in the sample.
        scored: The sampled pairs.
        bad: The pairs whose image is missing or broken.
    """

    sizes: npt.NDArray[np.int64]
    same_file: int
    same_pixels: int
    scored: ScoredPairs
    bad: tuple[BadPair, ...]


@dataclass(frozen=True, slots=True)
class _Decoded:
    position: int
    entry: Entry
    image: Image


def read_image_facts(
    data_set: DataSet,
    order: npt.NDArray[np.int64],
    sample: int,
    *,
    clip: ClipScorer,
    ssim: SsimScorer,
    mapped: int,
    shown: int,
    progress: Progress,
) -> ImageFacts:
    """Go through the pairs of a data set once: open every image, decode and score the sample.

    One image is in memory at a time, and a batch of the sampled ones.

    Args:
        data_set: The data set.
        order: Of ``CaptionFacts``.
        sample: Pairs to score, the first of ``order``.
        clip: Makes CLIPScores.
        ssim: Makes SSIMScores.
        mapped: Pairs whose embeddings are kept, the first of ``order``.
        shown: Pairs whose pictures are kept, likewise.
        progress: Shows images read.

    Raises:
        CaptionSourceError: No sampled image can be used, or the data set changed meanwhile.
    """
    walk = _Walk(data_set, set(order[:sample].tolist()), progress)
    scores = _Scores(clip, ssim, set(order[:mapped].tolist()), set(order[:shown].tolist()))
    for batch in _batches(walk.decoded()):
        scores.add(batch)
    if walk.position != len(order):
        raise CaptionSourceError(
            f"{data_set.path} was changed while it was read: {len(order):,} captions, then "
            f"{walk.position:,}; try again"
        )
    if not scores.positions:
        first = walk.bad[0]
        raise CaptionSourceError(
            f"{data_set.path}: none of {min(sample, len(order)):,} sampled images can be used; the "
            f"first: {first.where}: {first.problem}"
        )
    return ImageFacts(
        np.array(walk.sizes, np.int64).reshape(-1, 2),
        _repeats(walk.files),
        _repeats(walk.pixels),
        scores.pairs(),
        tuple(walk.bad),
    )


class _Walk:
    """One pass over the images.

    Attributes:
        position: Pairs gone by.
        sizes: Width and height of every image that can be opened, one after another.
        files: Hashes of the encoded images.
        pixels: Hashes of the decoded ones.
        bad: Pairs without a usable image.
    """

    def __init__(self, data_set: DataSet, sampled: Collection[int], progress: Progress) -> None:
        self._data_set, self._sampled, self._progress = data_set, sampled, progress
        self.position = 0
        self.sizes, self.files, self.pixels = array("q"), array("Q"), array("Q")
        self.bad: list[BadPair] = []

    def decoded(self) -> Iterator[_Decoded]:
        """The sampled pairs, their images decoded."""
        for position, pair in enumerate(self._data_set.pairs()):
            self.position = position + 1
            self._progress.advance(1)
            if isinstance(pair, BadPair):
                self.bad.append(pair)
                continue
            try:
                # Decoding tells more of what is wrong than opening does.
                image = decode_image(pair.image) if position in self._sampled else None
                size = image_size(pair.image)
            except ValueError as error:
                self.bad.append(BadPair(pair.entry.where, "broken image", str(error)))
                continue
            self.sizes.extend(size)
            self.files.append(hash_of(pair.image))
            if image is not None:
                self.pixels.append(hash_of(repr(image.size).encode() + image.tobytes()))
                yield _Decoded(position, pair.entry, image)


class _Scores:
    """Scores of batches, and what is kept of them."""

    def __init__(
        self, clip: ClipScorer, ssim: SsimScorer, mapped: Collection[int], shown: Collection[int]
    ) -> None:
        self._clip, self._ssim, self._mapped, self._shown = clip, ssim, mapped, shown
        self.positions: list[int] = []
        self._captions: list[str] = []
        self._clips: list[float] = []
        self._ssims: list[float] = []
        self._truncated = 0
        self._embedded: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
        self._pictures: list[Shown] = []

    def add(self, batch: list[_Decoded]) -> None:
        """Score images of one size."""
        import torch

        pixels = np.stack([np.asarray(one.image) for one in batch])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        captions = [one.entry.caption for one in batch]
        clips, ssims = self._clip.score(images, captions), self._ssim.score(images, captions)
        assert clips.text_embeddings is not None
        assert clips.image_embeddings is not None
        assert clips.truncated is not None
        self.positions += [one.position for one in batch]
        self._captions += captions
        self._clips += clips.values.tolist()
        self._ssims += ssims.values.tolist()
        self._truncated += sum(clips.truncated)
        for row, one in enumerate(batch):
            if one.position in self._mapped:
                self._embedded.append((clips.text_embeddings[row], clips.image_embeddings[row]))
            if one.position in self._shown:
                scores = float(clips.values[row]), float(ssims.values[row])
                self._pictures.append(Shown(one.entry.caption, *_picture(one.image), *scores))

    def pairs(self) -> ScoredPairs:
        """All that was added."""
        texts, images = zip(*self._embedded, strict=True) if self._embedded else ((), ())
        return ScoredPairs(
            np.array(self.positions, np.int64),
            tuple(self._captions),
            np.array(self._clips),
            np.array(self._ssims),
            self._truncated,
            np.array(texts, np.float32),
            np.array(images, np.float32),
            tuple(self._pictures),
        )


def _batches(decoded: Iterator[_Decoded]) -> Iterator[list[_Decoded]]:
    """Neighbours of one size, few enough for memory; scorers take no others together."""
    batch: list[_Decoded] = []
    for one in decoded:
        most = max(1, min(_BATCH, _BATCH_PIXELS // (one.image.width * one.image.height)))
        if batch and (batch[0].image.size != one.image.size or len(batch) >= most):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _picture(image: Image) -> tuple[bytes, int, int]:
    """A small WebP, encoded anew: nothing of a stranger's file gets into the page."""
    small = image.copy()
    small.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    sink = io.BytesIO()
    small.save(sink, "WEBP", quality=80, lossless=max(small.size) <= 64)
    return sink.getvalue(), image.width, image.height


def _repeats(hashes: array[int]) -> int:
    return len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64)))
