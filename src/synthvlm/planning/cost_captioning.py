"""Device seconds per caption that a vision-language model writes of an image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.errors import CaptionSourceError
from synthvlm.estimates import Estimate, combine, mean_interval, share_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from synthvlm.progress.display import Progress

__all__ = ["CaptioningCost", "Images", "captioning_cost", "read_images_of"]

#: Endings of image files.
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, slots=True)
class Images:
    """Images to caption.

    Attributes:
        images: Decoded, RGB.
        bad: Of those that could not be, the file and the problem.
    """

    images: tuple[Image, ...]
    bad: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptioningCost:
    """What captioning some images told.

    Attributes:
        image_seconds: Per image.
        written: Share of images whose caption is not empty.
        seconds: Per captioned pair.
        once: Seconds of loading the model and of the first batch, beyond what others take.
        images: Images captioned.
        timed: Batches that were timed, and the images of each.
        words: Mean words of a caption.
    """

    image_seconds: Estimate
    written: Estimate
    seconds: Estimate
    once: float
    images: int
    timed: tuple[int, int]
    words: float


def captioning_cost(
    load: Callable[[], Callable[[Sequence[Image]], Sequence[str]]],
    images: Sequence[Image],
    *,
    batch_size: int,
    progress: Progress,
) -> CaptioningCost:
    """Time a captioner; its first batch is captioned twice, and counts the second time.

    Args:
        load: Loads the captioner, which takes images and gives a caption for each.
        images: What it captions, at least one.
        batch_size: Images at a time.
        progress: Shows images captioned.

    Raises:
        CaptionSourceError: Every caption is empty.
        ModelError: The captioner cannot be loaded.
    """
    progress.start("caption", len(images), "images")
    began = time.monotonic()
    caption = load()
    caption(images[:batch_size])
    start = time.monotonic() - began
    laps: list[tuple[int, float]] = []
    captions: list[str] = []
    for first in range(0, len(images), batch_size):
        batch = images[first : first + batch_size]
        began = time.monotonic()
        captions += caption(batch)
        laps.append((len(batch), time.monotonic() - began))
        progress.advance(len(batch))
    progress.finish(
        "caption", f"{len(captions):,} images captioned ({sum(s for _, s in laps):.1f} s)"
    )
    filled = [one for one in captions if one.strip()]
    if not filled:
        raise CaptionSourceError(f"the captioner wrote nothing of any of {len(captions)} images")
    full = [lap for lap in laps if lap[0] == laps[0][0]]
    seconds = mean_interval([time / count for count, time in full])
    # Of endlessly many images.
    written = share_of(len(filled), len(captions), len(captions) + 1)
    needed = Estimate(
        1 / written.value,
        None if not written.high else 1 / written.high,
        None if not written.low else 1 / written.low,
    )
    return CaptioningCost(
        seconds,
        written,
        combine(lambda s, n: s * n, seconds, needed),
        max(0.0, start - seconds.value * min(batch_size, len(images))),
        len(captions),
        (len(full), full[0][0]),
        sum(len(one.split()) for one in filled) / len(filled),
    )


def read_images_of(folder: str, wanted: int) -> Images:
    """The first usable images of a folder, by the names of its files.

    Args:
        folder: With .jpg, .png or .webp files in it or below it.
        wanted: Images, at most.

    Raises:
        CaptionSourceError: There is no such folder, or no usable image.
    """
    from synthvlm.captions.readers.images import ImageProblem, decode_image, read_image

    root = Path(folder)
    if not root.is_dir():
        raise CaptionSourceError(f"{folder}: there is no such folder of images")
    images: list[Image] = []
    bad: list[str] = []
    for path in sorted(path for path in root.rglob("*") if path.suffix.lower() in _ENDINGS):
        if len(images) == wanted:
            break
        try:
            images.append(decode_image(read_image(str(path))))
        except (OSError, ImageProblem, ValueError) as error:
            bad.append(f"{path}: {' '.join(str(error).split())}")
    if not images:
        first = f"; the first of {len(bad)} bad ones: {bad[0]}" if bad else ""
        raise CaptionSourceError(f"{folder}: it holds no usable {', '.join(_ENDINGS)}{first}")
    return Images(tuple(images), tuple(bad))
