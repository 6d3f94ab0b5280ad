"""Checks of generated images: blank ones, and unsafe ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from synthvlm.errors import ModelError
from synthvlm.models.pretrained import PilImageProcessor, architectures, load_pretrained
from synthvlm.scorers.pixels import model_inputs

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "ImageCheck",
    "ImageClassifierCheck",
    "StableDiffusionCheck",
    "blank_images",
    "load_image_check",
]

# Of 255. What the embedded autoencoder makes of nothing, of empty latents or of a plain background,
# spreads by 7 to 13 and deviates by at most 0.4. Things in fog vanish at 5 % of luminance, which is
# about 6 here, and a ramp of 5 deviates by 1.4: fog deviates by more than 1. A dot or a line may
# deviate by less, and spreads by more than 16.
_BLANK_SPREAD = 16
_BLANK_DEVIATION = 1.0


def blank_images(images: torch.Tensor) -> list[str | None]:
    """What is wrong with images that are black or of one colour; None for all others.

    An image is of one colour if in every channel (of 255) the values lie within 16 of each other,
    with a standard deviation of at most 1; it is black if none of its values is above 16 besides.

    Args:
        images: uint8, shape (n, 3, height, width), on any device.
    """
    flat = images.flatten(2)
    lowest, highest = flat.amin(2), flat.amax(2)
    narrow = ((highest - lowest) <= _BLANK_SPREAD).all(1).tolist()
    dark = (highest <= _BLANK_SPREAD).all(1).tolist()
    problems: list[str | None] = [None] * len(images)
    for row in (row for row, close in enumerate(narrow) if close):
        if flat[row].float().std(1, correction=0).amax() <= _BLANK_DEVIATION:
            problems[row] = "the image is black" if dark[row] else "the image is of one colour"
    return problems


class ImageCheck(Protocol):
    """Says which images are not to be used."""

    def check(self, images: torch.Tensor) -> list[str | None]:
        """For n images (uint8, shape (n, 3, height, width), RGB) a reason to reject, or None."""
        ...


class ImageClassifierCheck:
    """Rejects images to which a classifier gives an unwanted label.

    Any image-classification model of ``transformers``, such as ``Falconsai/nsfw_image_detection``.
    Probabilities are those of its pipeline: of labels that exclude each other by softmax, else
    (``problem_type: multi_label_classification``, or a single label) each by the sigmoid.
    """

    def __init__(
        self,
        model: str,
        *,
        labels: Sequence[str],
        max_probability: float = 0.5,
        device: str = "cpu",
        revision: str | None = None,
    ) -> None:
        """Load a classifier by hub id or folder.

        Args:
            model: Hub id or folder.
            labels: The unwanted labels, as the model names them.
            max_probability: Highest probability (0 .. 1) of each that passes.
            device: A torch device.
            revision: Branch, tag or commit on the hub.

        Raises:
            ModelError: It cannot be loaded, has no such label, or gives no probabilities.
        """
        from transformers import AutoModelForImageClassification

        self._model: Any
        self._processor: Any
        self._model, self._processor = load_pretrained(
            [AutoModelForImageClassification, PilImageProcessor],
            "image-classification",
            model,
            device,
            "float32",
            revision,
        )
        config = self._model.config
        if config.problem_type == "regression":
            raise ModelError(f"{model} is a regression: it gives labels no probabilities")
        self._exclusive = (
            config.problem_type != "multi_label_classification" and config.num_labels > 1
        )
        names = {str(name): int(row) for row, name in config.id2label.items()}
        known = ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "")
        advice = f"set generation.safety.labels to some of {known}"
        if not labels:
            raise ModelError(f"{model} is a classifier: {advice}")
        for label in labels:
            if label not in names:
                raise ModelError(f"{model} has no label {label!r}: {advice}")
        self._labels = [(label, names[label]) for label in labels]
        self._limit = max_probability

    def check(self, images: torch.Tensor) -> list[str | None]:
        """For n images (uint8, shape (n, 3, height, width), RGB) a reason to reject, or None."""
        import torch

        inputs = model_inputs(self._processor, images, self._model.device)
        with torch.inference_mode():
            logits = self._model(**inputs).logits
        rows = logits.softmax(-1) if self._exclusive else logits.sigmoid()
        return [self._reason(row) for row in rows.tolist()]

    def _reason(self, probabilities: Sequence[float]) -> str | None:
        values = [(probabilities[column], label) for label, column in self._labels]
        # Not "value > limit": NaN must not let an image pass.
        exceeded = [(value, label) for value, label in values if not value <= self._limit]
        if not exceeded:
            return None
        worst, label = max(exceeded)
        return f"{label} {worst:.2f} (limit {self._limit:g})"


class StableDiffusionCheck:
    """Rejects what the safety checker of Stable Diffusion calls unsafe.

    ``CompVis/stable-diffusion-safety-checker``: an image is unsafe if its CLIP embedding is nearer
    to one of its concepts than that concept's own threshold; the thresholds are lower by 0.01 where
    it is near a concept of special care. Equal to diffusers' ``StableDiffusionSafetyChecker``,
    whose own call blackens images and gives no scores.
    """

    def __init__(self, model: str, *, device: str = "cpu", revision: str | None = None) -> None:
        """Load the checker by hub id or folder.

        Raises:
            ModelError: It cannot be loaded.
        """
        from diffusers.pipelines.stable_diffusion.safety_checker import (
            StableDiffusionSafetyChecker,
        )
        from transformers import CLIPImageProcessorPil

        self._model: Any
        self._processor: Any
        self._model, self._processor = load_pretrained(
            [StableDiffusionSafetyChecker, CLIPImageProcessorPil],
            "safety checker",
            model,
            device,
            "float32",
            revision,
        )

    def check(self, images: torch.Tensor) -> list[str | None]:
        """For n images (uint8, shape (n, 3, height, width), RGB) a reason to reject, or None."""
        import numpy as np
        import torch

        model = self._model
        inputs = model_inputs(self._processor, images, model.device)
        with torch.inference_mode():
            embeddings = model.visual_projection(model.vision_model(inputs["pixel_values"])[1])
            special = _beyond(
                embeddings, model.special_care_embeds, model.special_care_embeds_weights
            )
            beyond = _beyond(embeddings, model.concept_embeds, model.concept_embeds_weights)
        has_special = (special.round(3) > 0).any(1, keepdims=True)
        beyond += np.where(has_special, np.float32(0.01), np.float32(0))
        return [_concepts(row) for row in beyond.round(3)]


def load_image_check(
    model: str,
    *,
    labels: Sequence[str] | None = None,
    max_probability: float = 0.5,
    device: str = "cpu",
    revision: str | None = None,
) -> ImageCheck:
    """Load the check that a model is of: Stable Diffusion's safety checker, else a classifier.

    Args:
        model: Hub id or folder.
        labels: A classifier's unwanted labels; None for the safety checker.
        max_probability: A classifier's limit.
        device: A torch device.
        revision: Branch, tag or commit on the hub.

    Raises:
        ModelError: It cannot be loaded, or labels do not go with it.
    """
    kinds = architectures("image-check", model, revision)
    if any(kind.endswith("SafetyChecker") for kind in kinds):
        if labels is not None:
            raise ModelError(
                f"{model} is a safety checker with thresholds of its own: remove the labels"
            )
        return StableDiffusionCheck(model, device=device, revision=revision)
    return ImageClassifierCheck(
        model,
        labels=labels or [],
        max_probability=max_probability,
        device=device,
        revision=revision,
    )


def _beyond(
    embeddings: torch.Tensor, concepts: torch.Tensor, thresholds: torch.Tensor
) -> np.ndarray:
    """By how much cosines are above thresholds: float32, shape (images, concepts)."""
    import numpy as np
    from torch.nn.functional import normalize

    cosines = normalize(embeddings) @ normalize(concepts).T
    return np.asarray((cosines - thresholds).cpu().numpy())


def _concepts(beyond: np.ndarray) -> str | None:
    """Why an image is rejected, by how much its cosines exceed the concepts' thresholds."""
    count = int((~(beyond <= 0)).sum())  # not "> 0": NaN must not let an image pass
    if not count:
        return None
    concepts = "1 unsafe concept" if count == 1 else f"{count} unsafe concepts"
    return f"{concepts}, {beyond.max():.3f} above the threshold"
