"""Train the small language model: a Llama that reads its context.

Run it with `python -m experiments.tiny_models.language --steps 6000 --decay-from 4000`, and
`--export src/synthvlm/tiny/weights/language` when it is done.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.tiny_models import checkpoint, export, options
from experiments.tiny_models.language_model import build, make_tokenizer
from experiments.tiny_models.language_rows import Row, sample_row
from experiments.tiny_models.loop import Run, seed_step

__all__ = ["accuracy", "main", "make_parser"]

_IGNORED = -100  # the label of what is not learned


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    options.add_training(parser, out="language.pt", steps=6000, batch=32, rate=1e-3, seed=4)
    parser.add_argument("--short-until", type=int, default=2000, help="last step of short rows")
    parser.add_argument("--export", type=Path, default=None)
    return parser


def _batch(tokenizer: PreTrainedTokenizerFast, rows: list[Row]) -> dict[str, torch.Tensor]:
    """The model's arguments for some rows, padded to the longest."""
    encoded = [_encode(tokenizer, row) for row in rows]
    longest = max(len(ids) for ids, _ in encoded)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), _IGNORED)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for i, (row_ids, row_labels) in enumerate(encoded):
        ids[i, : len(row_ids)] = torch.tensor(row_ids)
        labels[i, : len(row_ids)] = torch.tensor(row_labels)
        mask[i, : len(row_ids)] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def _encode(tokenizer: PreTrainedTokenizerFast, row: Row) -> tuple[list[int], list[int]]:
    ids, labels = [tokenizer.bos_token_id], [_IGNORED]
    for text, learned in row:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        labels += piece if learned else [_IGNORED] * len(piece)
    return ids, labels


@torch.inference_mode()
def accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int = 500, seed: int = 9
) -> float:
    """Share of first answers about held-out claims, told in words, that are wholly right."""
    rng, right = Random(seed), 0
    for _ in range(0, count, 50):
        # Of a conversation the first answer.
        rows = [sample_row(rng, held_out=True, kind="answer")[:4] for _ in range(50)]
        asked = _batch(tokenizer, rows)
        labels = asked.pop("labels")[:, 1:]
        best = model(**asked).logits[:, :-1].argmax(-1)
        right += int(((best == labels) | (labels == _IGNORED)).all(1).sum())
    return right / count


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training; write checkpoints; export."""
    args = make_parser().parse_args(argv)
    if args.export is not None:
        export.write_language(args.export, checkpoint.needed(args.out))
        return
    options.start(args)
    tokenizer = make_tokenizer()
    model = build(tokenizer)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    rates = options.schedule(args, warmup=200)
    run = Run(model, optimiser, rates, args.out, checkpoint.load(args.out), ema_decay=0.998)
    for step in run.steps():
        rng = seed_step(args.seed, step)
        # Long contexts from the start taught it to copy colours, and never shapes.
        short = max(0.0, 1.0 - step / args.short_until)
        rows = [sample_row(rng, short=short) for _ in range(args.batch)]
        loss = model(**_batch(tokenizer, rows)).loss
        run.descend(loss)
        if run.due(100):
            run.say(f"loss={loss.item():.4f}")
        if run.due(500) or run.done:
            run.say(f"answers right={accuracy(model, tokenizer):.3f}")
            run.save(rows=run.step * args.batch)


if __name__ == "__main__":
    main()
