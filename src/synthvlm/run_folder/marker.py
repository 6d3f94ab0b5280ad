"""The done-marker of a shard, and names of stages, shards and files in the run folder."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "Marker",
    "StoredFile",
    "is_within",
    "marker_name",
    "model_measure_stage",
    "rule_of_stage",
    "shard_of",
    "source_of_stage",
    "stage_of",
    "written_stage",
]

#: Beginnings of the names of stages of which there are several: one for each rule with a model, and
#: one for each source whose images are captioned.
_MEASURES, _WRITTEN = "measures-", "written-"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A committed file: path in the run folder, size in bytes, checksum (blake2b-128, hex)."""

    path: str
    size: int
    checksum: str

    @property
    def folder(self) -> str:
        """The folder of the run folder that it lies in, e.g. ``pairs``."""
        return self.path.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Marker:
    """The commit of a shard: what it depended on, its files, and counts for people."""

    fingerprint: str
    files: tuple[StoredFile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def file(self, folder: str) -> str | None:
        """Path of the shard's file in a folder, e.g. ``pairs``; None where it has none."""
        return next((f.path for f in self.files if f.folder == folder), None)

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


def stage_of(name: str) -> str:
    """The stage that a done-marker is of, by its name."""
    return posixpath.dirname(name).removeprefix("done/")


def shard_of(name: str) -> int | None:
    """The shard that a done-marker is of, by its name; None: it is none."""
    stem = posixpath.basename(name).removesuffix(".json")
    return int(stem) if stem.isdecimal() else None


def model_measure_stage(rule: str) -> str:
    """The stage, and the folder, of what a rule with a model measured."""
    return f"{_MEASURES}{rule}"


def rule_of_stage(stage: str) -> str | None:
    """The rule whose ``model_measure_stage`` a stage is; None: it is none."""
    return stage.removeprefix(_MEASURES) if stage.startswith(_MEASURES) else None


def written_stage(source: str) -> str:
    """The stage, and the folder, of what a model wrote of a source's images."""
    return f"{_WRITTEN}{source}"


def source_of_stage(stage: str) -> str | None:
    """The source whose ``written_stage`` a stage is; None: it is none."""
    return stage.removeprefix(_WRITTEN) if stage.startswith(_WRITTEN) else None


def is_within(path: str) -> bool:
    """Whether a name relative to a folder is plain, and leads to something below it."""
    inside = not posixpath.isabs(path) and not path.startswith("..") and "\0" not in path
    return inside and posixpath.normpath(path) == path != "."
