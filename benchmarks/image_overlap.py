"""Near copies of reference images: what is found, what is taken for one wrongly, time and memory.

    python benchmarks/image_overlap.py [--tiles 14] [--copies 300] [--others 3000]
    python benchmarks/image_overlap.py --references 20000

Photographs are those that scikit-image and scikit-learn bring along, cut into tiles of 128 pixels
like a chess board: white tiles are references, black ones and parts of them are other pictures;
then the colours are changed. References are the tiles whose grey values have a standard deviation
of at least 10 of 255; the plain ones, of a sky, say, are apart, and so are textures (brick, grass,
gravel), whose tiles repeat. Scenes of the embedded world are drawn with two or three things of
random kinds, sizes and places; those of its captions, of which many look the same, are apart, too.
Of a copy, 70 to 80 % of the area stay, its sides change by a factor of 0.6 to 1.5, JPEG has quality
30 to 90, half are flipped.

Thresholds are those with 0.1 % false alarms on every second photograph, or other scenes; the table
is of the rest. An interval is Wilson's, 95 %, as if all pictures had nothing in common. With
`--references`, blotches of colour are indexed, and copies of some of them looked up.
"""

from __future__ import annotations

import argparse
import io
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from synthvlm.components.component import LoadContext
from synthvlm.estimates import share_interval
from synthvlm.recipe.selection import ImageOverlapSettings
from synthvlm.scorers.clip import ClipScorer, ClipSettings
from synthvlm.selectors import near_copies
from synthvlm.selectors.near_copies import References, small_image
from synthvlm.stages.near_duplicate_images import difference_hash
from synthvlm.tiny.captions import sample_claim, sample_scene
from synthvlm.tiny.world import (
    BACKGROUNDS,
    COLOURS,
    IMAGE_SIZE,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    render,
)

PHOTOGRAPHS = (
    "skimage/data/astronaut.png", "skimage/data/camera.png", "skimage/data/chelsea.png",
    "skimage/data/coffee.png", "skimage/data/coins.png", "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png", "skimage/data/moon.png", "skimage/data/motorcycle_left.png",
    "skimage/data/retina.jpg", "skimage/data/rocket.jpg", "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)  # fmt: skip
TEXTURES = tuple(f"skimage/data/{name}.png" for name in ("brick", "grass", "gravel"))
TILE = 128
#: A tile with less contrast (standard deviation of grey, of 255) is plain.
PLAIN = 10
FALSE_ALARMS = 0.001
WAYS: dict[str, tuple[str, ...]] = {
    "crop": ("crop",),
    "JPEG": ("jpeg",),
    "flip": ("flip",),
    "crop, JPEG": ("crop", "jpeg"),
    "crop, resize, JPEG, flip": ("crop", "resize", "jpeg", "flip"),
}
#: Parts that the hash of each reference is taken of: as those that `References` indexes.
PARTS = near_copies._PARTS

Picture = Image.Image
#: Of some pictures, to which of the references each is most similar, and how similar.
Nearest = Callable[[Sequence[Picture]], tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]
#: References, other pictures.
Fold = tuple[list[Picture], list[Picture]]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=14, help="references of a photograph, at most")
    parser.add_argument("--scenes", type=int, default=1000, help="references, and other scenes")
    parser.add_argument("--copies", type=int, default=300, help="of each way to make one")
    parser.add_argument("--others", type=int, default=3000, help="other pictures of photographs")
    parser.add_argument("--sets", nargs="+", help="which sets of pictures; default: all")
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="default: all")
    parser.add_argument("--references", type=int, help="measure time and memory of so many")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    if args.references:
        scale(args.references)
        return
    for name, (tuned, tested) in sets(args).items():
        print(f"\n{name}: {sum(len(references) for references, _ in tested)} references, "
              f"{sum(len(others) for _, others in tested)} other pictures")  # fmt: skip
        print(f"| found by | threshold | false alarms | {' | '.join(WAYS)} |")
        print("|" + " --- |" * (3 + len(WAYS)))
        for method in args.methods or METHODS:
            table(method, METHODS[method], tuned, tested, args.copies)


