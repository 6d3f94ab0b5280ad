"""What the marks of exported images cost: as a share of generation, and by format.

    python benchmarks/provenance.py

One run of the embedded models, whose images are then marked as an export does, for each of its two
formats; seconds of generation are those that the run records. Then images of --side pixels in each
file format, and with --certificate and --private-key their C2PA signatures, too.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from synthvlm import Pipeline, Recipe
from synthvlm.provenance.c2pa_signing import Signer
from synthvlm.provenance.marks import ImageDetails, marked
from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.image_marks import ImageMarks

DETAILS = ImageDetails("stabilityai/stable-diffusion-xl-base-1.0@main", 2**63 - 1, "0" * 24)


def share_of_a_run(folder: Path, captions: int, candidates: int) -> str:
    """Generate images and mark them; a line with both times."""
    changes = [f"generation.candidates={candidates}", "run.threads=1"]
    Pipeline(Recipe.load("tiny", limit=captions, overrides=changes), folder).run("generate")
    run, recipe = open_folder(str(folder))
    events = [event for event in run.events() if "generation_seconds" in event]
    generation = sum(float(event["generation_seconds"]) for event in events)
    marks, count, seconds = ImageMarks(recipe), 0, 0.0
    for marker in run.markers("generate").values():
        pairs = marker.file("pairs")
        assert pairs is not None
        for pair in run.read_table(pairs, ["image", "format"]).to_pylist():
            began = time.perf_counter()
            for _ in recipe.export.formats:
                marks.marked(pair["image"], pair["format"], 2**62, marker)
            seconds += time.perf_counter() - began
            count += 1
    return (
        f"{count * candidates} images of 64 x 64 generated in {generation:.2f} s, {count} marked "
        f"for {len(recipe.export.formats)} formats in {seconds * 1000:.1f} ms: "
        f"{seconds / generation:.3%} of generation"
    )


def encoded(format: str, side: int) -> bytes:
    """An image with large shapes and fine noise, about as large as a photograph's file."""
    rng = np.random.default_rng(0)
    shapes = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    pixels = np.asarray(shapes.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noise = rng.integers(-4, 5, pixels.shape, dtype=np.int16)
    sink = io.BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(sink, format)
    return sink.getvalue()


def milliseconds(work: Callable[[], bytes], turns: int) -> float:
    """The best of some turns."""
    best = float("inf")
    for _ in range(turns):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best * 1000


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--turns", type=int, default=20, help="of which the best counts")
    parser.add_argument("--certificate", help="PEM file; with --private-key")
    parser.add_argument("--private-key", help="PEM file")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure, and print tables for the docs."""
    args = make_parser().parse_args(argv)
    signer = Signer(args.certificate, args.private_key) if args.certificate else None
    print(f"| format, {args.side} x {args.side} | file | marked | signed besides |")
    print("|---|---|---|---|")
    for format in ("png", "jpeg", "webp"):
        image = encoded(format, args.side)
        result = marked(image, format, DETAILS)
        mark = milliseconds(lambda i=image, f=format: marked(i, f, DETAILS), args.turns)  # type: ignore[misc]
        signed = "not measured"
        if signer is not None:
            size = len(signer.signed(result, format)) - len(result)
            spent = milliseconds(lambda i=result, f=format: signer.signed(i, f), args.turns)  # type: ignore[misc]
            signed = f"+{size:,} bytes, {spent:.1f} ms"
        added = f"+{len(result) - len(image):,} bytes, {mark:.2f} ms"
        print(f"| {format} | {len(image):,} bytes | {added} | {signed} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(share_of_a_run(Path(folder) / "run", args.captions, args.candidates))


if __name__ == "__main__":
    main()
