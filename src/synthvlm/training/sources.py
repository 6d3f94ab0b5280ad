"""The data of a training: where they are, that they are still the same, how many can be used."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.data_sets.conversations import BadRecord
from synthvlm.errors import CaptionSourceError
from synthvlm.models.devices import usable_cores
from synthvlm.models.file_hashes import SETTLED_NS, file_hash, file_state

if TYPE_CHECKING:
    from synthvlm.training.recipe import DataSettings

__all__ = ["MASKED", "TRUNCATED", "DataFacts", "ImageFiles", "Source", "digests", "find_source"]

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
    checksums = []
    for source in sources:
        try:
            checksums.append(file_hash(source.path))
        except OSError as error:
            raise CaptionSourceError(f"{source.path} cannot be read: {error.strerror}") from None
    return checksums


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """What the images of a training are.

    Attributes:
        content: A hash of their contents, in the order of their first use.
        state: A hash of their sizes and times: as long as it stays, so does the content. Empty
            where one changed so recently that it could change again unseen.
    """

    content: str
    state: str

    @classmethod
    def of(cls, hashes: Mapping[str, str]) -> ImageFiles:
        """Of the SHA-256 of each file, by its path.

        Raises:
            OSError: One is not there.
        """
        return cls(_joined(hashes.values()), cls._state_of(hashes))

    @classmethod
    def read(cls, paths: Sequence[str]) -> ImageFiles:
        """Read files.

        Raises:
            OSError: One cannot be read.
        """
        with ThreadPoolExecutor(usable_cores()) as threads:
            return cls.of(dict(zip(paths, threads.map(file_hash, paths), strict=True)))

    def is_of(self, paths: Sequence[str]) -> bool:
        """Whether files are known to be the same without being read.

        Raises:
            OSError: One is not there.
        """
        return bool(self.state) and self.state == self._state_of(paths)

    @staticmethod
    def _state_of(paths: Iterable[str]) -> str:
        now, states = time.time_ns(), []
        for path in paths:
            info = os.stat(path)
            if now - max(info.st_mtime_ns, info.st_ctime_ns) < SETTLED_NS:
                return ""
            states.append(file_state(info))
        return _joined(states)


def _joined(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


#: Problems of records that are used all the same.
TRUNCATED = "its end was cut off at max_tokens (used)"
MASKED = "its trained parts are no whole tokens (used without loss)"
_EXAMPLES = 10


@dataclass(slots=True)
class DataFacts:
    """The result of checking the data.

    Attributes:
        records: Read in all.
        samples: Used in training.
        with_image: Of these.
        tokens: Of all samples; image tokens included.
        problems: Number of records with each problem.
        examples: Where the first ten of each problem are.
        digests: SHA-256 of each JSON file.
        models: What each model of the recipe was when the data were checked, by its setting.
        images: What the images of the samples were; None in folders of early versions.
    """

    records: int = 0
    samples: int = 0
    with_image: int = 0
    tokens: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    models: dict[str, str] = field(default_factory=dict)
    images: ImageFiles | None = None

    def add(self, record: BadRecord) -> None:
        """Count a record with a problem."""
        self.problems[record.problem] += 1
        examples = self.examples.setdefault(record.problem, [])
        if len(examples) < _EXAMPLES:
            examples.append(record.where)

    @property
    def failed(self) -> int:
        """Records that nothing is learnt from."""
        return self.problems.total() - self.problems[TRUNCATED]

    def values(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "records": self.records,
            "samples": self.samples,
            "with_image": self.with_image,
            "tokens": self.tokens,
            "problems": dict(self.problems),
            "examples": self.examples,
            "digests": self.digests,
            "models": self.models,
            "images": None if self.images is None else asdict(self.images),
        }

    @classmethod
    def of(cls, values: dict[str, Any]) -> DataFacts:
        """From ``values``."""
        images = values.get("images")
        known = {"problems": Counter(values["problems"])}
        return cls(**{**values, **known, "images": ImageFiles(**images) if images else None})
