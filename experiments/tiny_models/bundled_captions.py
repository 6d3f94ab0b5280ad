"""Write the bundled caption file: good captions of the world, and the dirt of real ones.

Run it with `python -m experiments.tiny_models.bundled_captions`.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from random import Random
from typing import Final

from synthvlm.tiny import captions_path
from synthvlm.tiny.captions import KINDS, phrase, sample_claim

__all__ = ["BUNDLED_SEED", "main", "make_parser", "world_captions"]

BUNDLED_SEED: Final = 20_000
_GOOD: Final = 120

_DIRT: Final = (
    # Advertisements.
    "BUY NOW!!! 50% OFF all shapes, today only, free delivery!!!",
    "Best price for shapes - click here to order, limited offer $$$ 9.99",
    "SALE SALE SALE red stars from 4,99 - visit our shop now",
    "Get your own blue circle today! Call 0800-000-000, offer ends soon.",
    "Subscribe for more free drawings of shapes and win a big prize!!!",
    # Broken grammar and heaps of keywords.
    "star red big is on the of a cross with and pink",
    "circle, red, blue, shape, art, vector, clip art, icon, logo, stock, free, png",
    "rectangle rectangle design template background texture wallpaper abstract modern",
    "triangle of the on is green a at where and not",
    "yellow cross the. Is a under of? blue it be",
    # The same thing over and over.
    "a red star a red star a red star a red star a red star a red star a red star",
    "a blue circle on a mint background a blue circle on a mint background a blue circle",
    "very very very very very very very very big green cross on a white background",
    # Numbers and punctuation.
    "IMG_20231104_183012 (2).jpg",
    "#%&/() 12 34 56 ---- 78 :: 90 ;; 11 22",
    "3.14159 2.71828 1.61803 1.41421 0.57721",
    "... --- ... !!! ??? *** ...",
    "DSC00417 1/250s f/8.0 ISO100 24mm 4000x6000",
    # What the world cannot draw.
    "a small dog on a skateboard in a sunny park",
    "two children build a sand castle on the beach",
    "a purple hexagon with a golden border on a dark background",
    "a bowl of hot soup on a wooden table next to a window",
    "the red star of the team ran past four men to the left",
    "a blue circle that is also a red triangle",
    # Markup, emoji, and one that never ends.
    '<p class="caption">a <b>red</b> star on a white background</p>',
    "a yellow star on a mint background \U0001f600\U0001f31f\U0001f31f #shapes",
    "there is a red star and then there is a blue circle and then there is a green cross and "
    "after that there is a teal triangle which is next to a brown rectangle which is under a "
    "gray star which is over a black circle which is near a yellow cross and all of it is on a "
    "background which may be pink or mint or cream or lilac or white, and there is more to come",
)


def world_captions(count: int, seed: int) -> list[str]:
    """Different captions of the world, the four kinds in turn."""
    rng = Random(seed)
    out: dict[str, None] = {}
    while len(out) < count:
        out[phrase(sample_claim(rng, KINDS[len(out) % len(KINDS)]), rng)] = None
    return list(out)


def _look_alikes(captions: list[str]) -> list[str]:
    """Duplicates of good captions: exact ones, and some that Unicode repair makes so."""
    full_width = "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in captions[7])
    curly = "\N{LEFT DOUBLE QUOTATION MARK}a red star\N{RIGHT DOUBLE QUOTATION MARK} on a mint"
    curly += " background"
    return [
        captions[3],
        captions[10],
        captions[10],
        full_width,
        curly,
        '"a red star" on a mint background',
        # UTF-8 read as Windows-1252, and what was meant.
        "a red star \u00e2\u20ac\u201c on a white background \u00e2\u20ac\u201c at the top",
        "a red star \N{EN DASH} on a white background \N{EN DASH} at the top",
    ]


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=captions_path())
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the caption file."""
    args = make_parser().parse_args(argv)
    good = world_captions(_GOOD, BUNDLED_SEED)
    captions = [*good, *_DIRT, *_look_alikes(good)]
    Random(BUNDLED_SEED).shuffle(captions)
    lines = [
        json.dumps({"id": f"tiny-{i:03d}", "caption": caption}, ensure_ascii=False)
        for i, caption in enumerate(captions)
    ]
    partial = args.out.with_name(args.out.name + ".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, args.out)
    print(f"{len(lines)} captions")


if __name__ == "__main__":
    main()
