"""The "web": true drawings with the captions that the web would give them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from synthvlm.tiny.captions import is_held_out, phrase, sample_claim, sample_scene
from synthvlm.tiny.world import render
from synthvlm.tiny.wrong_captions import Noise, noisy_caption

__all__ = ["PAIRS", "SHARES", "make_web", "record", "write_llava"]

#: A hundredth of LLaVA-1.5's 558K pre-training pairs.
PAIRS = 5_580

#: What share of the captions has which noise; the rest is right. Chosen by hand.
SHARES: dict[Noise, float] = {
    "wrong": 0.15,
    "missing": 0.15,
    "unrelated": 0.10,
    "advertisement": 0.05,
    "mixed": 0.05,
}


def make_web(folder: Path, pairs: int = PAIRS, *, noise: float = 1.0, seed: int = 1) -> None:
    """Write ``llava.json``, ``captions.jsonl`` and ``images/``.

    Args:
        folder: Where to write.
        pairs: How many.
        noise: Factor of all of `SHARES`.
        seed: Of claims, scenes and noise.
    """
    rng = Random(seed)
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    kinds: list[Noise | None] = [None, *SHARES]
    weights = [1 - noise * sum(SHARES.values()), *(noise * share for share in SHARES.values())]
    entries = []
    for number in range(pairs):
        claim = sample_claim(rng)
        while is_held_out(claim):
            claim = sample_claim(rng)
        scene = sample_scene(claim, rng, rng.choice((1.0, 2.5)))
        kind = rng.choices(kinds, weights)[0]
        caption = phrase(claim, rng) if kind is None else noisy_caption(claim, scene, kind, rng)
        name = f"{number:05d}.png"
        Image.fromarray(render([scene])[0]).save(images / name)
        entries.append({"id": f"web-{number:05d}", "image": name, "caption": caption})
    lines = [json.dumps(entry) for entry in entries]
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_llava(folder / "llava.json", entries)


def write_llava(path: Path, entries: list[dict[str, str]]) -> None:
    """Write entries of id, image and caption as LLaVA's pre-training JSON."""
    records = [record(entry["id"], entry["image"], entry["caption"]) for entry in entries]
    path.write_text(json.dumps(records, indent=0), encoding="utf-8")


def record(id: str, image: str, caption: str) -> dict[str, Any]:
    """A record of LLaVA's pre-training JSON."""
    asked = "Describe this picture in a few words.\n<image>"
    return {
        "id": id,
        "image": image,
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": caption}],
    }
