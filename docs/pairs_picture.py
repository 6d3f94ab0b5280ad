"""Draw the picture of the README from a run: python docs/pairs_picture.py runs/demo-001."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS, SIDE, TEXT, GAP = 6, 2, 160, 66, 12


def main() -> None:
    """Read the exported data set and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images/pairs.png"))
    args = parser.parse_args()
    entries = json.loads((args.run / "dataset" / "llava.json").read_text(encoding="utf-8"))
    width = COLUMNS * (SIDE + GAP) + GAP
    picture = Image.new("RGB", (width, ROWS * (SIDE + TEXT + GAP) + GAP), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(13)
    # Evenly from the whole data set, which is in the order of the input: no hand picks them.
    count = min(COLUMNS * ROWS, len(entries))
    for place in range(count):
        entry = entries[place * len(entries) // count]
        x = GAP + place % COLUMNS * (SIDE + GAP)
        y = GAP + place // COLUMNS * (SIDE + TEXT + GAP)
        image = Image.open(args.run / "dataset" / "images" / entry["image"]).convert("RGB")
        picture.paste(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        caption = textwrap.fill(entry["conversations"][1]["value"], 24)
        draw.text((x, y + SIDE + 4), caption, "#333", font)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.out, optimize=True)


if __name__ == "__main__":
    main()
