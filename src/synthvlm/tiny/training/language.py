"""Train the small language model: a Llama that reads its context.

Run it with `python -m synthvlm.tiny.training.language --steps 6000 --decay-from 4000`, and
`--export src/synthvlm/tiny/weights/language` when it is done.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from synthvlm.tiny.training import checkpoint
from synthvlm.tiny.training.language_rows import Row, sample_row

_CARD = """---
license: apache-2.0
library_name: transformers
---
# A small Llama that reads its context

Trained from scratch, on one CPU, on {rows:,} texts made while training: they tell of coloured
shapes, in words alone, and caption them or answer questions about them in LLaVA's conversation
format. It knows nothing else; no third party's text went into it. The weights are stored in 16
bits; load them with the dtype you want to compute in (`torch.float32` on a CPU).

Made with:

```sh
python -m synthvlm.tiny.training.language --steps 5000 --decay-from 3500
python -m synthvlm.tiny.training.language --export FOLDER
```
"""

__all__ = ["accuracy", "build", "main", "make_tokenizer"]

VOCABULARY = 1024
_IGNORED = -100

# Everyday words, so that questions from outside the world are not spelt letter by letter.
_EVERYDAY = """
what is the color colour of shape in this image picture which does contain present there not no
yes a an are it how many where object objects describe see shown show say tell answer question
briefly short caption words summarize photo drawing give write name look at and or with
"""


def make_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the training texts: no text is out of its vocabulary."""
    rng = Random(seed)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["".join(re.sub("</s>", " ", text) for text, _ in sample_row(rng)) for _ in range(6000)]
    tokenizer.train_from_iterator([*texts, *[_EVERYDAY.replace("\n", " ")] * 20], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model, 1.1 million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _encode(tokenizer: PreTrainedTokenizerFast, row: Row) -> tuple[list[int], list[int]]:
    ids, labels = [tokenizer.bos_token_id], [_IGNORED]
    for text, learned in row:
        piece = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += piece
        labels += piece if learned else [_IGNORED] * len(piece)
    return ids, labels


def _batch(tokenizer: PreTrainedTokenizerFast, rows: list[Row]) -> dict[str, torch.Tensor]:
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


def _batches(
    tokenizer: PreTrainedTokenizerFast, rng: Random, count: int, kind: str
) -> Iterator[dict[str, torch.Tensor]]:
    """Rows of claims that no model was trained on; of a conversation the first answer."""
    for _ in range(0, count, 50):
        rows = [sample_row(rng, held_out=True, kind=kind)[:4] for _ in range(50)]
        yield _batch(tokenizer, rows)


@torch.inference_mode()
def accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int = 500, seed: int = 9
) -> float:
    """Share of first answers about held-out claims, told in words, that are wholly right."""
    right = 0
    for batch in _batches(tokenizer, Random(seed), count, "answer"):
        labels = batch.pop("labels")
        best = model(**batch).logits[:, :-1].argmax(-1)
        asked = labels[:, 1:] != _IGNORED
        right += int(((best == labels[:, 1:]) | ~asked).all(1).sum())
    return right / count


def main(argv: list[str] | None = None) -> None:
    """Train, or go on training; write checkpoints; export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(".training/language.pt"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--decay-from", type=int, default=None)
    parser.add_argument("--short-until", type=int, default=2000, help="last step of short rows")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", type=Path, default=None)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer()
    model = build(tokenizer)
    state = checkpoint.load(args.out)
    if args.export is not None:
        if state is None:
            raise SystemExit(f"no checkpoint at {args.out}")
        model.load_state_dict(state["averaged"])
        model.half().save_pretrained(args.export)
        tokenizer.save_pretrained(args.export)
        (args.export / "README.md").write_text(_CARD.format(rows=state["rows"]))
        return
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    ema = checkpoint.Ema(model, 0.998)
    step, cpu_before = 0, 0.0
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        ema.values, step, cpu_before = state["ema"], state["step"], state["cpu_seconds"]
    began, cpu = time.time(), time.process_time()
    while step < args.steps:
        rng = checkpoint.seed_step(args.seed, step)
        # Long contexts from the start taught it to copy colours, and never shapes.
        short = max(0.0, 1.0 - step / args.short_until)
        batch = _batch(tokenizer, [sample_row(rng, short=short) for _ in range(args.batch)])
        rate = checkpoint.learning_rate(
            step, peak=args.rate, warmup=200, steps=args.steps, decay_from=args.decay_from
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        loss = model(**batch).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        ema.update(model, step)
        step += 1
        if step % 100 == 0:
            print(f"{step} loss={loss.item():.4f} {time.time() - began:.0f}s", flush=True)
        if step % 500 == 0 or step == args.steps:
            print(f"{step} answers right={accuracy(model, tokenizer):.3f}", flush=True)
            checkpoint.save(
                args.out,
                {
                    "model": model.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "ema": ema.values,
                    "averaged": ema.state_dict(model),
                    "step": step,
                    "rows": step * args.batch,
                    "cpu_seconds": cpu_before + time.process_time() - cpu,
                },
            )


if __name__ == "__main__":
    main()
