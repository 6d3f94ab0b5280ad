"""Small trained models of a closed world of coloured shapes, shipped inside the package."""

from __future__ import annotations

from pathlib import Path

__all__ = ["captions_path", "clip_path", "language_path", "pipeline_path", "verifier_path"]

_HERE = Path(__file__).parent


def pipeline_path() -> Path:
    """Folder of the bundled diffusers `StableDiffusionPipeline`."""
    return _HERE / "weights" / "pipeline"


def clip_path() -> Path:
    """Folder of the bundled transformers `CLIPModel`, its tokenizer and image processor."""
    return _HERE / "weights" / "clip"


def language_path() -> Path:
    """Folder of the bundled causal language model (a Llama), and its tokenizer."""
    return _HERE / "weights" / "language"


def verifier_path() -> Path:
    """Folder of the bundled `LlavaForConditionalGeneration`: does an image show a claim?"""
    return _HERE / "weights" / "verifier"


def captions_path() -> Path:
    """The bundled caption file: JSON Lines with the fields `id` and `caption`."""
    return _HERE / "captions.jsonl"
