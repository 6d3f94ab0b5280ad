"""What the captions and the images of a data set are like, and the scores of sampled pairs."""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from synthvlm.captions.duplicates.near_duplicates import near_duplicates
from synthvlm.captions.readers.images import decode_image, image_size
from synthvlm.captions.rules.batch import TextBatch
from synthvlm.data_sets.pairs import BadPair, Entry
from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.comparison.settings import ComparisonSettings, LoadedScorers
    from synthvlm.data_sets.pairs import DataSet
    from synthvlm.progress.display import Progress
    from synthvlm.scorers import Scores

__all__ = [
    "CaptionFacts",
    "Example",
    "ImageFacts",
    "ScoredPairs",
    "read_caption_facts",
    "read_image_facts",
]

#: Captions that are measured together.
_CAPTION_BATCH = 256
#: Pairs that are scored together, and the pixels at which fewer are.
_PAIR_BATCH, _BATCH_PIXELS = 16, 1 << 25
#: Pairs on the page, and the longest side of their pictures.
_EXAMPLES, _EXAMPLE_SIDE = 6, 256


@dataclass(frozen=True, slots=True)
class CaptionFacts:
    """The captions of a data set.

    Attributes:
        count: Captions.
        words: Words (refined: ``batch.Words``) of each, shape (count,).
        tokens: Tokens of CLIP's text tower of each, without begin and end, shape (count,); None
            where there is no CLIP model.
        vocabulary: Distinct words.
        duplicates: Captions whose exact text came before.
        near_duplicates: Captions nearly equal to an earlier one, exact duplicates included.
        order: Positions of all captions by the hash of their ids, shape (count,): the first n are
            the sample of n.
        bad: The records without a usable caption.
    """

    count: int
    words: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64] | None
    vocabulary: int
    duplicates: int
    near_duplicates: int
    order: npt.NDArray[np.int64]
    bad: tuple[BadPair, ...]


#: Numbers of tokens of texts.
TokenCounter = Callable[[Sequence[str]], Sequence[int]]


class _CaptionReader:
    """Goes through the captions of a data set once; what it measures is in its arrays."""

    def __init__(self, count_tokens: TokenCounter | None, progress: Progress) -> None:
        self._count_tokens, self._progress = count_tokens, progress
        self.words, self.tokens = array("q"), array("q")
        self.text_hashes, self.id_hashes = array("Q"), array("Q")
        self.vocabulary: set[int] = set()
        self.bad: list[BadPair] = []

    def batches(self, data_set: DataSet) -> Iterator[list[str]]:
        """The texts, a batch at a time, each measured before it is handed on."""
        texts: list[str] = []
        for entry in data_set.captions():
            if isinstance(entry, BadPair):
                self.bad.append(entry)
                continue
            self.id_hashes.append(_hash(entry.id))
            texts.append(entry.caption)
            if len(texts) == _CAPTION_BATCH:
                self._measure(texts)
                yield texts
                texts = []
        if texts:
            self._measure(texts)
            yield texts

    def _measure(self, texts: list[str]) -> None:
        words = TextBatch(texts).words
        self.words.extend(np.diff(words.starts).tolist())
        self.vocabulary.update(np.unique(words.hashes).tolist())
        if self._count_tokens is not None:
            self.tokens.extend(self._count_tokens(texts))
        self.text_hashes.extend(map(_hash, texts))
        self._progress.advance(len(texts))


def read_caption_facts(
    data_set: DataSet, count_tokens: TokenCounter | None, progress: Progress
) -> CaptionFacts:
    """Go through the captions of a data set once.

    Memory grows by about 300 bytes a caption (most of it to find near-duplicates).

    Args:
        data_set: The data set.
        count_tokens: Numbers of tokens of texts; None to count none.
        progress: Shows captions read.

    Raises:
        CaptionSourceError: No record has a usable caption.
    """
    reader = _CaptionReader(count_tokens, progress)
    duplicates = near_duplicates(reader.batches(data_set))
    count = len(reader.id_hashes)
    if not count:
        first = f"; the first: {reader.bad[0].where}: {reader.bad[0].problem}" if reader.bad else ""
        raise CaptionSourceError(
            f"{data_set.path}: none of {len(reader.bad):,} records is a usable pair{first}"
        )
    return CaptionFacts(
        count,
        np.array(reader.words, np.int64),
        None if count_tokens is None else np.array(reader.tokens, np.int64),
        len(reader.vocabulary),
        _repeats(reader.text_hashes),
        len(duplicates.twins),
        np.argsort(np.frombuffer(reader.id_hashes, np.uint64), kind="stable"),
        tuple(reader.bad),
    )


