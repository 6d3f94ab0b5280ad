"""The closed world of coloured shapes: what can be drawn, and how it is drawn.

A scene is one to three things on a plain pastel background, 64 by 64 pixels. Drawing is
vectorised over a batch: every shape is a signed distance (pixels, negative inside), and the
distance itself gives the anti-aliased edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "IMAGE_SIZE",
    "PLACES",
    "SHAPES",
    "SIZES",
    "WINDOW",
    "Scene",
    "Shape",
    "Size",
    "Thing",
    "coverage",
    "place_of",
    "render",
    "size_of",
]

IMAGE_SIZE: Final = 64

Shape = Literal["circle", "rectangle", "triangle", "star", "cross"]
Size = Literal["small", "medium", "large"]
Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SHAPES: Final[tuple[Shape, ...]] = ("circle", "rectangle", "triangle", "star", "cross")

# The eight colours of the easy-VQA data set, exactly.
COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "teal": (0, 128, 128),
    "brown": (165, 42, 42),
    "yellow": (255, 255, 0),
}

BACKGROUNDS: Final[dict[str, tuple[int, int, int]]] = {
    "white": (250, 250, 250),
    "pink": (253, 218, 228),
    "sky blue": (212, 233, 253),
    "mint": (214, 246, 222),
    "cream": (253, 244, 205),
    "lilac": (230, 216, 250),
}

# Radii in pixels. The gaps between the ranges make the size of a thing a matter of fact.
SIZES: Final[dict[Size, tuple[float, float]]] = {
    "small": (7.5, 9.0),
    "medium": (11.5, 13.0),
    "large": (16.0, 18.0),
}

PLACES: Final[tuple[str, ...]] = (
    "top left",
    "top",
    "top right",
    "left",
    "middle",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)

_LOW, _HIGH = 26.0, 38.0  # a centre below, between or above these lies in column 0, 1 or 2
WINDOW: Final = 42  # pixels; holds the largest thing with its edge
_WINDOW_GRID = np.arange(WINDOW, dtype=np.float32) + np.float32(0.5)


@dataclass(frozen=True, slots=True)
class Thing:
    """One coloured shape.

    Attributes:
        shape: One of `SHAPES`.
        colour: A key of `COLOURS`.
        x: Centre, pixels from the left edge.
        y: Centre, pixels from the top edge.
        radius: Half of the larger extent, pixels.
        blend: A second shape that the outline is mixed with; None for a proper shape.
        mix: Weight of `blend`, 0 to 1.
        wobble: Amplitude of a random unevenness of the outline, pixels; 0 for a proper shape.
        stain: A second colour that runs into the first; None for a proper thing.
    """

    shape: Shape
    colour: str
    x: float
    y: float
    radius: float
    blend: Shape | None = None
    mix: float = 0.0
    wobble: float = 0.0
    stain: str | None = None

    @property
    def malformed(self) -> bool:
        """True if the outline is no proper shape, or the colour is not one."""
        return self.blend is not None or self.wobble > 0.0 or self.stain is not None


@dataclass(frozen=True, slots=True)
class Scene:
    """What one picture shows.

    Attributes:
        things: One to three, except in training pictures none of them malformed.
        background: A key of `BACKGROUNDS`.
        stain: A second background that shows in blotches; None for a proper one.
    """

    things: tuple[Thing, ...]
    background: str
    stain: str | None = None


def size_of(radius: float) -> Size:
    """The size class of a radius in pixels."""
    if radius < 10.25:
        return "small"
    return "medium" if radius < 14.5 else "large"


def place_of(x: float, y: float) -> str:
    """The name in `PLACES` of the ninth of the picture that a centre (pixels) lies in."""
    column = (x >= _LOW) + (x > _HIGH)
    row = (y >= _LOW) + (y > _HIGH)
    return PLACES[3 * row + column]


def _box(px: Floats, py: Floats, half_width: Floats, half_height: Floats) -> Floats:
    return np.maximum(np.abs(px) - half_width, np.abs(py) - half_height)


def _triangle(px: Floats, py: Floats, r: Floats) -> Floats:
    # Upright, base 2r at the bottom, height 1.8r, centred on its bounding box.
    half = np.float32(0.9) * r
    slope = np.float32(np.hypot(1.8, 1.0))
    sides: Floats = (np.abs(px) * np.float32(1.8) - (py + half)) / slope
    distance: Floats = np.maximum(sides, py - half)
    return distance


def _star(px: Floats, py: Floats, r: Floats) -> Floats:
    # Fold the plane into one half of one of the five arms, where the outline is one segment.
    x: Floats = np.abs(px)
    y: Floats = -py
    for nx in (0.809017, -0.809017):
        ny = -0.587785
        beyond: Floats = np.maximum(np.float32(nx) * x + np.float32(ny) * y, 0)
        x, y = x - np.float32(2 * nx) * beyond, y - np.float32(2 * ny) * beyond
    x = np.abs(x)
    notch_x, notch_y = 0.46 * 0.587785, 0.46 * 0.809017
    length = np.hypot(notch_x, 1.0 - notch_y)
    return x * np.float32((1.0 - notch_y) / length) + (y - r) * np.float32(notch_x / length)


def _distance(shape: Shape, px: Floats, py: Floats, r: Floats) -> Floats:
    if shape == "circle":
        return np.sqrt(px * px + py * py) - r
    if shape == "rectangle":
        return _box(px, py, r, np.float32(0.62) * r)
    if shape == "triangle":
        return _triangle(px, py, r)
    if shape == "star":
        return _star(px, py, r * np.float32(1.05))
    arm = np.float32(0.34) * r
    return np.minimum(_box(px, py, r, arm), _box(px, py, arm, r))


def coverage(things: Sequence[Thing], left: Floats, top: Floats) -> Floats:
    """How much of each pixel each thing covers, in a window of its own.

    Args:
        things: n things.
        left: The windows' left edges, pixels, shape (n,).
        top: The windows' top edges, pixels, shape (n,).

    Returns:
        Array (n, 42, 42), 0 outside to 1 inside.
    """
    n = len(things)
    centre_x = np.array([t.x for t in things], np.float32)
    centre_y = np.array([t.y for t in things], np.float32)
    radius = np.array([t.radius for t in things], np.float32).reshape(n, 1, 1)
    px = (left - centre_x)[:, None, None] + _WINDOW_GRID[None, None, :]
    py = (top - centre_y)[:, None, None] + _WINDOW_GRID[None, :, None]
    distance = np.empty((n, WINDOW, WINDOW), np.float32)
    for shape in SHAPES:
        rows = [i for i, t in enumerate(things) if t.shape == shape]
        if rows:
            distance[rows] = _distance(shape, px[rows], py[rows], radius[rows])
    for i, thing in enumerate(things):
        if thing.blend is not None:
            other = _distance(thing.blend, px[i], py[i], radius[i])
            distance[i] += np.float32(thing.mix) * (other - distance[i])
        if thing.wobble:
            phase = thing.x * 7.3 + thing.y * 3.1
            around = np.arctan2(py[i], px[i])
            distance[i] += np.float32(thing.wobble) * (
                np.sin(3 * around + phase) + np.sin(5 * around + 2.3 * phase)
            )
    covered: Floats = np.clip(np.float32(0.5) - distance, 0, 1)
    return covered


def _stained(thing: Thing, colour: Floats, x0: int, x1: int, y0: int, y1: int) -> Floats:
    """The colours (rows, columns, 3) of a stained thing: two that meet softly within it."""
    assert thing.stain is not None
    angle = thing.x * 7.3 + thing.y * 3.1
    xs = np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - thing.x)
    ys = np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - thing.y)
    along = np.cos(angle) * xs[None, :] + np.sin(angle) * ys[:, None]
    offset, softness = 0.3 * thing.radius * np.sin(5 * angle), 0.3 * thing.radius
    share = np.clip((along - offset) / softness + 0.5, 0, 1).astype(np.float32)[..., None]
    stain = np.array(COLOURS[thing.stain], np.float32)
    mixed: Floats = colour + share * (stain - colour)
    return mixed


def _blotch(image: Images, scene: Scene) -> None:
    """Paint soft blotches of the second background, placed by where the things are."""
    assert scene.stain is not None
    seed = [round(1000 * value) for thing in scene.things for value in (thing.x, thing.y)]
    rng = np.random.default_rng(seed)
    pixels = np.arange(IMAGE_SIZE, dtype=np.float32) + np.float32(0.5)
    share = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32)
    for _ in range(rng.integers(1, 5)):
        x, y = rng.uniform(0, IMAGE_SIZE, 2)
        wide, high = rng.uniform(6, 20, 2)
        away = np.hypot((pixels[None, :] - x) / wide, (pixels[:, None] - y) / high)
        share = np.maximum(share, np.clip((1.2 - away) / 0.4, 0, 1))
    tint = np.array(BACKGROUNDS[scene.stain], np.float32)
    image[:] = np.rint(image + share[..., None] * (tint - image))


def render(scenes: Sequence[Scene]) -> Images:
    """Draw scenes; later things cover earlier ones.

    Args:
        scenes: n scenes.

    Returns:
        Array (n, 64, 64, 3) of RGB, 0 to 255.
    """
    shape = (len(scenes), IMAGE_SIZE, IMAGE_SIZE, 3)
    tints = np.array([BACKGROUNDS[s.background] for s in scenes], np.uint8).reshape(-1, 1, 1, 3)
    images = np.ascontiguousarray(np.broadcast_to(tints, shape))
    for image, scene in zip(images, scenes, strict=True):
        if scene.stain is not None:
            _blotch(image, scene)
    flat = [(i, t) for i, s in enumerate(scenes) for t in s.things]
    if not flat:
        return images
    things = [t for _, t in flat]
    left = np.array([round(t.x) for t in things], np.int64) - WINDOW // 2
    top = np.array([round(t.y) for t in things], np.int64) - WINDOW // 2
    alphas = coverage(things, left.astype(np.float32), top.astype(np.float32))
    for alpha, (i, thing), x, y in zip(alphas, flat, left.tolist(), top.tolist(), strict=True):
        x0, x1 = max(x, 0), min(x + WINDOW, IMAGE_SIZE)
        y0, y1 = max(y, 0), min(y + WINDOW, IMAGE_SIZE)
        under = images[i, y0:y1, x0:x1].astype(np.float32)
        colour = np.array(COLOURS[thing.colour], np.float32)
        if thing.stain is not None:
            colour = _stained(thing, colour, x0, x1, y0, y1)
        under += alpha[y0 - y : y1 - y, x0 - x : x1 - x, None] * (colour - under)
        images[i, y0:y1, x0:x1] = np.rint(under)
    return images
