"""A check of generated images: how many faces an object detector sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.errors import ModelError
from synthvlm.models.pretrained import PilImageProcessor, load_pretrained
from synthvlm.scorers.pixels import model_inputs

if TYPE_CHECKING:
    import torch

__all__ = ["FaceCheck"]


class FaceCheck:
    """Rejects images on which a detector sees more faces than may be.

    Any object-detection model of ``transformers`` that has labels for faces: YOLOS, DETR, RT-DETR
    and others. What counts as a detection is decided by the model's own post-processing.
    """

    def __init__(
        self,
        model: str,
        *,
        labels: Sequence[str] | None = None,
        max_faces: int = 0,
        threshold: float = 0.5,
        device: str = "cpu",
        revision: str | None = None,
    ) -> None:
        """Load a detector by hub id or folder.

        Args:
            model: Hub id or folder.
            labels: The labels of faces, as the model names them; None: its only one.
            max_faces: How many may be seen.
            threshold: Score (0 .. 1) above which a detection counts.
            device: A torch device.
            revision: Branch, tag or commit on the hub.

        Raises:
            ModelError: It cannot be loaded, is no detector, or has no such label.
        """
        from transformers import AutoModelForObjectDetection

        self._model: Any
        self._processor: Any
        self._model, self._processor = load_pretrained(
            [AutoModelForObjectDetection, PilImageProcessor],
            "object-detection",
            model,
            device,
            "float32",
            revision,
        )
        names = {str(name): int(row) for row, name in self._model.config.id2label.items()}
        known = ", ".join(sorted(names)[:20]) + (", ..." if len(names) > 20 else "")
        advice = f"set generation.faces.labels to some of {known}"
        if labels is None and len(names) > 1:
            raise ModelError(f"{model} detects several things: {advice}")
        for label in labels or []:
            if label not in names:
                raise ModelError(f"{model} has no label {label!r}: {advice}")
        if not hasattr(self._processor, "post_process_object_detection"):
            raise ModelError(f"{model}: its image processor finds no objects: name another model")
        self._numbers = {names[label] for label in labels or names}
        self._max_faces, self._threshold = max_faces, threshold

    def check(self, images: torch.Tensor) -> list[str | None]:
        """For n images (uint8, shape (n, 3, height, width), RGB) a reason to reject, or None."""
        import torch

        inputs = model_inputs(self._processor, images, self._model.device)
        with torch.inference_mode():
            outputs = self._model(**inputs)
        found = self._processor.post_process_object_detection(outputs, threshold=self._threshold)
        usable = outputs.logits.isfinite().flatten(1).all(1).tolist()
        counts = [
            sum(label in self._numbers for label in one["labels"].tolist()) if is_usable else None
            for one, is_usable in zip(found, usable, strict=True)
        ]
        return [self._reason(count) for count in counts]

    def _reason(self, count: int | None) -> str | None:
        if count is None:  # NaN must not let an image pass
            return "the detector of faces gave no finite scores"
        if count <= self._max_faces:
            return None
        return f"{count} {'face' if count == 1 else 'faces'} (limit {self._max_faces})"