@dataclass(frozen=True, slots=True)
class Example:
    """A pair for the page: its caption, a small WebP of its image, and its scores by scorer."""

    caption: str
    image: bytes
    width: int
    height: int
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """The sampled pairs that could be scored, in the order of the data set.

    Attributes:
        positions: Of each among the captions, shape (n,).
        captions: The text of each.
        scores: By name of the scorer, one of each pair, shape (n,).
        truncated: By name of the scorers that report it, whether only the beginning of the caption
            was seen, shape (n,).
        embedded_by: Name of the scorer whose embeddings these are; None where none has any.
        text_embeddings: Of the captions on the map, float32 of unit length, shape (m, d).
        image_embeddings: The same of their images.
        examples: Some pairs, for the page.
    """

    positions: npt.NDArray[np.int64]
    captions: tuple[str, ...]
    scores: Mapping[str, npt.NDArray[np.float64]]
    truncated: Mapping[str, npt.NDArray[np.bool_]]
    embedded_by: str | None
    text_embeddings: npt.NDArray[np.float32]
    image_embeddings: npt.NDArray[np.float32]
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The images of a data set.

    Attributes:
        sizes: Width and height in pixels of each that can be opened, shape (n, 2).
        same_file: Images whose encoded bytes came before.
        same_pixels: Sampled images whose pixels came before in the sample.
        scored: The sampled pairs.
        bad: The pairs whose image is missing or broken, or that a scorer gave no score.
    """

    sizes: npt.NDArray[np.int64]
    same_file: int
    same_pixels: int
    scored: ScoredPairs
    bad: tuple[BadPair, ...]


def read_image_facts(
    data_set: DataSet,
    captions: CaptionFacts,
    scorers: LoadedScorers,
    settings: ComparisonSettings,
    progress: Progress,
) -> ImageFacts:
    """Go through the pairs of a data set once: open every image, decode and score the sample.

    One image is in memory at a time, and a batch of the sampled ones.

    Args:
        data_set: The data set.
        captions: Its captions.
        scorers: The scorers.
        settings: How many pairs are scored, and how many of these are on the maps.
        progress: Shows images read.

    Raises:
        CaptionSourceError: No sampled pair can be scored, or the data set changed meanwhile.
        PluginError: A scorer fails.
    """
    size = settings.sample_size(captions.count)
    sample = captions.order[:size].tolist()
    reader = _ImageReader(data_set, set(sample), progress)
    collected = _ScoreCollector(
        scorers, set(sample[: settings.map_points]), set(sample[:_EXAMPLES])
    )
    for batch in _batches(reader.sampled_pairs()):
        collected.add(batch)
    if reader.count != captions.count:
        raise CaptionSourceError(
            f"{data_set.path} was changed while it was read: {captions.count:,} captions, then "
            f"{reader.count:,}; try again"
        )
    bad = [*reader.bad, *collected.bad]
    if not collected.positions:
        raise CaptionSourceError(
            f"{data_set.path}: none of {size:,} sampled images can be used; the "
            f"first: {bad[0].where}: {bad[0].problem}"
        )
    return ImageFacts(
        np.array(reader.sizes, np.int64).reshape(-1, 2),
        _repeats(reader.file_hashes),
        _repeats(reader.pixel_hashes),
        collected.pairs(),
        tuple(bad),
    )


@dataclass(frozen=True, slots=True)
class _DecodedPair:
    position: int
    entry: Entry
    image: Image


class _ImageReader:
    """Goes through the images of a data set once.

    Attributes:
        count: Pairs read.
        sizes: Width and height of every image that can be opened, one after another.
        file_hashes: Of the encoded images.
        pixel_hashes: Of the decoded ones.
        bad: Pairs without a usable image.
    """

    def __init__(self, data_set: DataSet, sample: Collection[int], progress: Progress) -> None:
        self._data_set, self._sample, self._progress = data_set, sample, progress
        self.count = 0
        self.sizes, self.file_hashes, self.pixel_hashes = array("q"), array("Q"), array("Q")
        self.bad: list[BadPair] = []

    def sampled_pairs(self) -> Iterator[_DecodedPair]:
        """The sampled pairs, their images decoded."""
        for position, pair in enumerate(self._data_set.pairs()):
            self.count = position + 1
            self._progress.advance(1)
            if isinstance(pair, BadPair):
                self.bad.append(pair)
                continue
            try:
                # Decoding shows more of what is wrong than opening does.
                image = decode_image(pair.image) if position in self._sample else None
                size = image_size(pair.image)
            except ValueError as error:
                self.bad.append(BadPair(pair.entry.where, "broken image", str(error)))
                continue
            self.sizes.extend(size)
            self.file_hashes.append(_hash(pair.image))
            if image is not None:
                self.pixel_hashes.append(_hash(repr(image.size).encode() + image.tobytes()))
                yield _DecodedPair(position, pair.entry, image)


class _ScoreCollector:
    """Scores batches of pairs, and keeps what is needed of them.

    Attributes:
        positions: Of the scored pairs.
        bad: Pairs that a scorer gave no score.
    """

    def __init__(
        self, scorers: LoadedScorers, mapped: Collection[int], shown: Collection[int]
    ) -> None:
        self._scorers, self._mapped, self._shown = scorers, mapped, shown
        self.positions: list[int] = []
        self.bad: list[BadPair] = []
        self._captions: list[str] = []
        self._scores: dict[str, list[float]] = {name: [] for name in scorers.by_name}
        self._truncated: dict[str, list[bool]] = {}
        self._embedded_by: str | None = None
        self._embeddings: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = []
        self._examples: list[Example] = []

    def add(self, batch: Sequence[_DecodedPair]) -> None:
        """Score pairs whose images have one size."""
        pixels = np.stack([np.asarray(pair.image) for pair in batch])
        results = self._scorers.score(pixels, [pair.entry.caption for pair in batch])
        for row, pair in enumerate(batch):
            scores = {name: float(result.values[row]) for name, result in results.items()}
            failed = [name for name, score in scores.items() if not np.isfinite(score)]
            if failed:
                problem = f"scorer {failed[0]!r} gave {scores[failed[0]]}"
                self.bad.append(BadPair(pair.entry.where, "no score", problem))
                continue
            self.positions.append(pair.position)
            self._captions.append(pair.entry.caption)
            for name, result in results.items():
                self._scores[name].append(scores[name])
                if result.truncated is not None:
                    self._truncated.setdefault(name, []).append(bool(result.truncated[row]))
            if pair.position in self._mapped:
                self._keep_embeddings(results, row)
            if pair.position in self._shown:
                self._examples.append(_example(pair, scores))

    def _keep_embeddings(self, results: Mapping[str, Scores], row: int) -> None:
        for name, result in results.items():
            if result.text_embeddings is not None and result.image_embeddings is not None:
                self._embedded_by = name
                self._embeddings.append((result.text_embeddings[row], result.image_embeddings[row]))
                return

    def pairs(self) -> ScoredPairs:
        """All that was added."""
        texts, images = zip(*self._embeddings, strict=True) if self._embeddings else ((), ())
        return ScoredPairs(
            np.array(self.positions, np.int64),
            tuple(self._captions),
            {name: np.array(scores) for name, scores in self._scores.items()},
            {name: np.array(truncated) for name, truncated in self._truncated.items()},
            self._embedded_by,
            np.array(texts, np.float32),
            np.array(images, np.float32),
            tuple(self._examples),
        )


def _batches(pairs: Iterator[_DecodedPair]) -> Iterator[list[_DecodedPair]]:
    """Neighbours of one size, few enough for memory; scorers take no others together."""
    batch: list[_DecodedPair] = []
    for pair in pairs:
        most = max(1, min(_PAIR_BATCH, _BATCH_PIXELS // (pair.image.width * pair.image.height)))
        if batch and (batch[0].image.size != pair.image.size or len(batch) >= most):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


def _example(pair: _DecodedPair, scores: Mapping[str, float]) -> Example:
    """With a small WebP, encoded anew: nothing of an untrusted file gets into the page."""
    small = pair.image.copy()
    small.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
    sink = io.BytesIO()
    small.save(sink, "WEBP", quality=80, lossless=max(small.size) <= 64)
    return Example(pair.entry.caption, sink.getvalue(), *pair.image.size, scores)


def _hash(data: str | bytes) -> int:
    """64 bits that identify a text or bytes."""
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest())


def _repeats(hashes: array[int]) -> int:
    return len(hashes) - len(np.unique(np.frombuffer(hashes, np.uint64)))
