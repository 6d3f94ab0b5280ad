"""Arm E: the web's pictures, captioned by a small captioning model.

The captioner is a LLaVA of the same parts, trained on clean pairs of a small set: its projector,
then its language model too, in the format of stage 1.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from experiments.claim.web import make_web, write_llava
from synthvlm.tiny.captions import is_held_out, sample_claim, sample_scene
from synthvlm.tiny.world import Scene

__all__ = ["caption_web", "captions_of", "held_out_scenes", "train_captioner"]

HERE = Path(__file__).parent
#: Clean pairs that the captioner is trained on, and how often it sees each.
CLEAN_PAIRS = 4_000
EPOCHS = 3


def held_out_scenes(count: int, seed: int = 77) -> list[Scene]:
    """Scenes of claims that no model was trained on."""
    rng = Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        claim = sample_claim(rng)
        if is_held_out(claim):
            scenes.append(sample_scene(claim, rng))
    return scenes


def train_captioner(folder: Path) -> str:
    """Train it; returns the folder of the model."""
    from synthvlm.training.recipe import TrainingRecipe
    from synthvlm.training.train import train

    with tempfile.TemporaryDirectory() as scratch:
        clean = Path(scratch)
        make_web(clean, pairs=CLEAN_PAIRS, noise=0.0, seed=99)
        data = [f"data.0.path={clean / 'llava.json'}", f"data.0.images={clean / 'images'}"]
        first = TrainingRecipe.load(str(HERE / "pretrain.yaml"), overrides=data)
        projected = train(first, str(folder / "projector"))
        second = TrainingRecipe.load(
            str(HERE / "finetune.yaml"),
            overrides=[
                *data,
                f"model.start={projected.model}",
                "prompt=plain",
                "image=crop",
                f"optimisation.epochs={EPOCHS}",
            ],
        )
        return train(second, str(folder / "captioner")).model


def captions_of(model: str, images: Sequence[np.ndarray], batch_size: int = 50) -> list[str]:
    """Caption images in the format of stage 1: after the image comes the caption, then a newline.

    Args:
        model: Folder of a LLaVA.
        images: (height, width, 3), 0 .. 255.
        batch_size: Images at a time.
    """
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    llava: Any = LlavaForConditionalGeneration.from_pretrained(model).eval()
    processor: Any = AutoProcessor.from_pretrained(model, backend="pil")
    captions: list[str] = []
    for start in range(0, len(images), batch_size):
        part = [Image.fromarray(image) for image in images[start : start + batch_size]]
        inputs = processor(images=part, text=["<image>"] * len(part), return_tensors="pt")
        with torch.inference_mode():
            rows = llava.generate(**inputs, max_new_tokens=40, do_sample=False)
        said = rows[:, inputs["input_ids"].shape[1] :]
        texts = processor.tokenizer.batch_decode(said, skip_special_tokens=True)
        captions += [text.split("\n")[0].strip() for text in texts]
    return captions


def caption_web(web: Path, to: Path) -> None:
    """Caption the web's pictures anew: ``llava.json`` and ``cost.json`` (CPU seconds)."""
    began = time.process_time()
    model = train_captioner(to)
    trained = time.process_time()
    records = json.loads((web / "llava.json").read_bytes())
    images = [np.asarray(Image.open(web / "images" / record["image"])) for record in records]
    captions = captions_of(model, images)
    entries = [
        {"id": record["id"], "image": record["image"], "caption": caption or "nothing"}
        for record, caption in zip(records, captions, strict=True)
    ]
    write_llava(to / "llava.json", entries)
    cost = {"training_cpu_s": trained - began, "captioning_cpu_s": time.process_time() - trained}
    (to / "cost.json").write_text(json.dumps(cost) + "\n")
