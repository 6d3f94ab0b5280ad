"""What the images of a shard depend on: its prompts, and the fingerprints of generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.stages.fingerprints import candidate_fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["STAGE", "Prompt", "prompts_of", "read_prompts"]

STAGE = "generate"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A curated caption, with the fingerprint that its images depend on."""

    id: str
    text: str
    fingerprint: str


def read_prompts(run: RunFolder, captions: Marker, shared: str) -> list[Prompt]:
    """The kept captions of a shard, in order."""
    name = captions.file("captions")
    if name is None:
        return []
    return prompts_of(run.read_table(name, ["id", "text", "kept"]), shared)


def prompts_of(captions: pa.Table, shared: str) -> list[Prompt]:
    """The kept ones of some rows of ``captions/``, in order."""
    return [
        Prompt(row["id"], row["text"], candidate_fingerprint(shared, row["id"], row["text"]))
        for row in captions.select(["id", "text", "kept"]).to_pylist()
        if row["kept"]
    ]
