"""Records what other people's code makes of small models: `scorer_goldens.json`.

Each source is run in an environment of its own, outside the package's, for they need torchvision
and old versions of transformers. Without their dependencies (`--no-deps`), beside torch, numpy,
pillow, ftfy and regex:

    open_clip, hpsv2, aesthetic:  open_clip_torch==3.3.0 hpsv2==1.2.0
                                  simple-aesthetics-predictor==0.1.2 timm torchvision==0.28.0
    imagereward:                  image-reward==1.5 transformers==4.40.2 tokenizers==0.19.1
                                  huggingface_hub==0.23.4 timm==0.6.13 torchvision==0.28.0

    python tests/data/make_scorer_goldens.py open_clip hpsv2 aesthetic
    python tests/data/make_scorer_goldens.py imagereward
"""

from __future__ import annotations

import gzip
import importlib.metadata
import importlib.util
import io
import json
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent / "scorers"))
import reference

VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
TEXT = {"layers": 2, "width": 32, "heads": 2, "context_length": 24}
VOCABULARY = 512 + len(reference.MERGES) + 2


def import_torchvision() -> None:
    """Declare torchvision's operators, which its wheel lacks beside a torch of another build."""
    spec = importlib.util.find_spec("torchvision")
    (folder,) = spec.submodule_search_locations
    text = Path(folder, "_meta_registrations.py").read_text()
    library = torch.library.Library("torchvision", "DEF")
    for name in {*re.findall(r'(?:torchvision::|register_meta\(")(\w+)', text)}:
        library.define(f"{name}(Tensor x) -> Tensor")
    import torchvision  # noqa: F401

    import_torchvision.library = library


def package(name: str) -> None:
    """A package whose `__init__` is not run: it imports what the scores do not need."""
    stub = types.ModuleType(name)
    stub.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
    sys.modules[name] = stub


def fill(model: torch.nn.Module, leave: tuple[str, ...] = ()) -> dict[str, list[int]]:
    """Give a model its weights; returns their shapes by name."""
    shapes = {
        name: list(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.endswith(("position_ids", *leave))
    }
    weights = {n: torch.from_numpy(np.array(w)) for n, w in reference.weights(shapes).items()}
    model.load_state_dict(weights, strict=False)
    model.eval()
    return shapes


def images() -> list[Image.Image]:
    return [Image.fromarray(reference.image(number)) for number in range(len(reference.SIZES))]


def merges(folder: str) -> str:
    path = Path(folder, "merges.txt.gz")
    path.write_bytes(gzip.compress("\n".join(["#version", *reference.MERGES]).encode()))
    return str(path)


def open_clip_values() -> dict[str, Any]:
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transform import PreprocessCfg, image_transform_v2

    found = {"version": importlib.metadata.version("open_clip_torch"), "models": []}
    variants = [
        ({}, {}),
        (
            {"quick_gelu": True, "vision_cfg": {**VISION, "mlp_ratio": 2.0}},
            {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5] * 3,
             "std": [0.25] * 3},
        ),
    ]  # fmt: skip
    for settings, preprocessing in variants:
        settings = {
            "embed_dim": 24, "vision_cfg": VISION, "text_cfg": {**TEXT, "vocab_size": VOCABULARY},
            **settings,
        }  # fmt: skip
        model = open_clip.CLIP(**settings)
        shapes = fill(model)
        transform = image_transform_v2(PreprocessCfg(size=32, **preprocessing), is_train=False)
        with tempfile.TemporaryDirectory() as folder, torch.no_grad():
            tokens = SimpleTokenizer(merges(folder), context_length=24)(reference.CAPTIONS)
            text = model.encode_text(tokens, normalize=True)
            pixels = torch.stack([transform(image) for image in images()])
            image = model.encode_image(pixels, normalize=True)
        found["models"].append({
            "config": {"model_cfg": settings, "preprocess_cfg": preprocessing},
            "shapes": shapes,
            "tokens": tokens.tolist(),
            "values": (image * text).sum(1).tolist(),
        })  # fmt: skip
    return found


