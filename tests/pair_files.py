"""Small data sets of pairs in every format that can be compared."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from synthvlm.comparison.settings import ComparisonSettings, choose_scorers

__all__ = [
    "TINY_SETTINGS",
    "Made",
    "conversation",
    "llava",
    "parquet",
    "png",
    "sample_pairs",
    "webdataset",
]

#: The scorers of the paper, but with the embedded CLIP model.
TINY_SETTINGS = ComparisonSettings(choose_scorers(clip="tiny"))

COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("circle", "square")


class Made(NamedTuple):
    id: str
    caption: str
    image: bytes


def png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def sample_pairs(count: int, seed: int = 0) -> list[Made]:
    """Shapes on noise, of two sizes, so that no two images are the same."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        width, height = (64, 48) if number % 3 else (50, 70)
        noise = rng.integers(200, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(noise)
        x, y = (int(value) for value in rng.integers(2, 20, 2))
        colour, shape = COLOURS[number % 4], SHAPES[number // 4 % 2]
        draw = ImageDraw.Draw(image)
        (draw.ellipse if shape == "circle" else draw.rectangle)((x, y, x + 22, y + 22), colour)
        made.append(Made(f"p{number}", f"A {colour} {shape}, number {number}.", png(image)))
    return made


def conversation(id: str, image: str, caption: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": caption}]
    return {"id": id, "image": image, "conversations": turns}


def llava(folder: Path, pairs: Sequence[Made], more: Sequence[Any] = ()) -> Path:
    """``llava.json`` with ``images/`` beside it; ``more`` are records as they are."""
    (folder / "images").mkdir(parents=True)
    records: list[Any] = []
    for pair in pairs:
        (folder / "images" / f"{pair.id}.png").write_bytes(pair.image)
        records.append(conversation(pair.id, f"{pair.id}.png", pair.caption))
    path = folder / "llava.json"
    path.write_text(json.dumps([*records, *more]))
    return path


def parquet(path: Path, pairs: Sequence[Made], text: str = "caption") -> Path:
    images = [{"bytes": pair.image, "path": None} for pair in pairs]
    columns = {"image": images, text: [pair.caption for pair in pairs]}
    pq.write_table(pa.table({"id": [pair.id for pair in pairs], **columns}), path)
    return path


def webdataset(path: Path, pairs: Sequence[Made], more: Sequence[tuple[str, bytes]] = ()) -> Path:
    """A shard; every other caption is in a .json. ``more`` are files as they are."""
    files: list[tuple[str, bytes]] = []
    for number, pair in enumerate(pairs):
        files.append((f"{pair.id}.png", pair.image))
        if number % 2:
            files.append((f"{pair.id}.json", json.dumps({"caption": pair.caption}).encode()))
        else:
            files.append((f"{pair.id}.txt", pair.caption.encode()))
    with tarfile.open(path, "w") as archive:
        for name, data in [*files, *more]:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path
