"""Done-markers, and the names of stages, shards and files in the run folder."""

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
    "question_stage",
    "rule_of_stage",
    "scorer_of_stage",
    "shard_of",
    "source_of_stage",
    "stage_of",
    "written_stage",
]

#: Prefixes of the names of stages that exist several times: one for each rule with a model, one for
#: each source whose images are captioned, and one for each scorer that asks questions.
_MEASURES, _WRITTEN, _QUESTIONS = "measures-", "written-", "questions-"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A committed file: path in the run folder, size in bytes, checksum (blake2b-128, hex)."""

    path: str
    size: int
    checksum: str

    @property
    def folder(self) -> str:
        """The top-level folder that it is in, e.g. ``pairs``."""
        return self.path.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Marker:
    """The commit of a shard.

    Attributes:
        fingerprint: A hash of everything that the shard depends on.
        files: The files that belong to it.
        facts: Counts, and values that later stages need.
    """

    fingerprint: str
    files: tuple[StoredFile, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def file(self, folder: str) -> str | None:
        """Path of the shard's file in a folder, e.g. ``pairs``; None if it has none there."""
        return next((f.path for f in self.files if f.folder == folder), None)

    def to_json(self) -> bytes:
        """Encode it."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True).encode(
            "utf-8", "replace"
        )

    @classmethod
    def from_json(cls, data: bytes) -> Marker | None:
        """Decode it; None if it is not a marker, or names files outside the run folder."""
        try:
            content = json.loads(data)
            files = tuple(StoredFile(**entry) for entry in content["files"])
            if not all(is_within(file.path) for file in files):
                return None
            return cls(str(content["fingerprint"]), files, dict(content["facts"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def marker_name(stage: str, shard: int) -> str:
    """Path of the marker of a shard."""
    return f"done/{stage}/{shard:05d}.json"


def stage_of(name: str) -> str:
    """The stage of a done-marker, from its path."""
    return posixpath.dirname(name).removeprefix("done/")


def shard_of(name: str) -> int | None:
    """The shard of a done-marker, from its path; None if it is not a done-marker."""
    stem = posixpath.basename(name).removesuffix(".json")
    return int(stem) if stem.isdecimal() else None


def model_measure_stage(rule: str) -> str:
    """The stage in which a rule with a model measures, which is also its folder."""
    return f"{_MEASURES}{rule}"


def rule_of_stage(stage: str) -> str | None:
    """The rule that measures in a stage; None if the stage is not of that kind."""
    return stage.removeprefix(_MEASURES) if stage.startswith(_MEASURES) else None


def written_stage(source: str) -> str:
    """The stage in which a source's images are captioned, which is also its folder."""
    return f"{_WRITTEN}{source}"


def source_of_stage(stage: str) -> str | None:
    """The source whose images a stage captions; None if the stage is not of that kind."""
    return stage.removeprefix(_WRITTEN) if stage.startswith(_WRITTEN) else None


def question_stage(scorer: str) -> str:
    """The stage in which the questions of a scorer are written, which is also its folder."""
    return f"{_QUESTIONS}{scorer}"


def scorer_of_stage(stage: str) -> str | None:
    """The scorer whose questions a stage writes; None if the stage is not of that kind."""
    return stage.removeprefix(_QUESTIONS) if stage.startswith(_QUESTIONS) else None


def is_within(path: str) -> bool:
    """Whether a relative path is normalised and stays below its folder."""
    inside = not posixpath.isabs(path) and not path.startswith("..") and "\0" not in path
    return inside and posixpath.normpath(path) == path != "."
