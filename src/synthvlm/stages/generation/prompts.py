"""The captions of a shard, from which its images are generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.data import fingerprint
from synthvlm.stages.fingerprints import candidate_fingerprint
from synthvlm.stages.generation.requests import Prompt

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "STAGE",
    "WHOLE",
    "ShardCaptions",
    "TakenCaptions",
    "place_of",
    "prompts_of",
    "read_prompts",
    "taken_captions",
]

STAGE = "generate"
#: The quota of all captions, where the selection has no quotas.
WHOLE = ""


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


@dataclass(frozen=True, slots=True)
class TakenCaptions:
    """The captions of which a run with a target generates images: the first of a random order.

    Attributes:
        seed: Of the run, which determines the order.
        ends: The place of the last caption taken of each quota, see ``place_of``.
    """

    seed: int
    ends: Mapping[str, str]

    def includes(self, shard: int, caption_id: str, quota: str = WHOLE) -> bool:
        """Whether a caption is among them."""
        return place_of(self.seed, shard, caption_id) <= self.ends.get(quota, "")

    def joined(self, other: TakenCaptions) -> TakenCaptions:
        """What either of them has; both must be of one order."""
        quotas = {*self.ends, *other.ends}
        ends = {q: max(self.ends.get(q, ""), other.ends.get(q, "")) for q in quotas}
        return TakenCaptions(self.seed, ends)


def taken_captions(recipe: Recipe, target: Marker | None) -> TakenCaptions | None:
    """The captions that a run has taken so far; None where the recipe has no target.

    Args:
        recipe: The recipe.
        target: The marker of the stage target, current or not.
    """
    if recipe.target is None:
        return None
    return TakenCaptions(recipe.seed, {} if target is None else target.facts["ends"])


def place_of(seed: int, shard: int, caption_id: str) -> str:
    """The place of a caption in the order in which captions are taken: a string that sorts.

    Shards come in random order, and the captions of a shard in random order: so a round adds
    captions to few shards, and most shards are written once.
    """
    return fingerprint("target", seed, shard) + fingerprint("target", seed, caption_id)


def read_prompts(
    run: RunFolder,
    shard: int,
    captions: Marker,
    shared: str,
    taken: TakenCaptions | None = None,
) -> list[Prompt]:
    """The kept captions of a shard, in order.

    Args:
        run: The run folder.
        shard: Its number.
        captions: Its marker of the stage curate.
        shared: What all images depend on.
        taken: Of a run with a target, the captions that count; None: all do.
    """
    name = captions.file("captions")
    if name is None:
        return []
    return prompts_of(shard, run.read_table(name, ["id", "text", "kept"]), shared, taken)


def prompts_of(
    shard: int, captions: pa.Table, shared: str, taken: TakenCaptions | None = None
) -> list[Prompt]:
    """As ``read_prompts``, of the rows of ``captions/``."""
    return [
        Prompt(row["id"], row["text"], candidate_fingerprint(shared, row["id"], row["text"]))
        for row in captions.select(["id", "text", "kept"]).to_pylist()
        if row["kept"] and (taken is None or taken.includes(shard, row["id"]))
    ]