def sets(args: argparse.Namespace) -> dict[str, tuple[list[Fold], list[Fold]]]:
    """For each set of pictures, what a threshold is chosen on, and what it is tried on."""
    photographs = [name for name in PHOTOGRAPHS if find_spec(name.partition("/")[0])]
    tuned, tested = photographs[::2], photographs[1::2]
    made: dict[str, Callable[[], tuple[list[Fold], list[Fold]]]] = {
        "photographs": lambda: (folds(tuned, args), folds(tested, args)),
        "plain tiles": lambda: (folds(tuned, args), folds(tested, args, is_plain=True)),
        "textures": lambda: (folds(tuned, args), folds(TEXTURES, args)),
        "scenes of 3 things": lambda: two_scenes(partial(random_scene, 3), args.scenes),
        "scenes of 2 things": lambda: two_scenes(partial(random_scene, 2), args.scenes),
        "scenes of captions": lambda: two_scenes(caption_scene, args.scenes),
    }
    return {name: make() for name, make in made.items() if not args.sets or name in args.sets}


def folds(names: Sequence[str], args: argparse.Namespace, *, is_plain: bool = False) -> list[Fold]:
    """White tiles against black ones, and the other way round."""
    rng = np.random.default_rng(0)
    white: list[Picture] = []
    black: list[Picture] = []
    for name in names:
        spec = find_spec(name.partition("/")[0])
        assert spec is not None
        assert spec.origin is not None
        with Image.open(Path(spec.origin).parents[1] / name) as opened:
            image = opened.convert("RGB")
        of_colour: list[list[Picture]] = [[], []]
        for top in range(0, image.height - TILE + 1, TILE):
            for left in range(0, image.width - TILE + 1, TILE):
                tile = image.crop((left, top, left + TILE, top + TILE))
                of_colour[(left // TILE + top // TILE) % 2].append(tile)
        for all, some in zip((white, black), of_colour, strict=True):
            all += [some[n] for n in rng.permutation(len(some))[: args.tiles]]
    scenes = []
    for references, others in ((white, black), (black, white)):
        asked = [tile for tile in references if (contrast(tile) < PLAIN) == is_plain]
        if asked:
            scenes.append((asked, list(parts(others, args.others // 2, rng))))
    return scenes


def contrast(picture: Picture) -> float:
    """The standard deviation of its grey values."""
    return float(np.asarray(picture.convert("L")).std())


def parts(tiles: Sequence[Picture], count: int, rng: np.random.Generator) -> Iterator[Picture]:
    """The tiles, and random parts of them of 60 to 100 % of each side."""
    for number in range(count):
        tile = tiles[number % len(tiles)]
        if number < len(tiles):
            yield tile
            continue
        side = int(rng.integers(round(0.6 * TILE), TILE + 1))
        left, top = rng.integers(0, TILE - side + 1, 2).tolist()
        yield tile.crop((left, top, left + side, top + side))


def two_scenes(draw: Callable[[Random], Scene], count: int) -> tuple[list[Fold], list[Fold]]:
    """Drawn scenes, references and as many others: to choose a threshold on, and to try it on."""
    halves = []
    for seed in (1, 2):
        random = Random(seed)
        drawn = render([draw(random) for _ in range(2 * count)])
        pictures = [Image.fromarray(image) for image in drawn]
        halves.append([(pictures[:count], pictures[count:])])
    return halves[0], halves[1]


def caption_scene(random: Random) -> Scene:
    """As a caption of the embedded world says it."""
    return sample_scene(sample_claim(random), random)


def random_scene(things: int, random: Random) -> Scene:
    """Things anywhere; later ones may cover earlier ones."""

    def thing() -> Thing:
        radius = random.uniform(*random.choice(list(SIZES.values())))
        x, y = (random.uniform(8, IMAGE_SIZE - 8) for _ in "xy")
        return Thing(random.choice(SHAPES), random.choice(list(COLOURS)), x, y, radius)

    return Scene(tuple(thing() for _ in range(things)), random.choice(list(BACKGROUNDS)))


def changed(picture: Picture, ways: Sequence[str], rng: np.random.Generator) -> Picture:
    """A copy, made in some ways."""
    width, height = picture.size
    if "crop" in ways:
        area, stretch = rng.uniform(0.7, 0.8), np.exp(rng.uniform(-0.08, 0.08))
        wide = min(1.0, float(np.sqrt(area * stretch)))
        across, down = round(wide * width), round(area / wide * height)
        left = int(rng.integers(0, width - across + 1))
        top = int(rng.integers(0, height - down + 1))
        picture = picture.crop((left, top, left + across, top + down))
    if "resize" in ways:
        factor = rng.uniform(0.6, 1.5)
        size = (round(picture.width * factor), round(picture.height * factor))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    if "flip" in ways and (ways == ("flip",) or rng.random() < 0.5):
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if "jpeg" in ways:
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=int(rng.integers(30, 91)))
        picture = Image.open(sink).convert("RGB")
    return picture


def by_alignment(references: Sequence[Picture]) -> Nearest:
    """As `selection.image_overlap` does it."""
    index = References(map(small_image, references))

    def nearest(
        pictures: Sequence[Picture],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        nearest = [index.nearest(small_image(picture)) for picture in pictures]
        rows = np.array([-1 if one is None else one.reference for one in nearest], np.int64)
        return rows, np.array([0.0 if one is None else one.similarity for one in nearest])

    return nearest


def by_vectors(make: Callable[[Picture], npt.NDArray[np.float32]], with_parts: bool) -> Callable:  # type: ignore[type-arg]
    """By the cosine of one vector of each picture, of parts of the references too."""

    def of(references: Sequence[Picture]) -> Nearest:
        boxes = PARTS if with_parts else PARTS[:1]
        stored = np.stack([make(part(one, box)) for one in references for box in boxes])

        def nearest(
            pictures: Sequence[Picture],
        ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
            rows, values = [], []
            for picture in pictures:
                flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                both = [make(picture), make(flipped)] if with_parts else [make(picture)]
                cosines = (stored @ np.stack(both).T).max(1)
                best = int(cosines.argmax())
                rows.append(best // len(boxes))
                values.append(float(cosines[best]))
            return np.array(rows, np.int64), np.array(values)

        return nearest

    return of


def part(picture: Picture, box: npt.NDArray[np.float32]) -> Picture:
    left, top, wide, high = box.tolist()
    width, height = picture.size
    edges = (left * width, top * height, (left + wide) * width, (top + high) * height)
    return picture.crop(tuple(map(round, edges)))


def hash_vector(picture: Picture) -> npt.NDArray[np.float32]:
    """The bits of the difference hash as a unit vector: a cosine of 1 - d / 32 at distance d."""
    sink = io.BytesIO()
    picture.save(sink, "BMP")
    bits = [difference_hash(sink.getvalue()) >> place & 1 for place in range(64)]
    return np.asarray((2 * np.array(bits, np.float32) - 1) / 8, np.float32)


def coarse_vector(picture: Picture) -> npt.NDArray[np.float32]:
    """The form by which candidates are found."""
    whole = near_copies._part(small_image(picture).pixels[None], PARTS[:1])
    return np.asarray(near_copies._coarse(whole)[0] / 127, np.float32)


class _Embeddings:
    """Image embeddings of the embedded CLIP model."""

    def __init__(self) -> None:
        self._scorer = ClipScorer.load(ClipSettings(), LoadContext())

    def __call__(self, picture: Picture) -> npt.NDArray[np.float32]:
        import torch

        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
        embedding: npt.NDArray[np.float32] = self._scorer.embed_images(pixels)[0]
        return embedding.astype(np.float32)


METHODS: dict[str, Callable[[Sequence[Picture]], Nearest]] = {
    "difference hash": by_vectors(hash_vector, with_parts=False),
    "difference hash, parts and flipped": by_vectors(hash_vector, with_parts=True),
    "embedding (embedded CLIP)": lambda references: by_vectors(_Embeddings(), False)(references),
    "coarse form, parts and flipped": by_vectors(coarse_vector, with_parts=True),
    "coarse form, then aligned": by_alignment,
}


def table(
    method: str,
    make: Callable[[Sequence[Picture]], Nearest],
    tuned: Sequence[Fold],
    tested: Sequence[Fold],
    copies: int,
) -> None:
    """A row: the threshold of the one part, tried on the other; and that of the settings."""
    others = np.concatenate([make(references)(others)[1] for references, others in tuned])
    thresholds = {"": float(np.quantile(others, 1 - FALSE_ALARMS, method="higher"))}
    if make is by_alignment:
        default = ImageOverlapSettings.model_fields["max_similarity"].get_default()
        thresholds[", default"] = float(default)
    alarms: list[npt.NDArray[np.float64]] = []
    similarities: dict[str, list[npt.NDArray[np.float64]]] = {way: [] for way in WAYS}
    for references, pictures in tested:
        nearest = make(references)
        alarms.append(nearest(pictures)[1])
        rng = np.random.default_rng(1)
        for way, ways in WAYS.items():
            asked = rng.choice(len(references), copies // len(tested))
            rows, values = nearest([changed(references[n], ways, rng) for n in asked])
            similarities[way].append(np.where(rows == asked, values, -1.0))
    for label, threshold in thresholds.items():
        cells = [f"{threshold:.3f}", share(np.concatenate(alarms) > threshold)]
        cells += [share(np.concatenate(values) > threshold) for values in similarities.values()]
        print(f"| {method}{label} | {' | '.join(cells)} |", flush=True)


def share(hits: npt.NDArray[np.bool_]) -> str:
    """A share in per cent, with its interval."""
    estimate = share_interval(int(hits.sum()), len(hits))
    assert estimate.low is not None
    assert estimate.high is not None
    return f"{100 * estimate.value:.2f} ({100 * estimate.low:.2f} to {100 * estimate.high:.2f})"


def scale(count: int) -> None:
    """Time and memory of an index, and how many copies of its images are found."""
    before, began = peak_mb(), time.process_time()
    index = References(small_image(blotches(seed)) for seed in range(count))
    built, memory = time.process_time() - began, peak_mb() - before
    rng = np.random.default_rng(0)
    asked = rng.choice(count, min(count, 500), replace=False)
    images = [changed(blotches(n), ("crop", "flip", "jpeg"), rng) for n in asked.tolist()]
    others = [blotches(count + n) for n in range(len(asked))]
    began = time.process_time()
    nearest = [index.nearest(small_image(image)) for image in images]
    wrong = [index.nearest(small_image(image)) for image in others]
    each = (time.process_time() - began) / (len(images) + len(others))
    right = [
        one is not None and one.reference == n and one.similarity > 0.9
        for one, n in zip(nearest, asked.tolist(), strict=True)
    ]
    alarms = [one is not None and one.similarity > 0.9 for one in wrong]
    print("| references | indexed, CPU seconds | memory, MB | an image, ms | found, % | false, % |")
    print("|" + " --- |" * 6)
    print(f"| {count:,} | {built:.0f} | {memory:.0f} | {1000 * each:.1f} | "
          f"{share(np.array(right))} | {share(np.array(alarms))} |")  # fmt: skip


def blotches(seed: int) -> Picture:
    """Soft blotches of colour, 64 pixels square."""
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    return noise.resize((64, 64), Image.Resampling.BICUBIC)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
