"""Judge a picture against a claim by its pixels alone: no model has a say.

The picture is taken apart by colour into connected pieces, every piece is fitted with the five
shapes, and the scene found that way is held against the claim. A piece that fits no shape well,
or two about as well, is no shape.

Without `looks` only the content is judged: stains, blotches, debris and uneven outlines are let
pass, and whatever is there is taken for the nearest background, colour and shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from synthvlm.tiny.captions import Claim, holds
from synthvlm.tiny.world import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    WINDOW,
    Scene,
    Thing,
    coverage,
)

__all__ = ["Sighting", "check", "see"]

Floats = npt.NDArray[np.float32]

# Distances are Euclidean in RGB, 0 to 441.
BACKGROUND_TOLERANCE: Final = 16.0
COLOUR_TOLERANCE: Final = 60.0
FOREGROUND: Final = 55.0
DEBRIS: Final = 8  # pixels of stray foreground that are let pass
EVENNESS: Final = 24.0  # what a pixel of the background may differ from its colour
BLOTCH: Final = 40  # pixels of uneven background that are let pass
PIECE: Final = 20  # pixels; what is smaller is debris
THING: Final = 40  # pixels; half of the smallest thing: what is smaller is no content
PURITY: Final = 0.95  # share of a piece's inner pixels which must have its colour
# Mean distance of an outline from its template's, pixels: at most EDGE + EDGE_PER_PIXEL * radius,
# and smaller by MARGIN than for any other shape.
EDGE: Final = 0.22
EDGE_PER_PIXEL: Final = 0.02
MARGIN: Final = 0.12

_BACKGROUND_RGB: Final = np.array(list(BACKGROUNDS.values()), np.float32)
_COLOUR_RGB: Final = np.array(list(COLOURS.values()), np.float32)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was found in a picture.

    Attributes:
        scene: The scene; None if the background is none of the known ones or things cannot be
            told apart. Things that are no proper shape are marked as malformed in it.
        fault: Why the picture is no proper scene, or None: "background", "debris", "colour",
            "shape".
        edges: Mean distance of each thing's outline from its template's, pixels.
    """

    scene: Scene | None
    fault: str | None
    edges: tuple[float, ...] = ()


def check(image: npt.NDArray[np.uint8], claim: Claim, *, looks: bool = True) -> bool:
    """True if the picture (64, 64, 3; RGB, 0 to 255) shows exactly what the claim says.

    Args:
        image: The picture.
        claim: What it should show.
        looks: Whether malformed things and stained backgrounds count; False: only the content.
    """
    sighting = see(image, looks=looks)
    if sighting.scene is None or sighting.fault is not None:
        return False
    return holds(claim, sighting.scene)


