"""Make checkpoints of the shipped weights, so that training can go on from them.

Run it with `python -m experiments.tiny_models.restore`, then any of the training commands.

The optimisers start anew, and so do the extra heads of the CLIP and of the verifier, which are
not shipped.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import nn
from transformers import CLIPModel, CLIPTextModel, LlavaForConditionalGeneration

from experiments.tiny_models import checkpoint, clip_model, diffusion_model, verifier_model
from experiments.tiny_models.options import FOLDER
from synthvlm.tiny import clip_path, pipeline_path, verifier_path

__all__ = ["main", "make_parser"]


def _state(module: nn.Module, **more: Any) -> dict[str, Any]:
    weights = module.state_dict()
    return {
        "model": weights,
        "ema": {name: p.detach().clone() for name, p in module.named_parameters()},
        "averaged": weights,
        "step": 0,
        "images": 0,
        "cpu_seconds": 0.0,
        **more,
    }


def make_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=FOLDER)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Write the tokenizer and the checkpoints; refuse to overwrite any."""
    args = make_parser().parse_args(argv)
    args.to.mkdir(parents=True, exist_ok=True)
    files = [args.to / f"{name}.pt" for name in ("autoencoder", "clip", "diffusion", "verifier")]
    for file in files:
        if file.exists():
            raise SystemExit(f"{file} exists: move it away first")
    torch.manual_seed(0)  # of the heads that are not shipped
    pipeline, fp32 = pipeline_path(), torch.float32
    codec = AutoencoderTiny.from_pretrained(pipeline / "vae", dtype=fp32)
    unet = UNet2DConditionModel.from_pretrained(pipeline / "unet", dtype=fp32)
    text_encoder = CLIPTextModel.from_pretrained(pipeline / "text_encoder", dtype=fp32)
    scorer = clip_model.Trainer(CLIPModel.from_pretrained(clip_path(), dtype=fp32))
    shutil.copytree(clip_path(), args.to / "tokenizer", ignore=_all_but_vocabulary)
    checkpoint.save(files[0], _state(codec))
    scorer_state = _state(scorer, atoms={})
    scorer_state["averaged"] = scorer.model.state_dict()
    checkpoint.save(files[1], scorer_state)
    generator = diffusion_model.Trainer(unet, text_encoder)
    codec_state = {"autoencoder": codec.state_dict(), "scaling": codec.config.scaling_factor}
    checkpoint.save(files[2], _state(generator, **codec_state))
    judge = LlavaForConditionalGeneration.from_pretrained(verifier_path(), dtype=fp32)
    trainer = verifier_model.Trainer(verifier_model.build())
    trainer.model.load_state_dict(judge.state_dict())
    checkpoint.save(files[3], _state(trainer))


def _all_but_vocabulary(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if not n.startswith(("vocab", "merges", "tokenizer", "special"))]


if __name__ == "__main__":
    main()
