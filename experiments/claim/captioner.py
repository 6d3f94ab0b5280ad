"""Arm E: the web's pictures, captioned by a small captioning model; and models' captions measured.

The captioner is a LLaVA of the same parts, trained on a web like A, with the same noise: its
projector, then its language model too, in the format of stage 1.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from experiments.claim.web import make_web, write_llava
from synthvlm.tiny.captions import (
    Claim,
    holds,
    is_held_out,
    parse,
    phrase,
    sample_claim,
    sample_scene,
)
from synthvlm.tiny.world import Scene, render
from synthvlm.tiny.wrong_captions import edits

__all__ = ["DRAWINGS", "Captioner", "caption_web", "held_out", "train_captioner"]

HERE = Path(__file__).parent
#: Noisy pairs that the captioner is trained on.
NOISY_PAIRS = 5_580
#: The web's pictures that it captions.
CAPTIONED = 2_000
#: Held-out drawings that models are measured on.
DRAWINGS = 600
#: Edits of captions: the faults of the generator.
TOLD_APART = ("relation", "swapped colours", "count", "colour", "shape", "place")
_BATCH = 200


def held_out(count: int, seed: int = 77) -> list[tuple[Claim, Scene]]:
    """Claims that no model was trained on, and scenes of them."""
    rng = Random(seed)
    pairs: list[tuple[Claim, Scene]] = []
    while len(pairs) < count:
        claim = sample_claim(rng)
        if is_held_out(claim):
            pairs.append((claim, sample_scene(claim, rng)))
    return pairs


class Captioner:
    """A LLaVA that captions in the format of stage 1: after the image the caption, a newline."""

    def __init__(self, model: str) -> None:
        """Load it from its folder."""
        from transformers import AutoProcessor, LlavaForConditionalGeneration

        self._llava: Any = LlavaForConditionalGeneration.from_pretrained(model).eval()
        self._processor: Any = AutoProcessor.from_pretrained(model, backend="pil")

    def captions(self, images: Sequence[np.ndarray]) -> list[str]:
        """Caption images: arrays (height, width, 3), 0 .. 255."""
        import torch

        tokenizer = self._processor.tokenizer
        (newline,) = tokenizer.encode("\n", add_special_tokens=False)
        texts: list[str] = []
        for start in range(0, len(images), _BATCH):
            part = [Image.fromarray(image) for image in images[start : start + _BATCH]]
            asked = ["<image>"] * len(part)
            inputs = self._processor(images=part, text=asked, return_tensors="pt")
            with torch.inference_mode():
                rows = self._llava.generate(
                    **inputs,
                    max_new_tokens=40,
                    do_sample=False,
                    eos_token_id=newline,
                    pad_token_id=newline,
                )
            written = rows[:, inputs["input_ids"].shape[1] :]
            texts += tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.split("\n")[0].strip() for text in texts]

    def right_share(self, count: int) -> float:
        """The share of held-out drawings whose caption is wholly right."""
        scenes = [scene for _, scene in held_out(count)]
        claims = [parse(caption) for caption in self.captions(list(render(scenes)))]
        pairs = zip(claims, scenes, strict=True)
        return sum(claim is not None and holds(claim, scene) for claim, scene in pairs) / count

    def losses(self, scenes: Sequence[Scene], texts: Sequence[str]) -> list[tuple[float, int]]:
        """How unlikely captions of drawings are: loss (sum, nats) and tokens of each."""
        losses: list[tuple[float, int]] = []
        for start in range(0, len(texts), _BATCH):
            rows = slice(start, start + _BATCH)
            losses += self._losses(scenes[rows], texts[rows])
        return losses

    def _losses(self, scenes: Sequence[Scene], texts: Sequence[str]) -> list[tuple[float, int]]:
        import torch

        self._processor.tokenizer.padding_side = "right"
        inputs = self._processor(
            images=[Image.fromarray(image) for image in render(scenes)],
            text=[f"<image>{text}\n" for text in texts],
            padding=True,
            return_tensors="pt",
        )
        ids = inputs["input_ids"]
        shown = int((ids[0] == self._llava.config.image_token_id).nonzero()[-1]) + 1
        is_caption = inputs["attention_mask"][:, shown:]
        with torch.inference_mode():
            logits = self._llava(**inputs).logits[:, shown - 1 : -1].float()
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, shown:], reduction="none"
        )
        sums, counts = (losses * is_caption).sum(1).tolist(), is_caption.sum(1).tolist()
        return list(zip(sums, counts, strict=True))

    def told_apart(self, count: int) -> tuple[float, dict[str, list[int]]]:
        """Hold true captions of held-out drawings against ones worded alike, but for an edit.

        Returns:
            The mean loss of a token of the true captions, nats; and for each kind of edit, how
            often the true caption is the likelier one, and of how many.
        """
        rng, pairs = Random(78), held_out(count)
        scenes = [scene for _, scene in pairs]
        texts = [phrase(claim, Random(number)) for number, (claim, _) in enumerate(pairs)]
        asked = [
            (number, kind, phrase(edit, Random(number)))
            for number, (claim, _) in enumerate(pairs)
            for kind, edit in edits(claim, rng).items()
            if kind in TOLD_APART
        ]
        true = self.losses(scenes, texts)
        edited = self.losses([scenes[n] for n, _, _ in asked], [text for _, _, text in asked])
        groups = {kind: [0, 0] for kind in TOLD_APART}
        for (number, kind, _), (loss, _) in zip(asked, edited, strict=True):
            groups[kind][0] += true[number][0] < loss
            groups[kind][1] += 1
        return sum(loss for loss, _ in true) / sum(tokens for _, tokens in true), groups


def train_captioner(folder: Path, pairs: int = NOISY_PAIRS) -> str:
    """Train it; returns the folder of the model."""
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train

    with tempfile.TemporaryDirectory() as scratch:
        noisy = Path(scratch)
        make_web(noisy, pairs=pairs, seed=99)
        data = [f"data.0.path={noisy / 'llava.json'}", f"data.0.images={noisy / 'images'}"]
        first = TrainingRecipe.load(str(HERE / "pretrain.yaml"), overrides=data)
        projected = train(first, str(folder / "projector"))
        second = TrainingRecipe.load(
            str(HERE / "finetune.yaml"),
            overrides=[
                *data,
                f"model.start={projected.model}",
                "prompt=plain",
                "image=crop",
            ],
        )
        return train(second, str(folder / "captioner")).model


def caption_web(web: Path, to: Path, count: int = CAPTIONED) -> None:
    """Caption the first of the web's pictures anew: ``llava.json``."""
    captioner = Captioner(train_captioner(to))
    records = json.loads((web / "llava.json").read_bytes())[:count]
    images = [np.asarray(Image.open(web / "images" / record["image"])) for record in records]
    entries = [
        {"id": record["id"], "image": record["image"], "caption": caption or "nothing"}
        for record, caption in zip(records, captioner.captions(images), strict=True)
    ]
    write_llava(to / "llava.json", entries)
