"""Checkpoints of the shipped weights hold what the training commands go on from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from experiments.tiny_models import (
    autoencoder_model,
    checkpoint,
    clip_model,
    diffusion_model,
    restore,
)
from synthvlm.tiny import clip_path, pipeline_path


def test_the_shipped_weights_come_back(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny
    from transformers import CLIPModel, CLIPTokenizer

    restore.main(["--to", str(tmp_path)])
    states = {name: checkpoint.load(tmp_path / f"{name}.pt") for name in ("autoencoder", "clip")}
    for name, shipped, own in (
        ("autoencoder", AutoencoderTiny.from_pretrained(pipeline_path() / "vae"), "averaged"),
        ("clip", CLIPModel.from_pretrained(clip_path()), "averaged"),
    ):
        state = states[name]
        assert state is not None
        assert "optimiser" not in state
        for key, value in shipped.state_dict().items():
            assert torch.equal(state[own][key].half(), value.half()), key
    autoencoder_model.build().load_state_dict(states["autoencoder"]["averaged"])  # type: ignore[index]
    drawn = checkpoint.load(tmp_path / "diffusion.pt")
    assert drawn is not None
    words = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    clip_model.Trainer(clip_model.build(words)).load_state_dict(states["clip"]["model"])  # type: ignore[index]
    trainer = diffusion_model.Trainer(
        diffusion_model.build(), diffusion_model.build_text_encoder(words)
    )
    trainer.load_state_dict(drawn["model"])
    with pytest.raises(SystemExit, match="exists: move it away"):
        restore.main(["--to", str(tmp_path)])
