"""The done-marker of a shard, and its name in the run folder."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Marker", "StoredFile", "is_within", "marker_name", "shard_of"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A committed file: path in the run folder, size in bytes, checksum (blake2b-128, hex)."""

    path: str
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The commit of a shard: what it depended on, its files, and counts for people."""

    fingerprint: str
    files: tuple[StoredFile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def file(self, folder: str) -> str | None:
        """Path of the shard's file in a folder, e.g. ``pairs``; None where it has none."""
        return next((f.path for f in self.files if f.path.startswith(folder + "/")), None)

    def to_json(self) -> bytes:
        """What is written."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode(
            "utf-8", "replace"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Marker | None:
        """What was written; None where it is no marker, or names files outside the run folder."""
        try:
            content = json.loads(data)
            files = tuple(StoredFile(**entry) for entry in content["files"])
            if not all(is_within(file.path) for file in files):
                return None
            return cls(str(content["fingerprint"]), files, dict(content["facts"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def marker_name(stage: str, shard: int) -> str:
    """Where the marker of a shard is."""
    return f"done/{stage}/{shard:05d}.json"


def shard_of(name: str) -> int | None:
    """The shard that a done-marker is of, by its name; None: it is none."""
    stem = posixpath.basename(name).removesuffix(".json")
    return int(stem) if stem.isdecimal() else None


def is_within(path: str) -> bool:
    """Whether a name relative to a folder is plain, and leads to something below it."""
    inside = not posixpath.isabs(path) and not path.startswith("..") and "\0" not in path
    return inside and posixpath.normpath(path) == path != "."