def hpsv2_values() -> dict[str, Any]:
    package("hpsv2")
    with mock.patch("gzip.open", return_value=io.BytesIO(b"#version")):  # its wheel lacks the file
        from hpsv2.src.open_clip import tokenizer
    from hpsv2.src.open_clip.model import CLIP
    from hpsv2.src.open_clip.transform import image_transform

    vision = {**VISION, "head_width": 2}
    model = CLIP(24, vision, {**TEXT, "heads": 16, "vocab_size": VOCABULARY}, output_dict=True)
    shapes = fill(model)
    # As `create_model_and_transforms` makes it for `light_augmentation=True`, as `score` calls it.
    transform = image_transform(32, is_train=False, resize_longest_max=True)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        tokenizer._tokenizer = tokenizer.SimpleTokenizer(merges(folder))
        tokens = tokenizer.tokenize(reference.CAPTIONS, context_length=24)
        values = []
        for image, row in zip(images(), tokens, strict=True):
            outputs = model(transform(image)[None], row[None])
            logits = outputs["image_features"] @ outputs["text_features"].T
            values.append(torch.diagonal(logits).item())
    return {
        "version": importlib.metadata.version("hpsv2"),
        "shapes": shapes,
        "values": values,
    }


def aesthetic_values() -> dict[str, Any]:
    from aesthetics_predictor import (
        AestheticsPredictorV1,
        AestheticsPredictorV2Linear,
        AestheticsPredictorV2ReLU,
    )
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig

    config = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "projection_dim": 24,
    }  # fmt: skip
    side = {"height": 32, "width": 32}
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=side)
    found = {"version": importlib.metadata.version("simple-aesthetics-predictor"), "models": {}}
    for kind in (AestheticsPredictorV1, AestheticsPredictorV2Linear, AestheticsPredictorV2ReLU):
        model = kind(CLIPVisionConfig(**config))
        shapes = fill(model)
        with torch.no_grad():
            values = [
                model(
                    **processor(images=image, return_tensors="pt"), return_dict=True
                ).logits.item()
                for image in images()
            ]
        found["models"][kind.__name__] = {"config": config, "shapes": shapes, "values": values}
    return found


def imagereward_values() -> dict[str, Any]:
    for name in ("fairscale", "fairscale.nn", "fairscale.nn.checkpoint",
                 "fairscale.nn.checkpoint.checkpoint_activations"):  # fmt: skip
        sys.modules[name] = types.ModuleType(name)
    sys.modules["fairscale.nn.checkpoint.checkpoint_activations"].checkpoint_wrapper = None
    package("ImageReward")
    package("ImageReward.models")
    from ImageReward.ImageReward import ImageReward, _transform
    from ImageReward.models.BLIP import blip_pretrain
    from ImageReward.models.BLIP.vit import VisionTransformer
    from transformers import BertTokenizer

    def small_vit(*arguments: object) -> tuple[torch.nn.Module, int]:
        vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=128, depth=2, num_heads=2)
        return vit, 128

    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder, "vocab.txt")
        words.write_text("\n".join(reference.WORDPIECES))
        settings = Path(folder, "med_config.json")
        settings.write_text(json.dumps({
            "hidden_size": 128, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "vocab_size": len(reference.WORDPIECES), "encoder_width": 128,
            "add_cross_attention": True, "layer_norm_eps": 1e-12, "max_position_embeddings": 40,
        }))  # fmt: skip
        blip_pretrain.create_vit = small_vit
        blip_pretrain.init_tokenizer = lambda: BertTokenizer(str(words))
        import ImageReward.ImageReward as module

        module.MLP, real = lambda width: real(128), module.MLP
        model = ImageReward(str(settings))
    model.preprocess = _transform(32)
    shapes = fill(model)
    pairs = zip(reference.CAPTIONS, images(), strict=True)
    return {
        "version": importlib.metadata.version("image-reward"),
        "shapes": shapes,
        "values": [model.score(caption, image) for caption, image in pairs],
    }


def main(names: list[str]) -> None:
    import_torchvision()
    torch.set_num_threads(1)
    known = json.loads(reference.FILE.read_text()) if reference.FILE.is_file() else {}
    for name in names:
        known[name] = globals()[f"{name}_values"]()
        print(name, known[name].get("values", known[name]))
    text = json.dumps(known, indent=1, sort_keys=True)
    # One line for each shape and each row of tokens.
    text = re.sub(r"\[\s+([\d,\s]+?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    reference.FILE.write_text(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
