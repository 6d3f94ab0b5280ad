"""Where the data of a training are, and that they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.errors import CaptionSourceError

if TYPE_CHECKING:
    from synthvlm.training.recipe import DataSettings

__all__ = ["Source", "digests", "find_source"]

_INDEX_FILE = "llava.json"
_IMAGES_FOLDER = "images"


@dataclass(frozen=True, slots=True)
class Source:
    """A LLaVA JSON file, and the folder that its images are relative to."""

    path: str
    images: str


def find_source(settings: DataSettings) -> Source:
    """The JSON file and the folder of images of some data.

    Raises:
        CaptionSourceError: One of them is not there.
    """
    if "://" in settings.path:
        raise CaptionSourceError(
            f"{settings.path}: a URL; training reads local files: fetch it first"
        )
    path = Path(settings.path)
    if path.is_dir():
        folders = [
            folder for folder in (path, path / "dataset") if (folder / _INDEX_FILE).is_file()
        ]
        if not folders:
            raise CaptionSourceError(
                f"{path} holds no {_INDEX_FILE}: name a LLaVA JSON file, or the folder of a "
                f"finished run that exports the format llava"
            )
        path = folders[0] / _INDEX_FILE
    elif not path.is_file():
        raise CaptionSourceError(f"{path} does not exist")
    images = Path(settings.images) if settings.images else path.parent / _IMAGES_FOLDER
    if settings.images and not images.is_dir():
        raise CaptionSourceError(f"{images} is no folder: it should hold the images of {path}")
    return Source(str(path), str(images))


def digests(sources: Sequence[Source]) -> list[str]:
    """SHA-256 of each JSON file.

    Raises:
        CaptionSourceError: One cannot be read.
    """
    found = []
    for source in sources:
        try:
            with open(source.path, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise CaptionSourceError(f"{source.path} cannot be read: {error.strerror}") from None
    return found
