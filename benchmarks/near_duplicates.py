"""Near-duplicates: speed and memory on a million captions, recall against brute force on 5,000.

    python benchmarks/near_duplicates.py CAPTIONS.txt [--captions 1000000]

The many captions are made by putting halves of real ones together. The 5,000 are 1,000 real ones
of 5 to 15 words, and of each a copy with one word changed, dropped and added, and one whose second
half is that of another. Last, how many of the captions themselves each threshold drops.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from curation_million import write_captions

from synthvlm.captions.duplicates.minhash import band_keys, bands_for, signatures
from synthvlm.captions.duplicates.near_duplicates import (
    THRESHOLD,
    is_similar,
    near_duplicates,
    ngram_hashes,
)
from synthvlm.captions.rules.batch import TextBatch

KINDS = ("original", "changed", "dropped", "added", "recombined")


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="real captions, one a line")
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--originals", type=int, default=1000, help="recall is measured on 5 times")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        captions = Path(folder) / "captions.txt"
        write_captions(args.source, args.captions, captions)
        speed(captions.read_text(encoding="utf-8").splitlines())
    lines = args.source.read_text(encoding="utf-8").splitlines()
    recall(lines, args.originals)
    dropped(sorted({line.strip() for line in lines}))


def speed(texts: list[str]) -> None:
    bands, rows = bands_for(THRESHOLD)
    seconds = {"words": 0.0, "minhash": 0.0}
    before = peak()
    for part in batches(texts):
        began = time.perf_counter()
        words = TextBatch(part).tokens
        read = time.perf_counter()
        band_keys(signatures(*ngram_hashes(words)), bands, rows)
        seconds["words"] += read - began
        seconds["minhash"] += time.perf_counter() - read
    began = time.perf_counter()
    result = near_duplicates([texts])
    whole = time.perf_counter() - began
    seconds |= {"buckets, comparing": whole - sum(seconds.values()), "the whole pass": whole}
    for step, spent in seconds.items():
        print(f"{step:<18}  {spent:6.1f} s  {len(texts) / spent:>9,.0f} captions/s")
    print(f"peak memory {peak():.0f} MB, {before:.0f} MB of it before (all texts and the imports)")
    print(
        f"{len(texts):,} captions: {len(result.twins):,} near-duplicates, "
        f"{result.refused:,} kept captions not in all of their buckets"
    )


def batches(texts: list[str], size: int = 256) -> Iterator[list[str]]:
    return (texts[start : start + size] for start in range(0, len(texts), size))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def recall(lines: Sequence[str], count: int) -> None:
    rng = Random(0)
    usable = sorted({line for line in lines if 5 <= len(line.split()) <= 15})
    originals = [line.split() for line in rng.sample(usable, count)]
    vocabulary = [word for words in originals for word in words]
    texts = [" ".join(words) for words in originals]
    for kind in KINDS[1:]:
        texts += [" ".join(edited(words, kind, rng, vocabulary, originals)) for words in originals]
    exact, twins = brute_force(texts), near_duplicates([texts]).twins
    print(f"recall {len(exact & twins.keys()) / len(exact):.2%} of {len(exact):,} by brute force")
    for number, kind in enumerate(KINDS):
        places = range(count * number, count * (number + 1))
        shares = [sum(place in which for place in places) / count for which in (twins, exact)]
        print(f"{kind:<10}  {shares[0]:6.1%} are near-duplicates, {shares[1]:6.1%} by brute force")


def dropped(texts: list[str]) -> None:
    for threshold in (0.6, 0.7, 0.8, 0.9, 0.95, 1.0):
        twins = near_duplicates([texts], threshold=threshold).twins
        print(f"threshold {threshold:.2f}: {len(twins):,} of {len(texts):,} captions are dropped")


def edited(
    words: list[str], kind: str, rng: Random, vocabulary: list[str], others: list[list[str]]
) -> list[str]:
    place = rng.randrange(len(words))
    if kind == "recombined":
        other = rng.choice(others)
        return words[: len(words) // 2] + other[len(other) // 2 :]
    new = [] if kind == "dropped" else [rng.choice(vocabulary)]
    return words[:place] + new + words[place + (kind != "added") :]


def brute_force(texts: Sequence[str]) -> set[int]:
    """Positions of the captions that are similar to an earlier one that stays."""
    words = TextBatch(texts).tokens
    kept: list[frozenset[object]] = []
    dropped = set()
    for position in range(len(texts)):
        own = words.of(position)
        ngrams = frozenset([*own, *pairwise(own)])
        sizes = ((len(ngrams & other), len(ngrams | other)) for other in kept)
        if ngrams and any(is_similar(*size, THRESHOLD) for size in sizes):
            dropped.add(position)
        elif ngrams:
            kept.append(ngrams)
    return dropped


if __name__ == "__main__":
    main()
