"""Learn the byte-level BPE vocabulary, in CLIP's format.

Run it with `python -m experiments.tiny_models.tokenizer --out .training/tokenizer`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from random import Random

import regex  # type: ignore[import-untyped]
from transformers import CLIPTokenizer

from synthvlm.tiny.captions import phrase, sample_claim

__all__ = ["PREFIX", "byte_characters", "learn_merges", "main", "make_parser"]

PREFIX = "A photo depicts "

# CLIP's own splitting of text into words.
_WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE)

# Everyday words, so that captions from outside the world are not spelt letter by letter.
_EVERYDAY = """
the a an of in on at to with for from by and or is are was it this that his her its
dog cat man woman person people child bird horse tree flower house street car boat water sky
beach snow food table room city night day sun photo image picture view white pink purple
orange gold silver buy now free sale off best price order today click here visit shop new
walking sitting standing holding riding playing looking near under over next beside
"""


def byte_characters() -> list[str]:
    """The printable stand-in for each of the 256 bytes, as in GPT-2 and CLIP."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in printable}
    for extra, byte in enumerate(b for b in range(256) if b not in table):
        table[byte] = chr(256 + extra)
    return [table[byte] for byte in range(256)]


def learn_merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    """The `count` most frequent merges (fewer if every word is one token before that)."""
    table = byte_characters()
    spelt: dict[tuple[str, ...], int] = {}
    for word, times in words.items():
        letters = [table[b] for b in word.encode()]
        letters[-1] += "</w>"
        spelt[tuple(letters)] = spelt.get(tuple(letters), 0) + times
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for letters_, times in spelt.items():
            for pair in pairwise(letters_):
                pairs[pair] += times
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        spelt = {_merge(letters_, best): times for letters_, times in spelt.items()}
    return merges


def _merge(letters: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    out: list[str] = []
    for letter in letters:
        if out and (out[-1], letter) == pair:
            out[-1] += letter
        else:
            out.append(letter)
    return tuple(out)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/tokenizer"))
    parser.add_argument("--merges", type=int, default=470)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the tokenizer's folder."""
    args = make_parser().parse_args(argv)
    rng = Random(0)
    words: Counter[str] = Counter()
    for _ in range(5000):
        words.update(_WORDS.findall((PREFIX + phrase(sample_claim(rng), rng)).lower()))
    for word in _EVERYDAY.split():
        words[word] += 5
    merges = learn_merges(words, args.merges)
    letters = byte_characters()
    tokens = [*letters, *(x + "</w>" for x in letters), *("".join(pair) for pair in merges)]
    tokens = list(dict.fromkeys(tokens))
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "vocab.json").write_text(
        json.dumps({token: i for i, token in enumerate(tokens)}, ensure_ascii=False)
    )
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (args.out / "merges.txt").write_text("\n".join(lines) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(args.out, model_max_length=77)
    tokenizer.save_pretrained(args.out)
    print(f"{len(tokens)} tokens")


if __name__ == "__main__":
    main()
