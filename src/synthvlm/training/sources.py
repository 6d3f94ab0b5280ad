"""The data of a training: where they are, that they are still the same, how many can be used."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.captions.readers.files import find_files, suffix_of
from synthvlm.data_sets.conversations import BadRecord, Conversation, read_conversations
from synthvlm.data_sets.inputs import Named, images_of, open_data_set
from synthvlm.data_sets.readers import ConversationDataSet
from synthvlm.errors import CaptionSourceError
from synthvlm.models.devices import usable_cores
from synthvlm.models.file_hashes import SETTLED_NS, file_hash, file_state

if TYPE_CHECKING:
    from synthvlm.data_sets.conversation_tables import ConversationTables
    from synthvlm.data_sets.readers import TableDataSet
    from synthvlm.training.recipe import DataSettings

__all__ = ["MASKED", "TRUNCATED", "DataFacts", "ImageFiles", "Source", "digests", "find_source"]

_INDEX_FILE = "llava.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A JSON file of conversations and the folder that its images are relative to, or other data.

    Attributes:
        path: As messages name it.
        images: The folder of images; "" where they are in the files.
        packed: A data set that holds its images itself; None of a JSON file.
    """

    path: str
    images: str
    packed: TableDataSet | ConversationTables | None = None

    def files(self) -> list[str]:
        """The files that hold the records.

        Raises:
            CaptionSourceError: One is not there.
        """
        if self.packed is None:
            return [self.path]
        return [str(file.path) for one in self.packed.files for file in find_files(one.path)]

    def records(self, folder: Path) -> Iterator[tuple[Conversation | BadRecord, str]]:
        """Each record, and the folder that its image is relative to; see ``read_conversations``.

        Args:
            folder: Gets the images of data that hold them: files named by their content.
        """
        if self.packed is None:
            yield from ((record, self.images) for record in read_conversations(self.path))
            return
        for record, image in self.packed.conversations():
            if isinstance(record, Conversation) and record.image is not None:
                record = replace(record, image=_unpacked(folder, image))
            yield record, str(folder)


def _unpacked(folder: Path, image: bytes) -> str:
    checksum = hashlib.sha256(image).hexdigest()
    name = f"{checksum[:2]}/{checksum}"
    path = folder / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{checksum}.partial")
        partial.write_bytes(image)
        partial.replace(path)
    return name


def find_source(settings: DataSettings) -> Source:
    """The files of some data, recognised as ``synthvlm compare`` recognises them.

    Raises:
        CaptionSourceError: They are not there, or no data set.
        RecipeError: They hold their images, and a folder of images is named.
    """
    if "://" in settings.path:
        raise CaptionSourceError(
            f"{settings.path}: a URL; training reads local files: fetch it first"
        )
    path = Path(settings.path)
    if path.is_dir():
        # Of a run that is not finished, too: one that has begun knows its data by their content.
        indexes = [folder / _INDEX_FILE for folder in (path, path / "dataset")]
        path = next((index for index in indexes if index.is_file()), path)
    if path.is_dir() or not path.is_file() or suffix_of(settings.path) in ("tar", "parquet"):
        data_set = open_data_set(Named(path.name, settings.path, settings.images))
        if not isinstance(data_set, ConversationDataSet):
            return Source(settings.path, "", data_set.for_training())
        path = Path(data_set.files[0].path)
    images = Path(settings.images or images_of(path))
    if settings.images and not images.is_dir():
        raise CaptionSourceError(f"{images} is no folder: it should hold the images of {path}")
    return Source(str(path), str(images))


def digests(sources: Sequence[Source]) -> list[str]:
    """SHA-256 of each file of records.

    Raises:
        CaptionSourceError: One cannot be read.
    """
    checksums = []
    for path in (path for source in sources for path in source.files()):
        try:
            checksums.append(file_hash(path))
        except OSError as error:
            raise CaptionSourceError(f"{path} cannot be read: {error.strerror}") from None
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
        digests: SHA-256 of each file of records.
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
