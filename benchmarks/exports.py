"""What it costs to write each format, beside the writers of `webdataset` and `datasets`.

    python benchmarks/exports.py [--pairs 100000] [--folder /tmp]

The pairs are made up: captions from templates, and 7 kB of random bytes as images. All that is
timed is one process, one format after the other. Seconds of CPU are those of its own code; those of
the kernel, which makes the files, stand apart. The growth of memory is that of the process's peak
over what it held before the format. Then, how often near captions are parted by
`export.validation_share`, and what it costs to keep them together.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from random import Random

import numpy as np
from scale import write_captions

from synthvlm.components.component import LoadContext
from synthvlm.exporters import EXPORTERS, ExportedPair
from synthvlm.exporters.written_files import WrittenFiles
from synthvlm.run_folder.folder import RunFolder
from synthvlm.stages.data_set_folder import DataSetFolder
from synthvlm.stages.selected_pairs import splits_of

_PART = 10_000
#: Of random bytes in place of a picture: no writer looks into it.
_IMAGE_BYTES = 7_000
#: What is written: a label, the format, its options.
_FORMATS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("llava", "llava", {}),
    ("huggingface", "huggingface", {}),
    ("messages, bytes", "messages", {}),
    ("messages, paths", "messages", {"images": "paths"}),
    ("webdataset", "webdataset", {}),
)


#: Writes so many pairs, from a file of captions, into a folder.
Writer = Callable[[Path, int, Path], None]


def made_pairs(captions: Path, count: int) -> Iterator[ExportedPair]:
    """A pair of each of the first lines."""
    noise = np.random.default_rng(0)
    with captions.open(encoding="utf-8") as lines:
        for number, line in enumerate(islice(lines, count)):
            yield ExportedPair(
                id=f"made-{number}",
                caption=line.rstrip("\n"),
                image=noise.bytes(_IMAGE_BYTES),
                format="png",
                width=48,
                height=48,
                source="made",
                rank=number + 1,
                scores={"clip": 0.3, "ssim": 0.8},
                score=0.7,
                seed=number,
                index=0,
            )


def write_format(
    name: str, options: dict[str, str], captions: Path, count: int, folder: Path
) -> None:
    """Write a format as an export does, with checksums, part by part."""
    pairs = made_pairs(captions, count)
    exporter = EXPORTERS.load(name, EXPORTERS.settings(name, options), LoadContext())
    data_set = DataSetFolder(RunFolder(folder), "")
    kept: list[bytes] = []
    for first in pairs:
        part = chain([first], islice(pairs, _PART - 1))
        write = WrittenFiles(data_set.write, described=False)
        kept.append(exporter.write_part(len(kept), part, write))
    exporter.finish(kept, WrittenFiles(data_set.write_whole, described=False))


def write_by_webdataset(captions: Path, count: int, folder: Path) -> None:
    """The same samples by `webdataset.ShardWriter`."""
    import webdataset

    pattern = str(folder / "train-%05d.tar")
    with webdataset.ShardWriter(pattern, maxcount=_PART, verbose=0) as shards:
        for number, pair in enumerate(made_pairs(captions, count)):
            facts = {"id": pair.id, "seed": pair.seed, "score": pair.score, **pair.scores}
            shards.write(
                {
                    "__key__": f"{number:08d}",
                    "json": facts,
                    "txt": pair.caption,
                    "png": pair.image,
                }
            )


def rows_of(captions: str, count: int) -> Iterator[dict[str, object]]:
    """What `datasets` is given."""
    for pair in made_pairs(Path(captions), count):
        facts = {"id": pair.id, "seed": pair.seed, "score": pair.score, **pair.scores}
        yield {"image": {"bytes": pair.image, "path": None}, "caption": pair.caption, **facts}


def write_by_datasets(captions: Path, count: int, folder: Path) -> None:
    """The same columns by `datasets`: from a generator, then to Parquet."""
    import datasets

    datasets.disable_progress_bars()
    kinds = {"caption": "string", "id": "string", "seed": "int64"}
    kinds |= dict.fromkeys(("score", "clip", "ssim"), "float64")
    features = {name: datasets.Value(kind) for name, kind in kinds.items()}
    loaded = datasets.Dataset.from_generator(
        rows_of,
        features=datasets.Features({"image": datasets.Image(), **features}),
        gen_kwargs={"captions": str(captions), "count": count},
        cache_dir=str(folder / "cache"),
    )
    loaded.to_parquet(str(folder / "train.parquet"))


def peak(reset: bool = False) -> float | None:
    """The most memory that this process held since the last reset, in MB; None off Linux."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text("ascii")
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return None if found is None else int(found[1]) / 1000


