"""Near copies: images that are a reference image, or a part of one, flipped, resized, compressed.

Two steps. Candidates are the references whose coarse form (8 x 8 pixels in colour) is most similar:
of each reference the whole and nine overlapping parts of 75 % of its area are indexed, and an image
is looked up as it is and flipped. Each candidate is then aligned with the image at 48 x 48 pixels:
which part of it, of at least 36 % of its area, shows what the image shows, is refined to a
fraction of a pixel (inverse compositional, Baker and Matthews 2004). The similarity of the two is
the lower of two correlations: of their colours, and of their details, in which each neighbourhood
counts alike (pictures of a sky over something have alike colours, and other details).

What is found of an image depends on it and the references alone. ``benchmarks/image_overlap.py``
measures how well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from synthvlm.selectors.clusters import cluster_centers, nearest_centers

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["VERSION", "NearCopy", "References", "SmallImage", "small_image"]

#: Counts in what is known of an image; another one is needed where a change finds other copies.
VERSION = 2

#: Side of a stored image, and of what is compared: a part of 64 % has as many pixels as that.
_STORED, _COMPARED = 60, 48
_COARSE = 8
_WIDTH = 3 * _COARSE**2
#: The indexed parts of a reference: left, top, width, height as shares of its sides.
_SIDE = 0.75**0.5
_PARTS = np.array(
    [(0.0, 0.0, 1.0, 1.0)]
    + [(x * (1 - _SIDE), y * (1 - _SIDE), _SIDE, _SIDE) for y in (0, 0.5, 1) for x in (0, 0.5, 1)],
    np.float32,
)
#: The smallest side of an aligned part, and how far it may lie outside.
_LEAST_SIDE, _OUTSIDE = 0.6, 0.01
#: Candidates of each of the two directions, and of how many coarse forms they are taken.
_CANDIDATES, _LOOKED_AT = 8, 32
#: Cosine of coarse forms below which nothing is aligned.
_LEAST_COARSE = 0.6
_STEPS = 6
#: Candidates of each direction that are aligned again: those whose colours fit more than nearly,
#: and that are not surely copies.
_AGAIN, _NEARLY, _SURELY = 2, 0.7, 0.95
#: Coarse forms up to which all are compared; then about so many are in a list, some are looked at.
_ALL, _LIST, _PROBES = 20_000, 1024, 8
#: Grey levels (of 255) that details of a neighbourhood are weighed against: noise is no detail.
_NOISE = 3.0
#: Details that both images are taken to lack in common, in pixels: plain ones are like nothing.
_PLAIN = 1.0

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class SmallImage:
    """What an image is compared by.

    Attributes:
        pixels: uint8, shape (60, 60, 3).
    """

    pixels: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NearCopy:
    """The reference that an image is most similar to.

    Attributes:
        reference: Its number.
        similarity: Up to 1.
        share: Share of its area that the image shows.
        flipped: Whether the image shows it from left to right.
    """

    reference: int
    similarity: float
    share: float
    flipped: bool


def small_image(image: Image.Image) -> SmallImage:
    """What an RGB image is compared by."""
    from PIL import Image

    large = min(image.size) >= 2 * _STORED
    resample = Image.Resampling.BOX if large else Image.Resampling.BILINEAR
    return SmallImage(np.asarray(image.resize((_STORED, _STORED), resample)))


class References:
    """Reference images, looked up by their content; about 13 kB each."""

    def __init__(self, images: Iterable[SmallImage]) -> None:
        """Index the images, which are read once."""
        stored = bytearray()  # grows in place: a list of arrays would take as much again
        for image in images:
            stored += image.pixels.tobytes()
        self._pixels = np.frombuffer(stored, np.uint8).reshape(-1, _STORED, _STORED, 3)
        self._coarse = np.empty((len(self._pixels) * len(_PARTS), _WIDTH), np.int8)
        for row, one in enumerate(self._pixels):
            parts = _part(np.broadcast_to(one, (len(_PARTS), *one.shape)), _PARTS)
            self._coarse[row * len(_PARTS) : (row + 1) * len(_PARTS)] = _coarse(parts)
        self._centers = np.zeros((0, _WIDTH), np.float32)
        if len(self._coarse) > _ALL:
            self._make_lists()
        else:
            self._whole = self._coarse.astype(np.float32)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._pixels)

    def nearest(self, image: SmallImage) -> NearCopy | None:
        """The most similar reference, the first of equal ones; None if none is at all similar."""
        if not len(self):
            return None
        whole = _part(image.pixels[None], _PARTS[:1])[0]
        found = []
        for flipped in (False, True):
            shown = np.ascontiguousarray(whole[:, ::-1]) if flipped else whole
            references, parts = self._candidates(_coarse(shown[None])[0])
            if len(references):
                fits = self._fits(shown, references, _PARTS[parts])
                found += [NearCopy(row, round(s, 4), round(a, 3), flipped) for row, s, a in fits]
        return min(found, key=lambda one: (-one.similarity, one.reference), default=None)

    def _fits(
        self, shown: Floats, references: Rows, parts: Floats
    ) -> Iterator[tuple[int, float, float]]:
        """How well candidates fit an image: their numbers, similarities, shares of area.

        Those whose colours fit best are aligned again from each of their parts: from a part that
        is too far off, steps may lead elsewhere.
        """
        first = _aligned(shown, self._pixels[references], parts)
        yield from zip(references.tolist(), *map(np.ndarray.tolist, first[:2]), strict=True)
        is_near = (first.colours > _NEARLY) & (first.similarity < _SURELY)
        again = np.flatnonzero(is_near)[np.argsort(-first.colours[is_near], kind="stable")]
        references = np.repeat(references[again[:_AGAIN]], len(_PARTS))
        if len(references):
            starts = np.tile(_PARTS, (len(references) // len(_PARTS), 1))
            then = _aligned(shown, self._pixels[references], starts)
            yield from zip(references.tolist(), *map(np.ndarray.tolist, then[:2]), strict=True)

    def _candidates(self, coarse: npt.NDArray[np.int8]) -> tuple[Rows, Rows]:
        """References with a part that is coarsely similar to an image, and the part of each."""
        asked = coarse.astype(np.float32)
        # Products and sums of these whole numbers are exact, in whatever order they are made.
        if not len(self._centers):
            rows, products = np.arange(len(self._whole)), self._whole @ asked
        else:
            near = nearest_centers(asked[None], self._centers, _PROBES)[0].tolist()
            rows = np.concatenate([self._rows[self._starts[n] : self._starts[n + 1]] for n in near])
            products = self._coarse[rows].astype(np.float32) @ asked
        best = np.lexsort((rows, -products))[:_LOOKED_AT] if len(rows) <= _LOOKED_AT else None
        if best is None:
            least = np.partition(products, -_LOOKED_AT)[-_LOOKED_AT]
            some = np.flatnonzero(products >= least)
            best = some[np.lexsort((rows[some], -products[some]))[:_LOOKED_AT]]
        best = best[products[best] >= _LEAST_COARSE * 127**2]
        references, parts = np.divmod(rows[best], len(_PARTS))
        _, first = np.unique(references, return_index=True)
        first = np.sort(first)[:_CANDIDATES]
        return references[first], parts[first]

    def _make_lists(self) -> None:
        """Put each coarse form into the list of its nearest of many cluster centers."""
        lists = -(-len(self._coarse) // _LIST)
        step = max(1, len(self._coarse) // (64 * lists))
        self._centers = cluster_centers(self._coarse[::step], lists)  # type: ignore[arg-type]
        nearest = nearest_centers(self._coarse, self._centers)[:, 0]  # type: ignore[arg-type]
        self._rows = np.argsort(nearest, kind="stable")
        self._starts = np.searchsorted(nearest[self._rows], np.arange(len(self._centers) + 1))


def _sampling(start: Floats, size: Floats) -> Floats:
    """Matrices that take a part of each line of pixels by linear interpolation.

    Args:
        start: Where the part begins, as a share of the line; shape (n,).
        size: Its length; shape (n,).

    Returns:
        Shape (n, 48, 60).
    """
    middles = (np.arange(_COMPARED, dtype=np.float32) + np.float32(0.5)) / _COMPARED
    places = (start[:, None] + size[:, None] * middles) * _STORED - np.float32(0.5)
    places = np.clip(places, 0, _STORED - 1)  # at the edge, the last pixel goes on
    away = np.abs(places[:, :, None] - np.arange(_STORED, dtype=np.float32))
    matrices: Floats = np.maximum(0, 1 - away)
    return matrices


def _part(pixels: npt.NDArray[np.uint8], parts: Floats) -> Floats:
    """A part of each stored image: float32, shape (n, 48, 48, 3)."""
    count = len(pixels)
    lines = pixels.astype(np.float32).reshape(count, _STORED, _STORED * 3)
    lines = np.matmul(_sampling(parts[:, 1], parts[:, 3]), lines)
    columns = lines.reshape(count, _COMPARED, _STORED, 3)
    taken: Floats = np.matmul(_sampling(parts[:, 0], parts[:, 2])[:, None], columns)
    return taken


def _centred(images: Floats) -> Floats:
    """Without the mean of each colour."""
    centred: Floats = images - images.mean((-3, -2), keepdims=True)
    return centred


def _coarse(images: Floats) -> npt.NDArray[np.int8]:
    """The coarse form of images: unit vectors times 127, shape (n, 192)."""
    count, side = len(images), _COMPARED // _COARSE
    cells = images.reshape(count, _COARSE, side, _COARSE, side, 3).mean((2, 4))
    vectors = _centred(cells).reshape(count, -1)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-6))
    return np.asarray(np.rint(vectors / lengths * 127), np.int8)


class _Fit(NamedTuple):
    """How an image fits some references; shape (n,) each.

    Attributes:
        similarity: The lower of both correlations.
        share: Share of the reference's area that it fits.
        colours: The correlation of colours.
    """

    similarity: Floats
    share: Floats
    colours: Floats


def _aligned(shown: Floats, pixels: npt.NDArray[np.uint8], parts: Floats) -> _Fit:
    """How an image fits the part of each reference that it fits best.

    Args:
        shown: The image, shape (48, 48, 3).
        pixels: The references, shape (n, 60, 60, 3).
        parts: The parts to begin with, shape (n, 4).
    """
    image = _centred(shown)
    flat = image.reshape(-1)
    steps = _step_matrix(image)
    best = np.full(len(pixels), -1.0, np.float32)
    kept, fitting = parts, np.zeros((len(pixels), *shown.shape), np.float32)
    for step in range(_STEPS + 1):
        taken = _part(pixels, parts)
        others = _centred(taken).reshape(len(pixels), -1)
        products, powers = others @ flat, np.maximum((others * others).sum(1), 1e-6)
        correlation = products / np.sqrt(powers * max(float(flat @ flat), 1e-6))
        is_better = correlation > best
        best = np.where(is_better, correlation, best)
        kept = np.where(is_better[:, None], parts, kept)
        fitting = np.where(is_better[:, None, None, None], taken, fitting)
        if step < _STEPS:
            left = others * (products / powers)[:, None] - flat
            parts = _moved(parts, np.clip(left @ steps, -0.05, 0.05))
    details = _correlation(_details(shown[None]), _details(fitting))
    return _Fit(np.minimum(best, details), kept[:, 2] * kept[:, 3], best)


def _step_matrix(image: Floats) -> Floats:
    """What turns differences from an image into the shift and stretch that lessen them most.

    Returns:
        Shape (6912, 4): shift and stretch from left to right, then from top to bottom.
    """
    along = (np.arange(_COMPARED, dtype=np.float32) + np.float32(0.5)) / _COMPARED
    right, down = (np.gradient(image, axis=axis) * _COMPARED for axis in (1, 0))
    changes = np.stack([right, right * along[:, None], down, down * along[:, None, None]])
    rows = _centred(changes).reshape(4, -1)
    flat = image.reshape(-1)
    rows -= np.outer(rows @ flat / max(float(flat @ flat), 1e-6), flat)
    squares = rows @ rows.T
    squares += np.eye(4, dtype=np.float32) * (1e-6 * max(float(np.trace(squares)), 1e-6))
    return np.asarray(np.linalg.solve(squares, rows).T, np.float32)


def _moved(parts: Floats, change: Floats) -> Floats:
    """The parts of references after the image was shifted and stretched; none leaves them."""
    moved = np.empty_like(parts)
    for place, (shift, stretch) in enumerate(((0, 1), (2, 3))):
        size = parts[:, 2 + place] / (1 + change[:, stretch])
        start = parts[:, place] - size * change[:, shift]
        size = np.clip(size, _LEAST_SIDE, 1 + 2 * _OUTSIDE)
        moved[:, 2 + place] = size
        moved[:, place] = np.clip(start, -_OUTSIDE, 1 + _OUTSIDE - size)
    return moved


def _blur(deviation: float) -> Floats:
    """A Gaussian blur of a line of 48 pixels, which goes on at its ends as its last ones."""
    away = np.subtract.outer(np.arange(_COMPARED), np.arange(-_COMPARED, 2 * _COMPARED))
    weights = np.exp(-0.5 * (away / deviation) ** 2)
    weights /= weights.sum(1, keepdims=True)
    matrix = weights[:, _COMPARED : 2 * _COMPARED].copy()
    matrix[:, 0] += weights[:, :_COMPARED].sum(1)
    matrix[:, -1] += weights[:, 2 * _COMPARED :].sum(1)
    return np.asarray(matrix, np.float32)


_FINE, _SMOOTH, _AROUND = _blur(1.5), _blur(5.0), _blur(4.0)
_GREY = np.array([0.299, 0.587, 0.114], np.float32)


def _details(images: Floats) -> Floats:
    """What of images' grey is neither fine nor smooth, each neighbourhood scaled; (n, 2304)."""
    grey = images @ _GREY
    details = _FINE @ grey @ _FINE.T - _SMOOTH @ grey @ _SMOOTH.T
    power = _AROUND @ (details * details) @ _AROUND.T
    scaled = details / np.sqrt(power + np.float32(_NOISE**2))
    return np.asarray(scaled.reshape(len(images), -1), np.float32)


def _correlation(one: Floats, others: Floats) -> Floats:
    products = (one * others).sum(1)
    powers = ((one * one).sum(1) + _PLAIN) * ((others * others).sum(1) + _PLAIN)
    return np.asarray(products / np.sqrt(powers), np.float32)
