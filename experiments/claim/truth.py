"""What an arm's pairs are, by a checker that looks at pixels alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from synthvlm.tiny.captions import parse
from synthvlm.tiny.checker import check

__all__ = ["facts_of"]

#: What a caption may name besides things.
NAMED = ("background", "place", "size", "relation")


def facts_of(llava_json: Path, images: Path, every: int = 1) -> dict[str, float]:
    """Shares of pairs: right in content and looks, in content, and whose caption names what.

    A caption with anything besides (an advertisement) is not right.

    Args:
        llava_json: The pairs.
        images: Folder of their images.
        every: Of so many, only the first is looked at.
    """
    records = json.loads(llava_json.read_bytes())[::every]
    shares = dict.fromkeys(("right", "right in content", *(f"names {name}" for name in NAMED)), 0.0)
    for record in records:
        claim = parse(record["conversations"][1]["value"])
        if claim is not None:
            image = np.asarray(Image.open(images / record["image"]).convert("RGB"))
            shares["right"] += check(image, claim) / len(records)
            shares["right in content"] += check(image, claim, looks=False) / len(records)
            for name in NAMED:
                shares[f"names {name}"] += (getattr(claim, name) is not None) / len(records)
    return shares
