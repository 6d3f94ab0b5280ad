"""The files of a data set as formats write them: each once, and with what a description needs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator

import orjson

from synthvlm.data import digest
from synthvlm.errors import PluginError
from synthvlm.exporters.base import Exporter, FileFacts

__all__ = ["DescribedFiles", "WrittenFiles", "describes"]

_IMAGES = (".png", ".jpg", ".webp")


def describes(exporter: Exporter) -> bool:
    """Whether a format describes the files of others."""
    return type(exporter).describe is not Exporter.describe


class DescribedFiles:
    """Size and SHA-256 of files, and the folders of the images among them.

    Attributes:
        files: By name; not the images, of which there may be millions.
        image_folders: The first parts of their names.
    """

    def __init__(self) -> None:
        """No file yet."""
        self.files: dict[str, FileFacts] = {}
        self.image_folders: set[str] = set()

    def passed(self, name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The same chunks; when they have passed, the file is known."""
        if name.endswith(_IMAGES):
            self.image_folders.add(name.partition("/")[0])
            yield from chunks
            return
        size, sha256 = 0, hashlib.sha256()
        for chunk in chunks:
            size += len(chunk)
            sha256.update(chunk)
            yield chunk
        self.files[name] = FileFacts(size, sha256.hexdigest())

    def record(self) -> bytes:
        """All of this, for ``add``."""
        files = {name: list(facts) for name, facts in self.files.items()}
        return orjson.dumps([files, sorted(self.image_folders)])

    def add(self, record: bytes) -> None:
        """Add the files of another one."""
        files, folders = orjson.loads(record)
        self.files |= {name: FileFacts(*facts) for name, facts in files.items()}
        self.image_folders |= set(folders)


class WrittenFiles:
    """Is a ``Write``, and remembers what was written.

    Attributes:
        files: For each name the size in bytes and the checksum.
        described: What a description needs of them, where one is asked for.
    """

    def __init__(
        self,
        write: Callable[[str, Iterable[bytes]], tuple[int, str]],
        *,
        described: bool,
    ) -> None:
        """Take what writes a file, and returns its size and checksum (of ``data.digest``)."""
        self._write = write
        self.files: dict[str, tuple[int, str]] = {}
        self.described = DescribedFiles() if described else None

    def __call__(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write a file, once.

        Raises:
            PluginError: It was written before, with other bytes.
        """
        if name in self.files:
            if digest(chunks) != self.files[name][1]:
                raise PluginError(f"two formats write {name}, and not the same: use one of them")
            return
        if self.described is not None:
            chunks = self.described.passed(name, chunks)
        self.files[name] = self._write(name, chunks)
