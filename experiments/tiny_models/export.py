"""Write the trained weights as a diffusers and a transformers folder, in fp16.

Run it with `python -m experiments.tiny_models.export --to src/synthvlm/tiny/weights`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from experiments.tiny_models import (
    autoencoder_model,
    checkpoint,
    clip_model,
    diffusion_model,
    language_model,
    options,
    verifier_model,
)

__all__ = [
    "clip_processor",
    "main",
    "make_parser",
    "write_clip",
    "write_language",
    "write_pipeline",
    "write_verifier",
]

_CARD = """---
license: apache-2.0
library_name: {library}
---
# {title}

{what}

It knows coloured shapes (circle, rectangle, triangle, star, cross; eight colours) on six plain
pastel backgrounds, 64x64 pixels, and nothing else. It was trained from scratch, on one CPU, on
drawings made while training ({seen}); no photograph, no person and no third party's picture or
text went into it. The weights are stored in 16 bits; load them with the dtype you want to
compute in (`torch.float32` on a CPU).

Made with:

```sh
{commands}
```
"""

_LANGUAGE_CARD = """---
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
python -m experiments.tiny_models.language --steps 5000 --decay-from 3500
python -m experiments.tiny_models.language --export FOLDER
```
"""


def clip_processor() -> CLIPImageProcessorPil:
    """The CLIP's image processor: 64x64 pixels, -1 to 1."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def write_pipeline(folder: Path, tokenizer: Path, state: dict[str, Any]) -> None:
    """Write the `StableDiffusionPipeline` of a diffusion checkpoint.

    Args:
        folder: Where to write; made if missing.
        tokenizer: Folder of the tokenizer.
        state: The checkpoint.
    """
    words = CLIPTokenizer.from_pretrained(tokenizer, model_max_length=diffusion_model.TEXT_LENGTH)
    trainer = diffusion_model.Trainer(
        diffusion_model.build(), diffusion_model.build_text_encoder(words)
    )
    trainer.load_state_dict(state["averaged"])
    codec = autoencoder_model.build()
    codec.load_state_dict(state["autoencoder"])
    codec.register_to_config(scaling_factor=state["scaling"])
    pipeline = StableDiffusionPipeline(
        vae=codec.half(),
        text_encoder=trainer.text_encoder.half(),
        tokenizer=words,
        unet=trainer.unet.half(),
        scheduler=diffusion_model.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    _copy_vocabulary(tokenizer, folder / "tokenizer")
    _write_card(
        folder,
        ("tokenizer", "autoencoder", "clip", "diffusion", "export"),
        library="diffusers",
        title="A small diffusion model of coloured shapes",
        what="A `StableDiffusionPipeline`: UNet, text encoder and autoencoder. "
        "12 steps, guidance scale 2, 64x64.",
        seen=f"{state['images']:,} of them for the UNet",
    )


def write_clip(folder: Path, tokenizer: Path, state: dict[str, Any]) -> None:
    """Write the `CLIPModel` of a CLIP checkpoint."""
    words = CLIPTokenizer.from_pretrained(tokenizer, model_max_length=77)
    model = clip_model.build(words)
    model.load_state_dict(state["averaged"])
    model.half().save_pretrained(folder, safe_serialization=True)
    words.save_pretrained(folder)
    _copy_vocabulary(tokenizer, folder)
    clip_processor().save_pretrained(folder)
    _write_card(
        folder,
        ("tokenizer", "clip", "export"),
        library="transformers",
        title="A small CLIP of coloured shapes",
        what="A `CLIPModel` for texts that begin with `A photo depicts `. Trained with a "
        "sigmoid loss whose even point is a cosine of 0.5, so cosines compare across texts.",
        seen=f"{state['images']:,} of them",
    )


def write_language(folder: Path, state: dict[str, Any]) -> None:
    """Write the `LlamaForCausalLM` of a language model's checkpoint."""
    tokenizer = language_model.make_tokenizer()
    model = language_model.build(tokenizer)
    model.load_state_dict(state["averaged"])
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_LANGUAGE_CARD.format(rows=state["rows"]))


def write_verifier(folder: Path, state: dict[str, Any]) -> None:
    """Write the `LlavaForConditionalGeneration` of a verifier's checkpoint."""
    assembled = verifier_model.build()
    trainer = verifier_model.Trainer(assembled)
    trainer.load_state_dict(state["averaged"])
    assembled.model.half().save_pretrained(folder)
    assembled.processor.save_pretrained(folder)
    _write_card(
        folder,
        ("verifier", "verifier --export FOLDER"),
        library="transformers",
        title="A small LLaVA that says whether a picture shows what is claimed",
        what="A `LlavaForConditionalGeneration` that answers `Yes` or `No` to questions about a "
        "picture, and writes the questions that check a caption. It started from the small CLIP's "
        "vision tower and the small Llama. Half of its pictures were candidates of the small "
        "generator, labelled by a program that looks at their pixels.",
        seen=f"{state['images']:,} of them",
    )


def _write_card(folder: Path, commands: tuple[str, ...], **facts: str) -> None:
    lines = "\n".join(f"python -m experiments.tiny_models.{command}" for command in commands)
    (folder / "README.md").write_text(_CARD.format(commands=lines, **facts))


def _copy_vocabulary(tokenizer: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(tokenizer / name, folder / name)


def _replace(new: Path, folder: Path) -> None:
    new.chmod(0o755)
    for file in new.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    # Two renames: a reader sees the old folder or the new one, never half of one.
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("src/synthvlm/tiny/weights"))
    options.add_files(parser, "tokenizer", "clip.pt", "diffusion.pt")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Export what there is of the pipeline and the CLIP."""
    args = make_parser().parse_args(argv)
    torch.set_num_threads(1)
    args.to.mkdir(parents=True, exist_ok=True)
    for name, path, write in (
        ("pipeline", args.diffusion, write_pipeline),
        ("clip", args.clip, write_clip),
    ):
        state = checkpoint.load(path)
        if state is None:
            print(f"{path} is missing: {name} not written")
            continue
        with tempfile.TemporaryDirectory(dir=args.to, prefix=f".{name}-") as temporary:
            new = Path(temporary) / name
            write(new, args.tokenizer, state)
            _replace(new, args.to / name)
        print(f"{name}: step {state['step']}")


if __name__ == "__main__":
    main()
