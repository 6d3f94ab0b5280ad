"""The captions of a shard, from which its images are generated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from synthvlm.data import fingerprint
from synthvlm.selectors.quotas import NONE, QuotaSettings, bin_names
from synthvlm.stages.fingerprints import candidate_fingerprint
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.selection_columns import concepts_of

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "STAGE",
    "WHOLE",
    "CaptionQuotas",
    "ShardCaptions",
    "TakenCaptions",
    "place_of",
    "prompts_of",
    "read_prompts",
    "rows_taken",
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
class CaptionQuotas:
    """Of which quota of a selection a caption is.

    Attributes:
        field: ``source``, ``concept`` or a rule; None: all captions are of one quota.
        edges: Between the bins of a rule's measure.
        concepts: Of which a caption has the first that it mentions.
    """

    field: str | None = None
    edges: tuple[float, ...] = ()
    concepts: tuple[str, ...] = ()

    @classmethod
    def of(cls, recipe: Recipe) -> CaptionQuotas:
        """The quotas of a recipe's selection."""
        settings = recipe.selection.selector
        if not isinstance(settings, QuotaSettings) or settings.field is None:
            return cls()
        edges = tuple(settings.bins) if isinstance(settings.bins, list) else ()
        concepts = recipe.curation.concepts
        return cls(settings.field, edges, () if concepts is None else tuple(concepts.concepts))

    @property
    def columns(self) -> list[str]:
        """The columns of ``captions/`` that are read."""
        names = [] if self.field is None else ["text" if self.field == "concept" else self.field]
        return list(dict.fromkeys(["id", "text", "kept", *names]))

    def names(self, captions: pa.Table) -> list[str]:
        """The quota of each of some rows of ``captions/``."""
        if self.field is None:
            return [WHOLE] * len(captions)
        if self.field == "concept":
            concepts = concepts_of(captions["text"], self.concepts).to_pylist()
            return [NONE if concept is None else concept for concept in concepts]
        values: list[Any] = captions[self.field].to_pylist()
        if self.field == "source":
            return values
        bins = bin_names(self.edges)
        return [NONE if v is None else bins[bisect_right(self.edges, v)] for v in values]


@dataclass(frozen=True, slots=True)
class TakenCaptions:
    """The captions of which a run with a target generates images: the first of a random order.

    Attributes:
        seed: Of the run, which determines the order.
        ends: The place of the last caption taken of each quota, see ``place_of``.
        quotas: Of which quota a caption is.
    """

    seed: int
    ends: Mapping[str, str]
    quotas: CaptionQuotas = CaptionQuotas()

    def of(self, shard: int, captions: pa.Table) -> list[bool]:
        """Which of some rows of ``captions/`` of a shard are among them."""
        named = zip(captions["id"].to_pylist(), self.quotas.names(captions), strict=True)
        return [self.includes(shard, id, quota) for id, quota in named]

    def reaches(self, shard: int) -> bool:
        """Whether captions of a shard may be among them: whole shards lie beyond the last one."""
        # The beginning of all places of the shard, which sorts before each of them.
        return fingerprint("target", self.seed, shard) <= max(self.ends.values(), default="")

    def includes(self, shard: int, caption_id: str, quota: str) -> bool:
        """Whether a caption is among them."""
        return place_of(self.seed, shard, caption_id) <= self.ends.get(quota, "")

    def joined(self, other: TakenCaptions) -> TakenCaptions:
        """What either of them has; both must be of one order."""
        quotas = {*self.ends, *other.ends}
        ends = {q: max(self.ends.get(q, ""), other.ends.get(q, "")) for q in quotas}
        return replace(self, ends=ends)


def taken_captions(recipe: Recipe, target: Marker | None) -> TakenCaptions | None:
    """The captions that a run has taken so far; None where the recipe has no target.

    Args:
        recipe: The recipe.
        target: The marker of the stage target, current or not.
    """
    if recipe.target is None:
        return None
    ends = {} if target is None else target.facts["ends"]
    return TakenCaptions(recipe.seed, ends, CaptionQuotas.of(recipe))


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
    if name is None or (taken is not None and not taken.reaches(shard)):
        return []
    columns = ["id", "text", "kept"] if taken is None else taken.quotas.columns
    return prompts_of(shard, run.read_table(name, columns), shared, taken)


def prompts_of(
    shard: int, captions: pa.Table, shared: str, taken: TakenCaptions | None = None
) -> list[Prompt]:
    """As ``read_prompts``, of the rows of ``captions/``."""
    return [
        Prompt(row["id"], row["text"], candidate_fingerprint(shared, row["id"], row["text"]))
        for row in rows_taken(shard, captions, taken).select(["id", "text"]).to_pylist()
    ]


def rows_taken(shard: int, captions: pa.Table, taken: TakenCaptions | None) -> pa.Table:
    """The rows of ``captions/`` that are kept and, where not all count, taken."""
    captions = captions.filter(captions["kept"])
    if taken is None:
        return captions
    return captions.filter(pa.array(taken.of(shard, captions), pa.bool_()))