def see(image: npt.NDArray[np.uint8], *, looks: bool = True) -> Sighting:
    """Find the scene in a picture (64, 64, 3; RGB, 0 to 255).

    Args:
        image: The picture.
        looks: Whether to look for faults; False: nothing in the scene is marked as malformed.
    """
    pixels = image.astype(np.float32)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ground = np.median(edge, axis=0)
    apart = np.linalg.norm(_BACKGROUND_RGB - ground, axis=1)
    if looks and apart.min() > BACKGROUND_TOLERANCE:
        return Sighting(None, "background")
    background = list(BACKGROUNDS)[int(apart.argmin())]
    foreground = np.linalg.norm(pixels - ground, axis=2) > FOREGROUND
    away = ~ndimage.binary_dilation(foreground, np.ones((3, 3)), iterations=2)
    uneven = np.linalg.norm(pixels - ground, axis=2) > EVENNESS
    if looks and (uneven & away).sum() > BLOTCH:
        return Sighting(None, "background")
    labels, count = ndimage.label(foreground, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    pieces = [i + 1 for i in range(count) if areas[i] > (PIECE if looks else THING)]
    if looks and areas.sum() - sum(areas[i - 1] for i in pieces) > DEBRIS:
        return Sighting(None, "debris")
    things: list[Thing] = []
    edges: list[float] = []
    for piece in pieces:
        identified = _identify(pixels, ground, labels == piece, looks)
        if identified is None:
            return Sighting(None, "colour")
        things.append(identified[0])
        edges.append(identified[1])
    fault = "shape" if any(t.malformed for t in things) else None
    return Sighting(Scene(tuple(things), background), fault, tuple(edges))


def _identify(
    pixels: Floats, ground: Floats, mask: npt.NDArray[np.bool_], looks: bool
) -> tuple[Thing, float] | None:
    """The thing a piece shows and how far its outline is off; None if its colour is none."""
    inside = ndimage.binary_erosion(mask)
    if inside.sum() < 6:
        inside = mask
    apart = np.linalg.norm(_COLOUR_RGB - np.median(pixels[inside], axis=0), axis=1)
    if looks and apart.min() > COLOUR_TOLERANCE:
        return None
    name = list(COLOURS)[int(apart.argmin())]
    colour = _COLOUR_RGB[int(apart.argmin())]
    pure = np.linalg.norm(pixels[inside] - colour, axis=1) < 1.3 * COLOUR_TOLERANCE
    if looks and pure.mean() < PURITY:
        return None
    # How much of a pixel is thing, on the line from the background's colour to the thing's.
    line = colour - ground
    alpha = np.clip((pixels - ground) @ line / (line @ line), 0, 1)
    alpha = np.where(ndimage.binary_dilation(mask, np.ones((3, 3))), alpha, 0)
    fitted = [_fit(name, shape, alpha) for shape in range(len(SHAPES))]
    fitted.sort(key=lambda pair: pair[1])
    (thing, edge), (_, second) = fitted[:2]
    if looks and (edge > EDGE + EDGE_PER_PIXEL * thing.radius or second - edge < MARGIN):
        thing = Thing(thing.shape, name, thing.x, thing.y, thing.radius, wobble=1.0)
    return thing, edge


def _extent(alpha: Floats) -> tuple[float, float, float, float]:
    """Sub-pixel bounding box: left, right, top, bottom."""
    across, down = alpha.max(axis=0), alpha.max(axis=1)
    xs, ys = np.flatnonzero(across > 0.5), np.flatnonzero(down > 0.5)
    if not len(xs) or not len(ys):
        xs, ys = np.flatnonzero(across > 0.1), np.flatnonzero(down > 0.1)

    def reach(profile: Floats, first: int, step: int) -> float:
        beyond = first + step
        return float(profile[beyond]) if 0 <= beyond < len(profile) else 0.0

    return (
        xs[0] - reach(across, xs[0], -1),
        xs[-1] + 1 + reach(across, xs[-1], 1),
        ys[0] - reach(down, ys[0], -1),
        ys[-1] + 1 + reach(down, ys[-1], 1),
    )


# Half-width, half-height and height of the box's middle above the centre, in radii.
_BOXES: Final = (
    (1.0, 1.0, 0.0),
    (1.0, 0.62, 0.0),
    (1.0, 0.9, 0.0),
    (1.0, 0.95, 0.1),
    (1.0, 1.0, 0.0),
)


# Lengths of the outlines, in radii.
_OUTLINES: Final = (6.28, 6.48, 6.12, 7.17, 8.0)


def _fit(colour: str, index: int, alpha: Floats) -> tuple[Thing, float]:
    """The best placed template of one shape, and how far off the outline is (pixels)."""
    left, right, top, bottom = _extent(alpha)
    half_width, half_height, above = _BOXES[index]
    radius = ((right - left) + (bottom - top)) / (2 * (half_width + half_height))
    radius = min(max(float(radius), 3.0), 19.0)
    x, y = float(left + right) / 2, float(top + bottom) / 2 + above * radius
    best = Thing(SHAPES[index], colour, x, y, radius)
    least = np.inf
    for reach in (0.6, 0.25):
        steps = (-reach, 0.0, reach)
        tried = [
            Thing(best.shape, colour, best.x + dx, best.y + dy, best.radius + dr)
            for dx in steps
            for dy in steps
            for dr in steps
        ]
        areas = _mismatches(tried, alpha)
        k = int(areas.argmin())
        if areas[k] < least:
            best, least = tried[k], float(areas[k])
    return best, least / (_OUTLINES[index] * best.radius)


def _mismatches(things: list[Thing], alpha: Floats) -> Floats:
    """Areas (n,), square pixels, in which templates and piece differ."""
    left = round(things[0].x) - WINDOW // 2
    top = round(things[0].y) - WINDOW // 2
    n = len(things)
    templates = coverage(things, np.full(n, left, np.float32), np.full(n, top, np.float32))
    rows = slice(top + WINDOW, top + 2 * WINDOW)
    columns = slice(left + WINDOW, left + 2 * WINDOW)
    window = np.pad(alpha, WINDOW)[rows, columns]
    # What lies beyond the picture's edge cannot be seen: it does not count against a template.
    visible = np.pad(np.ones_like(alpha), WINDOW)[rows, columns]
    areas: Floats = np.abs(templates * visible - window).sum(axis=(1, 2))
    areas += alpha.sum() - window.sum()
    return areas
