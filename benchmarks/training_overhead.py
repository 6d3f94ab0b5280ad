"""What the trainer costs beside a bare loop over the same batches, for a small model.

    python benchmarks/training_overhead.py

Trains one epoch of stage 2 on 1,000 pictures of 64 x 64, on one thread of the CPU: once by
``synthvlm.training.train`` (loading, checking and saving included), once by a loop of ten lines
with the same model, batches, optimiser. Time of the processor is measured: others may use it too.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from synthvlm.training.recipe import TrainingRecipe

SAMPLES, BATCH = 1000, 32


def save_parts(folder: Path) -> dict[str, str]:
    """A language model of about 2M parameters with a tokenizer of words, and a vision tower."""
    system = "A chat between curious user and an artificial intelligence assistant."
    names = [*system.split(), *(f"w{n}" for n in range(500)), ".", ":", "'", "s", ",", "<unk>"]
    words = {name: n for n, name in enumerate(dict.fromkeys(["<s>", "</s>", *names]))}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder / "words")
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=160,
            intermediate_size=640,
            num_hidden_layers=4,
            num_attention_heads=4,
            bos_token_id=0,
            eos_token_id=1,
        )
    ).save_pretrained(folder / "words")
    CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=64,
            patch_size=16,
        )
    ).save_pretrained(folder / "tower")
    CLIPImageProcessorPil(
        size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
    ).save_pretrained(folder / "tower")
    return {"language_model": str(folder / "words"), "vision_tower": str(folder / "tower")}


def save_data(folder: Path) -> None:
    """Random pictures, each with a question and an answer."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    entries = []
    for n in range(SAMPLES):
        pixels = random.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
        asked, answered = (" ".join(f"w{m}" for m in random.integers(0, 500, 10)) for _ in "qa")
        said = [{"from": "human", "value": f"{asked}\n<image>"}, {"from": "gpt", "value": answered}]
        entries.append({"id": str(n), "image": f"{n}.png", "conversations": said})
    (folder / "llava.json").write_text(json.dumps(entries))


def bare_loop(recipe: TrainingRecipe, samples: Path) -> float:
    """Seconds of the processor, of a plain loop over the same batches."""
    from datasets import Dataset

    from synthvlm.training.collator import Collator
    from synthvlm.training.grouping import grouped_order
    from synthvlm.training.model import assemble, choose_trained

    built = assemble(recipe.model, recipe.image, recipe.seed)
    model = built.model.train()
    choose_trained(model, recipe.stage)
    rows = Dataset.from_file(str(samples)).with_format("numpy")
    collate = Collator(built.processor, built.image_id, built.image_features)
    order = grouped_order(
        np.array(rows["length"]), np.ones(len(rows), bool), BATCH, (recipe.seed, 0)
    )
    rate = recipe.optimisation.learning_rate
    optimiser = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=rate)
    began = time.process_time()
    for n in range(0, len(order), BATCH):
        batch = collate([rows[m] for m in order[n : n + BATCH]])
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return time.process_time() - began


def main() -> None:
    """Measure both, three times in turn."""
    from synthvlm.training.train import train

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = save_parts(folder)
        save_data(folder / "data")
        overrides = [f"model.{key}={path}" for key, path in parts.items()]
        overrides += ["report=false"]
        recipe = TrainingRecipe.load("tiny-finetune", data=[folder / "data"], overrides=overrides)
        for turn in range(3):
            began = time.process_time()
            train(recipe, folder / str(turn))
            whole = time.process_time() - began
            bare = bare_loop(recipe, folder / str(turn) / "samples.arrow")
            print(
                f"bare loop {bare:.2f} s, all of train() {whole:.2f} s ({whole / bare - 1:+.0%})",
                flush=True,
            )


if __name__ == "__main__":
    main()
