"""What the trainer costs beside a bare loop over the same batches: ``tiny-finetune``, one epoch.

    python benchmarks/training_overhead.py

1,000 questions about drawings of 64 x 64, the embedded models, on one thread of the CPU: once by
``synthvlm.training.train`` (loading, checking and saving included), once by a loop of ten lines
with the same model, batches, optimiser. Time of the processor is measured: others may use it too.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from synthvlm.tiny.captions import sample_claim, sample_scene
from synthvlm.tiny.questions import sample_question
from synthvlm.tiny.world import render
from synthvlm.training.recipe import TrainingRecipe


def save_data(folder: Path, samples: int) -> None:
    """Drawings, each with a question and its answer."""
    rng = Random(0)
    (folder / "images").mkdir(parents=True)
    entries = []
    for n in range(samples):
        scene = sample_scene(sample_claim(rng), rng)
        question = sample_question(scene, rng)
        assert question is not None
        Image.fromarray(render([scene])[0]).save(folder / "images" / f"{n}.png")
        said = [
            {"from": "human", "value": f"{question.text}\n<image>"},
            {"from": "gpt", "value": question.answer},
        ]
        entries.append({"id": str(n), "image": f"{n}.png", "conversations": said})
    (folder / "llava.json").write_text(json.dumps(entries))


def bare_loop(recipe: TrainingRecipe, samples: Path) -> float:
    """Seconds of the processor, of a plain loop over the same batches."""
    from datasets import Dataset

    from synthvlm.training.model import assemble, choose_trained
    from synthvlm.training.samples import grouped_order
    from synthvlm.training.tokens import Collator

    built = assemble(recipe.model, recipe.image, recipe.seed)
    model = built.model.train()
    choose_trained(model, recipe.stage)
    rows = Dataset.from_file(str(samples)).with_format("numpy")
    collate = Collator(built.processor, built.image_id, built.image_features)
    size, rate = recipe.optimisation.global_batch_size, recipe.optimisation.learning_rate
    lengths = np.array(rows["length"])
    order = grouped_order(lengths, np.ones(len(rows), bool), size, (recipe.seed, 0))
    optimiser = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=rate)
    began = time.process_time()
    for n in range(0, len(order), size):
        batch = collate([rows[m] for m in order[n : n + size]])
        model(**batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return time.process_time() - began


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="questions")
    parser.add_argument("--turns", type=int, default=3)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Measure both in turn."""
    from synthvlm.training.train import train

    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_data(folder / "data", args.samples)
        recipe = TrainingRecipe.load(
            "tiny-finetune", data=[folder / "data"], overrides=["report=false"]
        )
        for turn in range(args.turns):
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
