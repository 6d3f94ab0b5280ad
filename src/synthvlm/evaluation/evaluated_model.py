"""The model under evaluation: where it lies, what it is, and how it is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from synthvlm.models.model_files import model_identity, vision_language_path

__all__ = ["EvaluatedModel", "identify_model"]


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """The model under evaluation.

    Attributes:
        path: Hub id or folder.
        identity: The same for the same files, wherever they lie.
        device: A torch device.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        revision: Branch, tag or commit on the hub, or None.
    """

    path: str
    identity: str
    device: str
    dtype: str
    revision: str | None

    def values(self) -> dict[str, Any]:
        """What its answers depend on, as plain values, and its device."""
        values = asdict(self)
        del values["path"]
        return values


def identify_model(model: str, device: str, dtype: str, revision: str | None) -> EvaluatedModel:
    """A model by hub id, folder, or output folder of ``synthvlm train``; nothing is loaded.

    Raises:
        ModelError: The device is not known, or a file cannot be read.
    """
    from synthvlm.models.vlm import resolved

    path = vision_language_path(model)
    return EvaluatedModel(path, model_identity(path), *resolved(device, dtype), revision)
