"""How well does the embedded language model read its context?

    python -m experiments.tiny_models.language_benchmark

Of held-out claims alone: shares of answers that are wholly right, by topic and by how the scene
is told, and of captions that are true of a grid.
"""

from __future__ import annotations

import argparse
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from experiments.tiny_models.language_rows import SYSTEM, facts, grid
from synthvlm.tiny import language_path
from synthvlm.tiny.captions import holds, is_held_out, parse, sample_claim, sample_scene
from synthvlm.tiny.questions import TOPICS, sample_question
from synthvlm.tiny.world import Scene


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="questions of each topic")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(language_path(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(language_path(), dtype=torch.float32).eval()

    def said(prompts: list[str], tokens: int) -> list[str]:
        texts = []
        for start in range(0, len(prompts), 50):
            batch = tokenizer(prompts[start : start + 50], padding=True, return_tensors="pt")
            batch.pop("token_type_ids", None)
            rows = model.generate(**batch, max_new_tokens=tokens, do_sample=False)
            written = rows[:, batch["input_ids"].shape[1] :]
            texts += tokenizer.batch_decode(written, skip_special_tokens=True)
        return texts

    print("| topic | told as a grid, % | told as facts, % |\n| --- | --- | --- |")
    for topic in TOPICS:
        shares = []
        for tell in (grid, facts):
            rng = Random(5)
            prompts: list[str] = []
            answers: list[str] = []
            while len(prompts) < args.count:
                scene = held_out_scene(rng)
                question = sample_question(scene, rng, topic)
                if question is not None:
                    context = f"{SYSTEM} USER: {tell(scene, rng)}"
                    prompts.append(f"{context}\n{question.text} ASSISTANT:")
                    answers.append(question.answer)
            right = sum(a.strip() == b for a, b in zip(said(prompts, 6), answers, strict=True))
            shares.append(f"{100 * right / args.count:.1f}")
        print(f"| {topic} | {shares[0]} | {shares[1]} |", flush=True)
    rng = Random(6)
    scenes = [held_out_scene(rng) for _ in range(args.count)]
    captions = said([grid(scene, rng) for scene in scenes], 40)
    claims = [parse(caption.split("\n")[0]) for caption in captions]
    pairs = zip(claims, scenes, strict=True)
    true = sum(claim is not None and holds(claim, scene) for claim, scene in pairs)
    print(f"captions true of their grid: {100 * true / args.count:.1f} % of {args.count}")


def held_out_scene(rng: Random) -> Scene:
    while True:
        claim = sample_claim(rng)
        if is_held_out(claim):
            return sample_scene(claim, rng)


if __name__ == "__main__":
    main()
