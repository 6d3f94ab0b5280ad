"""The check of faces: a small real detector with random weights, and its own post-processing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

from synthvlm.errors import ModelError
from synthvlm.scorers.face_check import FaceCheck

LABELS = {0: "face", 1: "hand", 2: "dog"}
IMAGES = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8) for seed in range(6)]
PIXELS = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "yolos"
    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        image_size=[32, 32], patch_size=8, num_detection_tokens=12, id2label=LABELS,
        label2id={name: n for n, name in LABELS.items()}, initializer_range=1.5,
    )  # fmt: skip
    model = YolosForObjectDetection(config)
    with torch.no_grad():  # else all its tokens would see the same thing
        model.vit.embeddings.detection_tokens.normal_(std=8)
        model.class_labels_classifier.layers[-1].bias.copy_(torch.tensor([6.0, 6, 6, 0]))
    model.save_pretrained(folder)
    YolosImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def library_counts(folder: Path, labels: set[str], threshold: float) -> list[int]:
    """What the library's own classes make of each image, one at a time."""
    model = YolosForObjectDetection.from_pretrained(folder)
    processor = YolosImageProcessorPil.from_pretrained(folder)
    counts = []
    for image in IMAGES:
        with torch.inference_mode():
            outputs = model(**processor(images=image, return_tensors="pt"))
        size = torch.tensor([image.shape[:2]])
        (found,) = processor.post_process_object_detection(outputs, threshold, target_sizes=size)
        counts.append(sum(LABELS[n] in labels for n in found["labels"].tolist()))
    return counts


@pytest.mark.parametrize(("labels", "threshold"), [(["face"], 0.5), (["hand", "face"], 0.4)])
def test_faces_are_counted_as_the_library_counts_them(
    detector: Path, labels: list[str], threshold: float
) -> None:
    counts = library_counts(detector, set(labels), threshold)
    assert len(set(counts)) > 1
    for most in (0, min(counts), max(counts)):
        check = FaceCheck(str(detector), labels=labels, max_faces=most, threshold=threshold)
        assert check.check(PIXELS) == [
            None if n <= most else f"{n} {'face' if n == 1 else 'faces'} (limit {most})"
            for n in counts
        ]
    assert check.check(PIXELS[2:3]) == [None]


def test_what_has_no_such_label_is_refused_with_those_it_has(detector: Path) -> None:
    with pytest.raises(ModelError, match=r"detects several things: set generation.faces.labels to"):
        FaceCheck(str(detector))
    with pytest.raises(ModelError, match=r"has no label 'person': .* some of dog, face, hand$"):
        FaceCheck(str(detector), labels=["face", "person"])


def test_scores_that_are_no_numbers_let_no_image_pass(detector: Path, tmp_path: Path) -> None:
    for file in detector.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.startswith("class_labels") and "bias" in name)
    save_file(
        {**weights, name: weights[name] * np.nan},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    check = FaceCheck(str(tmp_path), labels=["face"], max_faces=100)
    assert check.check(PIXELS[:1]) == ["the detector of faces gave no finite scores"]
