"""All measurements on a GPU by one command, within a time that is given.

    python benchmarks/gpu.py [--seconds 450] [--json gpu.json]
    python benchmarks/gpu.py --device cpu --small

Random weights of the size of SDXL and CLIP ViT-B/32 are built on the device and written to a
temporary folder (7 GB); nothing is downloaded. Parts, in this order, each printed when it is done,
so that a run that is cut off still tells something, and each left out, with a line that says so,
if it would not end in time:

1. floating-point operations of a step, of decoding, of an image;
2. the generator alone at several batch sizes: images/s, model FLOP utilisation (denoiser and
   decoder, against the card's dense half-precision peak as its data sheet has it), peak memory;
3. from captions to selected pairs beside the loops of `generation.py` and the denoiser alone;
4. the share of the time from the first kernel to the last in which the GPU does nothing, by
   torch.profiler, of the same sides;
5. the generator with its denoiser compiled;
6. pipelines of the size of SD3 medium and FLUX.1-dev, without their text encoders.

At the end the table for the docs. `--small` runs the same code on models of next to no size.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import generation
import random_sdxl
import random_transformers
import torch
from card import HEADER, Card, as_row, waiting_share
from diffusers.utils import logging

from synthvlm.errors import OutOfMemoryError
from synthvlm.generators.diffusers import DiffusersGenerator
from synthvlm.generators.settings import DiffusersSettings

GUIDANCE = 5.0
CANDIDATES = 4
SIDES_BATCH = 4
#: Captions of the profiled turns: three batches of ours; of the loop with single images, fewer.
PROFILED_CAPTIONS, PROFILED_OFFICIAL = 3, 1
#: Seconds that a part needs, about, beyond what its images take.
NEEDS = {"sides": 70, "waiting": 60, "compiled": 130, "transformers": 30}


class Measurements:
    """Runs parts as long as there is time, and keeps what they found."""

    def __init__(self, seconds: float, file: Path | None) -> None:
        """Begin to count the time; the file is written after each part."""
        self._began, self._seconds, self._file = time.monotonic(), seconds, file
        self.figures: dict[str, Any] = {}

    def part(self, name: str, needs: float, work: Callable[[], Any]) -> Any:
        """Do a part, unless it would not end in time; what it found, or None."""
        left = self._seconds - (time.monotonic() - self._began)
        print(f"\n## {name}", flush=True)
        result: Any = None
        if left < needs:
            self.figures[name] = f"not measured: {left:.0f} s are left, {needs:.0f} are needed"
        else:
            try:
                result = self.figures[name] = work()
            except (Exception, SystemExit) as error:  # the other parts are measured all the same
                lines = str(error).splitlines() or [""]
                self.figures[name] = f"failed: {type(error).__name__}: {lines[0]}"
            free()
        if result is None:
            print(self.figures[name], flush=True)
        took = time.monotonic() - self._began
        print(f"({took:.0f} of {self._seconds:.0f} s are over)", flush=True)
        if self._file:
            self._file.write_text(json.dumps(self.figures, indent=2) + "\n", encoding="utf-8")
        return result


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=450, help="in all (default 450)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--small", action="store_true", help="models of next to no size")
    parser.add_argument("--steps", type=int, default=20, help="of every image (default 20)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--captions", type=int, default=6, help="of part 3 (default 6)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures, after each part")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = make_parser().parse_args(argv)
    logging.set_verbosity_error()
    print(generation.describe_machine(torch.get_num_threads()))
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("not measured: no GPU")
        return 0
    card = Card(arguments.device)
    measured = Measurements(arguments.seconds, arguments.json)
    if not card.is_gpu:
        torch.set_num_threads(1)
    peak = "unknown card" if card.peak is None else f"peak {card.peak:g} TFLOP/s"
    print(f"{card.name}, {card.dtype}, {peak}; {arguments.steps} steps")
    with tempfile.TemporaryDirectory() as name:
        measure(arguments, card, measured, Path(name))
    report(card, arguments, measured.figures)
    return 0


def measure(
    arguments: argparse.Namespace, card: Card, measured: Measurements, folder: Path
) -> None:
    """All parts."""
    is_small = arguments.small
    side = 64 if is_small else 1024
    sizes = random_sdxl.SMALL if is_small else random_sdxl.SDXL
    tflop = measured.part("operations", 0, lambda: count_operations(sizes, side, arguments.steps))
    models = measured.part("models", 0, lambda: build_models(folder, card, sizes))
    if tflop is None or models is None:
        return
    pipeline, clip = map(Path, models)
    settings = DiffusersSettings(
        model=str(pipeline),
        device=card.device,
        dtype=card.dtype,
        steps=arguments.steps,
        guidance_scale=GUIDANCE,
        height=side,
        width=side,
    )
    image = tflop["image"]
    sweep = arguments.batch_sizes
    rows = measured.part("generator", 0, lambda: measure_generator(card, settings, sweep, image))
    bench = generation.make_bench(
        folder,
        arguments.captions,
        pipeline,
        clip,
        device=card.device,
        batch_size=SIDES_BATCH,
        changes=recipe_changes(card, arguments.steps, side),
    )
    # What an image takes at the batch size of the sides, several times over.
    rate = next((row["images_per_s"] for row in rows or [] if row["batch"] == SIDES_BATCH), 1.0)
    turns = (5 * arguments.captions + 8) * CANDIDATES / rate
    profiled = (3 * PROFILED_CAPTIONS) * CANDIDATES / rate
    needs = dict.fromkeys(NEEDS, 0) if is_small else NEEDS
    measured.part("sides", needs["sides"] + turns, lambda: measure_sides(bench))
    measured.part("waiting", needs["waiting"] + profiled, lambda: measure_waiting(card, bench))
    best = max(rows or [], key=lambda row: row["images_per_s"], default={"batch": SIDES_BATCH})
    measured.part(
        "compiled",
        needs["compiled"],
        lambda: measure_compiled(card, settings, best["batch"], image),
    )
    for build in (random_transformers.sd3, random_transformers.flux):
        measured.part(
            build.__name__,
            needs["transformers"] + 8 / rate,
            partial(measure_transformer, card, build, arguments, side),
        )


def build_models(folder: Path, card: Card, sizes: random_sdxl.Sizes) -> list[str]:
    """Folders of the pipeline and of CLIP."""
    if sizes is random_sdxl.SDXL:
        counts = random_sdxl.check(folder)
        print(", ".join(f"{part} {count / 1e6:,.1f}M" for part, count in counts.items()))
    saved = random_sdxl.save(folder, card.device, getattr(torch, card.dtype), sizes)
    return [str(path) for path in saved]


def recipe_changes(card: Card, steps: int, side: int) -> list[str]:
    """What is changed of the recipe `tiny`."""
    changes = [
        f"run.threads={torch.get_num_threads()}",
        f"generation.dtype={card.dtype}",
        f"generation.steps={steps}",
        f"generation.guidance_scale={GUIDANCE}",
        f"generation.height={side}",
        f"generation.width={side}",
        f"generation.candidates={CANDIDATES}",
    ]
    if side >= 1024:
        changes += ["scoring.ssim.side=768", "scoring.ssim.model_input_side=336"]
    return changes


def count_operations(sizes: random_sdxl.Sizes, side: int, steps: int) -> dict[str, float]:
    """Tera-operations of a step, of decoding and of an image; without memory or device."""
    step = random_sdxl.step_flops(side, side, sizes) / 1e12
    decoding = random_sdxl.decoder_flops(side, side, sizes.vae) / 1e12
    image = steps * step + decoding
    print(f"a step {step:.3g} TFLOP, decoding {decoding:.3g}, an image {image:.3g}", flush=True)
    return {"step": step, "decoding": decoding, "image": image}


def measure_generator(
    card: Card, settings: DiffusersSettings, batch_sizes: Sequence[int], tflop: float
) -> list[dict[str, Any]]:
    """The generator at each batch size; sizes that do not fit into memory are left out."""
    generator = DiffusersGenerator(settings)
    what = "SDXL, compiled" if settings.compile else "SDXL"
    print(HEADER)
    rows = []
    for size in batch_sizes:
        prompts = [f"a photo, number {number}" for number in range(size)]
        try:
            first, _ = card.clocked(partial(generator.warm_up, size))
            clock = card.clocked(partial(generator.generate, prompts, range(size)))
        except OutOfMemoryError as error:
            print(f"| {what} | {size} | does not fit: {error} | | | |", flush=True)
            break
        rows.append(card.row(what, size, size, tflop, clock) | {"first_batch_s": first})
    return rows


def measure_compiled(
    card: Card, settings: DiffusersSettings, batch_size: int, tflop: float
) -> list[dict[str, Any]]:
    """The generator with its denoiser compiled, at one batch size: each is compiled apart."""
    if not card.is_gpu:
        raise SystemExit("compiled for a GPU only")
    return measure_generator(card, replace(settings, compile=True), [batch_size], tflop)


def measure_sides(bench: generation.Bench) -> dict[str, Any]:
    """From captions to selected pairs, beside the loops and the denoiser alone."""
    return generation.report(bench, generation.take_turns(bench, 1))


def measure_waiting(card: Card, bench: generation.Bench) -> dict[str, float | None]:
    """The share of time in which the GPU does nothing, of each side."""
    if not card.is_gpu:
        raise SystemExit("there is no GPU that could wait")
    from torch.profiler import ProfilerActivity, profile

    sides = {
        generation.OURS: (bench.ours, PROFILED_CAPTIONS),
        generation.BY_HAND: (bench.by_hand, PROFILED_CAPTIONS),
        generation.OFFICIAL: (bench.official, PROFILED_OFFICIAL),
    }
    shares: dict[str, float | None] = {}
    for name, (call, captions) in sides.items():
        with profile(activities=[ProfilerActivity.CUDA]) as profiled:
            call("profiled", min(captions, len(bench.captions)))
        shares[name] = waiting_share(
            (event.name, event.time_range.start, event.time_range.end)
            for event in profiled.events() or []
            if event.device_type.name == "CUDA"
        )
        share = shares[name]
        print(f"- {name}: the GPU waits {'?' if share is None else f'{share:.1%}'}", flush=True)
    return shares


@torch.no_grad()
def measure_transformer(
    card: Card, build: Callable[..., Any], arguments: argparse.Namespace, side: int
) -> list[dict[str, Any]]:
    """A pipeline with a diffusion transformer at two batch sizes."""
    dtype = torch.bfloat16 if card.is_gpu else torch.float32
    built = build(card.device, dtype, small=arguments.small)
    size = {"height": side, "width": side}

    def call(images: int, steps: int, **options: Any) -> Any:
        prompts = built.prompts(images)
        return built.pipeline(**prompts, **size, num_inference_steps=steps, **options)

    step = random_sdxl.flops(call, 1, 1, output_type="latent") / 1e12
    decoding = random_sdxl.flops(call, 1, 1, output_type="pt") / 1e12 - step
    tflop = arguments.steps * step + decoding
    print(HEADER)
    rows = []
    for images in (1, 4):
        call(images, 1, output_type="pt")
        clock = card.clocked(partial(call, images, arguments.steps, output_type="pt"))
        rows.append(card.row(built.name, images, images, tflop, clock))
    return rows


def report(card: Card, arguments: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Print the tables for the docs; what was not measured is said to be."""
    side = 64 if arguments.small else 1024
    print(f"\n## For the docs: {card.name}, {arguments.steps} steps, {side}x{side}\n\n{HEADER}")
    for name in ("generator", "compiled", "sd3", "flux"):
        figure = figures.get(name, "not measured")
        for row in figure if isinstance(figure, list) else []:
            print(as_row(row))
        if not isinstance(figure, list):
            print(f"| {name} | {figure} | | | | |")
    print()
    sides, waiting = (figures.get(name, "not measured") for name in ("sides", "waiting"))
    for side, ratios in sides["ratios"].items() if isinstance(sides, dict) else [(sides, None)]:
        print(f"- {side} / SynthVLM, seconds: {ratios['seconds'][0]:.2f}" if ratios else side)
    for side, share in waiting.items() if isinstance(waiting, dict) else [(waiting, None)]:
        print(side if share is None else f"- {side}: the GPU waits {share:.1%}")


def free() -> None:
    """Give back what a part held on the device."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
