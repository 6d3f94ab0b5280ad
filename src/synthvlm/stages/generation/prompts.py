"""The captions of a shard, from which its images are generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.stages.fingerprints import candidate_fingerprint
from synthvlm.stages.generation.requests import Prompt

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["STAGE", "ShardCaptions", "prompts_of", "read_prompts"]

STAGE = "generate"


@dataclass(frozen=True, slots=True)
class ShardCaptions:
    """All captions of a shard, also those that the rules reject.

    Attributes:
        texts: The text of each, by its id.
        is_cut: Whether ``limit`` ends within the shard, so that more captions may lie beyond it.
    """

    texts: Mapping[str, str]
    is_cut: bool = False

    @classmethod
    def read(cls, run: RunFolder, recipe: Recipe, shard: int, captions: Marker) -> ShardCaptions:
        """Read them from ``captions/``."""
        end = (shard + 1) * recipe.run.shard_size
        is_cut = recipe.limit is not None and recipe.limit < end
        name = captions.file("captions")
        if name is None:
            return cls({}, is_cut)
        table = run.read_table(name, ["id", "text"])
        texts = zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
        return cls(dict(texts), is_cut)

    def has(self, id: str, image: str, shared: str) -> bool:
        """Whether an image is one of a caption of the shard, or may be of one beyond the limit.

        Args:
            id: Of the image's caption.
            image: The image's fingerprint.
            shared: What all images depend on.
        """
        if id not in self.texts:
            return self.is_cut
        return candidate_fingerprint(shared, id, self.texts[id]) == image


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