def measure(label: str, write: Writer, captions: Path, count: int, place: Path) -> None:
    """Write once and print a row."""
    folder = Path(tempfile.mkdtemp(prefix="exports-", dir=place))
    try:
        before = peak(reset=True)
        began, times = time.perf_counter(), os.times()
        write(captions, count, folder)
        seconds, now = time.perf_counter() - began, os.times()
        own, kernel = now.user - times.user, now.system - times.system
        after = peak()
        growth = "" if before is None or after is None else f"{after - before:.0f}"
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        print(
            f"| {label} | {count:,} | {seconds:.1f} | {own:.1f} | {kernel:.1f} | {growth} | "
            f"{size:.0f} |",
            flush=True,
        )
    finally:
        shutil.rmtree(folder)


def measure_splits(captions: Sequence[str], copies: int) -> None:
    """How many pairs are held out, and how many near captions are parted."""
    rng = Random(0)
    words = [word for caption in captions for word in caption.split()]
    near = [
        (place, twin)
        for place, caption in enumerate(captions)
        for _ in range(copies)
        if (twin := near_to(caption, words, rng))
    ]
    texts = [*captions, *(twin for _, twin in near)]
    order = rng.sample(range(len(texts)), len(texts))
    for share in (0.01, 0.05, 0.1):
        in_order = splits_of([[texts[place] for place in order]], share)
        splits = dict(zip(order, in_order, strict=True))
        pairs = [
            {splits[place], splits[twin]} for twin, (place, _) in enumerate(near, len(captions))
        ]
        parted = sum(len(pair) == 2 for pair in pairs)
        touched = max(1, sum("validation" in pair for pair in pairs))
        held = in_order.count("validation") / len(texts)
        print(
            f"| {share} | {copies} | {held:.2%} | {parted / max(1, len(near)):.3%} | "
            f"{parted / touched:.1%} |",
            flush=True,
        )


def measure_splitting(captions: Sequence[str]) -> None:
    """What it costs to find the splits."""
    before, used = peak(reset=True), time.process_time()
    splits_of([captions], 0.05)
    used, after = time.process_time() - used, peak()
    growth = "" if before is None or after is None else f", {after - before:.0f} MB more"
    print(f"\nsplits of {len(captions):,} captions: {used:.1f} s of CPU{growth}", flush=True)


def near_to(caption: str, words: Sequence[str], rng: Random) -> str | None:
    """The caption with a word changed, added or left out: Jaccard similarity of words >= 0.8."""
    for _ in range(20):
        changed = caption.split()
        place = rng.randrange(len(changed))
        changed[place : place + rng.randint(0, 1)] = rng.choice(([], [rng.choice(words)]))
        before, after = set(caption.split()), set(changed)
        if before != after and len(before & after) / len(before | after) >= 0.8:
            return " ".join(changed)
    return None


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where to write; default: a temporary one")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    options = make_parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        captions = Path(folder, "captions.txt")
        write_captions(options.pairs, captions)
        print(
            "| format | pairs | seconds | CPU | in the kernel | memory grew by, MB | written, MB |"
        )
        print("|---|---|---|---|---|---|---|")
        writers: list[tuple[str, Writer]] = [
            ("`webdataset.ShardWriter`", write_by_webdataset),
            ("`datasets`", write_by_datasets),
            *((label, partial(write_format, name, own)) for label, name, own in _FORMATS),
        ]
        # Once in small: what is imported on the way is no part of the figures.
        for _, write in writers:
            write(captions, 2, Path(tempfile.mkdtemp(dir=folder)))
        for label, write in writers:
            measure(label, write, captions, options.pairs, Path(folder))
        texts = captions.read_text("utf-8").splitlines()
        measure_splitting(texts)
        print(
            "\n| validation_share | near captions of each | held out | parted | of those held out |"
        )
        print("|---|---|---|---|---|")
        for copies in (1, 5):
            measure_splits(texts[:20_000], copies)


if __name__ == "__main__":
    main()
