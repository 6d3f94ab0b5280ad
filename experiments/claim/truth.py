"""How many pairs of an arm are right, by a checker that looks at pixels alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from synthvlm.tiny.captions import parse
from synthvlm.tiny.checker import check

__all__ = ["right_share"]


def right_share(llava_json: Path, images: Path) -> float:
    """The share of pairs whose picture shows what the caption says, and no other thing.

    A caption with anything besides (an advertisement) is not right.
    """
    records = json.loads(llava_json.read_bytes())
    right = 0
    for record in records:
        claim = parse(record["conversations"][1]["value"])
        if claim is not None:
            right += check(np.asarray(Image.open(images / record["image"]).convert("RGB")), claim)
    return right / len(records)
