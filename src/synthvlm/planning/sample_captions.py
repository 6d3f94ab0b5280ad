"""Captions for a trial: a sample curated by the recipe's rules, and a recipe of what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synthvlm.captions.rules import METHOD_RULES
from synthvlm.errors import RecipeError
from synthvlm.pipeline import Pipeline
from synthvlm.recipe.curation import CurationSettings
from synthvlm.recipe.sources import SourceSettings
from synthvlm.run_folder.folder import table_bytes
from synthvlm.stages.curation.curate import reasons_in_order, totals
from synthvlm.stages.curation.resources import OriginalImages
from synthvlm.stages.curation.rules import looks_at_images, model_rules_on

if TYPE_CHECKING:
    from synthvlm.data import Caption
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["CURATION", "Curated", "Kept", "curate", "recipe_for"]

#: The run folder of curation, inside the folder of the trial.
CURATION = "curation"
#: Captions of a shard: small, so that the first, which loads models, can be told apart.
_SHARD = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """A caption that curation kept: its id and its normalised text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Curated:
    """What curation made of a sample.

    Attributes:
        kept: The captions kept, in the order of their hashes.
        counts: Of ``stages.curate.totals``: captions, kept, and rejections by reason.
    """

    kept: Sequence[Kept]
    counts: Mapping[str, int]

    def refuse_none(self) -> None:
        """Check that a caption is left.

        Raises:
            RecipeError: None is.
        """
        if self.kept:
            return
        counts = {
            reason: self.counts[reason]
            for reason in reasons_in_order(self.counts)
            if reason not in ("captions", "kept")
        }
        worst = max(counts, key=lambda reason: counts[reason])
        raise RecipeError(
            f"curation keeps none of {self.counts['captions']:,} sampled captions "
            f"({counts[worst]:,} fail {worst}): loosen the rules; `synthvlm curate` shows what "
            f"each of them rejects"
        )


def curate(
    recipe: Recipe, captions: Sequence[Caption], home: RunFolder, progress: Progress
) -> Curated:
    """Curate captions by the recipe's rules, in ``CURATION`` inside a folder.

    Near-duplicates, the alignment round and concepts are left out: they look at the whole data set.

    Args:
        recipe: With the rules.
        captions: Of ``Pool.sample``.
        home: The folder of the trial.
        progress: Shows the stages.
    """
    whole_set = {"near_duplicates": None, "alignment": None, "concepts": None}
    rules = recipe.model_copy(update={"curation": recipe.curation.model_copy(update=whole_set)})
    columns: dict[str, list[object]] = {
        "id": [caption.id for caption in captions],
        "caption": [caption.text_raw for caption in captions],
    }
    if any(map(looks_at_images, model_rules_on(rules))):
        columns["image"] = list(_images(recipe, captions))
    source = _write(home, "sample.parquet", columns)
    run = recipe.run.model_copy(update={"shard_size": _SHARD})
    changed = rules.model_copy(update={"sources": [source], "limit": None, "run": run})
    pipeline = Pipeline(changed, home.path(CURATION), progress=progress)
    pipeline.run("curate")
    markers = pipeline.folder.markers("curate")
    files = [markers[shard].file("captions") for shard in sorted(markers)]
    tables = [pipeline.folder.read_table(file, ["id", "text", "kept"]) for file in files if file]
    rows = (row for table in tables for row in table.to_pylist())
    kept = [Kept(row["id"], row["text"]) for row in rows if row["kept"]]
    return Curated(kept, totals(markers))


def recipe_for(
    recipe: Recipe, kept: Sequence[Kept], home: RunFolder, *, shard_size: int | None = None
) -> Recipe:
    """The recipe with kept captions as its only source, and nothing left to curate.

    Ids stay, and with them the seeds. Failing images do not stop it: how many fail is a result.

    Args:
        recipe: The recipe.
        kept: Of ``curate``.
        home: The folder of the trial; the captions are written into it.
        shard_size: Captions of a shard; None for the recipe's.
    """
    columns: dict[str, list[object]] = {
        "id": [one.id for one in kept],
        "caption": [one.text for one in kept],
    }
    nothing = CurationSettings(
        fix_unicode=False,
        normalize_punctuation=False,
        rules=dict.fromkeys(METHOD_RULES),
        deduplicate=False,
    )
    size = recipe.run.shard_size if shard_size is None else shard_size
    return recipe.model_copy(
        update={
            "sources": [_write(home, "kept.parquet", columns)],
            "limit": None,
            "curation": nothing,
            "run": recipe.run.model_copy(update={"shard_size": size, "max_failed_share": 1.0}),
        }
    )


def _images(recipe: Recipe, captions: Sequence[Caption]) -> Iterator[bytes | None]:
    """The original image of each caption; an empty one, a problem anew, where it has a problem."""
    places = sorted({(caption.source, caption.row) for caption in captions})
    images = dict(zip(places, OriginalImages(recipe).of(places), strict=True))
    for caption in captions:
        image = images[caption.source, caption.row]
        yield b"" if image.problem is not None else image.data


def _write(home: RunFolder, name: str, columns: Mapping[str, list[object]]) -> SourceSettings:
    import pyarrow as pa

    kinds = {"id": pa.string(), "caption": pa.string(), "image": pa.binary()}
    table = pa.table({key: pa.array(cells, kinds[key]) for key, cells in columns.items()})
    home.write(name, table_bytes(table))
    field = "image" if "image" in columns else None
    return SourceSettings(path=home.path(name), name="sample", format="parquet", image_field=field)
