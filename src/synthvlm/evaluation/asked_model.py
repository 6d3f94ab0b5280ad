"""The model under evaluation: where it lies, what it is, and how it is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synthvlm.data import digest
from synthvlm.model_files import model_identity, vision_language_path

__all__ = ["AskedModel", "identified"]


@dataclass(frozen=True, slots=True)
class AskedModel:
    """The model under evaluation.

    Attributes:
        path: Hub id or folder.
        identity: The same for the same weights, wherever they lie.
        chat_template: Checksum of a folder's template; "" for a hub id, or where it is elsewhere.
        device: A torch device.
        dtype: ``float32``, ``float16`` or ``bfloat16``.
        revision: Branch, tag or commit on the hub, or None.
    """

    path: str
    identity: str
    chat_template: str
    device: str
    dtype: str
    revision: str | None

    def values(self) -> dict[str, Any]:
        """What its answers depend on, as plain values, and its device."""
        values = asdict(self)
        del values["path"]
        return values


def identified(model: str, device: str, dtype: str, revision: str | None) -> AskedModel:
    """A model by hub id, folder, or output folder of ``synthvlm train``; nothing is loaded.

    Raises:
        ModelError: The device is not known.
    """
    from synthvlm.vlm import resolved

    path = vision_language_path(model)
    template = Path(path) / "chat_template.jinja"
    checksum = digest([template.read_bytes()]) if template.is_file() else ""
    return AskedModel(path, model_identity(path), checksum, *resolved(device, dtype), revision)
