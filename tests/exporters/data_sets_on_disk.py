"""Pairs with hostile captions, and data sets of them on disk in any format."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from synthvlm.components.component import LoadContext
from synthvlm.data import digest
from synthvlm.exporters import EXPORTERS, DataSetFacts, ExportedPair
from synthvlm.exporters.base import Split
from synthvlm.exporters.configurations import configurations
from synthvlm.exporters.written_files import WrittenFiles

#: What captions may hold, and readers may stumble over.
HOSTILE = (
    'a "quoted" cat, it\'s <b>bold</b> & \\n not a line',
    "two\nlines\r\nand a\ttab",
    "\u202ea right-to-left override, \u05d7\u05ea\u05d5\u05dc and \u0642\u0637",
    "a NUL \x00 and a bell \x07",
    "\N{CAT FACE} \u732b \U0001f9d1\u200d\U0001f680 e\u0301",
    "10 kB: " + "long " * 2048,
    "null",
    "42",
    "{'a': 1}, [x](http://example.org) | --- |",
)
TRAIN, HELD_OUT = HOSTILE[:6], HOSTILE[6:]
SHADE = 8


def picture(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), (shade * SHADE, 0, 0)).save(sink, "png")
    return sink.getvalue()


def hostile_pairs(split: Split) -> list[ExportedPair]:
    """Three parts of train, one held out."""
    first = 0 if split == "train" else len(TRAIN)
    return [
        ExportedPair(
            id=f"c-{number}",
            caption=caption,
            image=picture(number),
            format="png",
            width=8,
            height=8,
            source="web",
            rank=number + 1,
            scores={"clip": 0.25, "ssim": number / 16},
            score=0.5,
            seed=2**62 + number,
            index=1,
            split=split,
        )
        for number, caption in enumerate(HOSTILE)
        if (number < len(TRAIN)) == (split == "train")
        if number >= first
    ]


def write_data_set(
    folder: Path,
    formats: Sequence[str],
    parts: Iterable[Sequence[ExportedPair]],
    options: dict[str, dict[str, Any]] | None = None,
) -> None:
    """As a run exports them: parts, indexes, what describes them, and the card's header."""

    def on_disk(name: str, chunks: Iterable[bytes]) -> tuple[int, str]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data := b"".join(chunks))
        return len(data), digest([data])

    write = WrittenFiles(on_disk, described=True)
    parts = list(parts)
    exporters = []
    for name in formats:
        settings = EXPORTERS.settings(name, (options or {}).get(name, {}))
        exporters.append(EXPORTERS.load(name, settings, LoadContext()))
        kept = [exporters[-1].write_part(number, part, write) for number, part in enumerate(parts)]
        exporters[-1].finish(kept, write)
    splits = [pair.split for part in parts for pair in part]
    assert write.described is not None
    facts = DataSetFacts(
        name="Pairs",
        description="A cat, “quoted”.",
        license="cc-by-4.0",
        version="1.2.0",
        identity="1a2b",
        splits={split: splits.count(split) for split in dict.fromkeys(splits)},
        scores=("clip", "ssim"),
        files=dict(write.described.files),
        image_folders=tuple(sorted(write.described.image_folders)),
    )
    for exporter in exporters:
        exporter.describe(facts, write)
    write("README.md", [_header(configurations(formats, write.files))])


def _header(data_files: Any) -> bytes:
    import yaml

    from synthvlm.exporters.card import reading_header

    header = yaml.safe_dump(reading_header(len(HOSTILE), data_files, "1a2b"))
    return f"---\n{header}---\n".encode()
