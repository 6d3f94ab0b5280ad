"""Captions for a trial: the sources counted and sampled, the sample curated, and what is kept.

Everything is chosen by hash, so that a smaller sample is the beginning of a larger one.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from synthvlm.captions.rules import METHOD_RULES
from synthvlm.data import fingerprint
from synthvlm.errors import CaptionSourceError, RecipeError
from synthvlm.pipeline import Pipeline
from synthvlm.recipe import source_name
from synthvlm.recipe.curation import CurationSettings
from synthvlm.recipe.sources import SourceSettings
from synthvlm.run_folder.folder import PIPED, table_bytes
from synthvlm.stages.curation.curate import reasons_in_order, totals
from synthvlm.stages.curation.losses import Losses
from synthvlm.stages.curation.resources import (
    OriginalImages,
    is_written,
    limited_captions,
    normalizer,
    source_captions,
)
from synthvlm.stages.curation.rules import looks_at_images, model_rules_on

if TYPE_CHECKING:
    from synthvlm.data import Caption
    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = [
    "CURATION",
    "TERMS_CHECKED",
    "WHOLE_SET",
    "CaptionPool",
    "CuratedSample",
    "KeptCaption",
    "curate_sample",
    "read_pool",
    "recipe_for",
    "sample_sources",
]

#: Captions between two updates of the progress.
_PROGRESS_STEP = 1000
#: A trial makes no data set, and its recipe lacks what it leaves out: terms are checked before it.
TERMS_CHECKED = {"intended_use": "unspecified", "acknowledge_terms": [], "model_terms": {}}
#: Steps of curation that look at the whole data set, of which a sample shows nothing.
WHOLE_SET = ("near_duplicates", "alignment", "concepts")
#: The run folder of curation, inside the folder of the trial.
CURATION = "curation"
#: Captions of a shard: small, so that the first, which loads models, can be told apart.
_SHARD_SIZE = 100


@dataclass(frozen=True, slots=True)
class CaptionPool:
    """The captions of a recipe's sources, counted, and a sample of them.

    Attributes:
        read: Captions read.
        losses: What could not be read.
        distinct: Readable captions; equal texts count once where the recipe removes duplicates.
        sample: Those of them with the smallest hashes, in the order of the hashes, so that a
            smaller sample is the beginning of a larger one.
    """

    read: int
    losses: Losses
    distinct: int
    sample: Sequence[Caption]


def read_pool(
    recipe: Recipe, size: int, progress: Progress, seed: int | None = None
) -> CaptionPool:
    """Read all sources once, up to the limit; count their captions, and choose some by hash.

    Memory grows by 8 bytes a caption.

    Args:
        recipe: Whose sources.
        size: Captions to choose.
        progress: Shows captions counted.
        seed: Other seeds choose other captions; None chooses the same ones for all seeds.

    Raises:
        RecipeError: A model writes the captions of a source.
        CaptionSourceError: A source is missing or not what it should be.
    """
    _refuse_written(recipe)
    by_text = recipe.curation.deduplicate
    progress.start("count", recipe.limit, "captions")
    read = 0
    losses = Losses()
    hashes = array("Q")
    chosen: dict[int, Caption] = {}
    # Negative, for heapq keeps the smallest in front: the largest chosen hash is to leave first.
    largest: list[int] = []
    for caption in losses.counted(_captions(recipe, progress.note)):
        read += 1
        if read % _PROGRESS_STEP == 0:
            progress.advance(_PROGRESS_STEP)
        if caption.problem is not None:
            continue
        key = _hash(caption.text if by_text else caption.id, seed)
        hashes.append(key)
        if key in chosen or (len(largest) == size and -key < largest[0]):
            continue
        chosen[key] = caption
        heapq.heappush(largest, -key)
        if len(largest) > size:
            del chosen[-heapq.heappop(largest)]
    progress.advance(read % _PROGRESS_STEP)
    if not chosen:
        raise CaptionSourceError(
            f"none of {read:,} captions can be read; the first: {losses.first}"
        )
    distinct = len(np.unique(np.frombuffer(hashes, np.uint64))) if by_text else len(hashes)
    return CaptionPool(read, losses, distinct, [chosen[key] for key in sorted(chosen)])


def _refuse_written(recipe: Recipe) -> None:
    for source in recipe.sources:
        if is_written(source):
            raise RecipeError(
                f"a model writes the captions of source {source_name(source)!r}, and a trial does "
                f"not: write them first (`synthvlm curate ... --out RUN`), then name "
                f"--captions 'RUN/captions/*.parquet' --set sources.0.text_field=text_raw"
            )


def _captions(recipe: Recipe, say: Callable[[str], None]) -> Iterator[Caption]:
    normalize = normalizer(recipe)

    def read(source: SourceSettings, most: int | None) -> Iterator[Caption]:
        return source_captions(recipe, source, normalize, say)

    return limited_captions(recipe, read, say)


def _hash(text: str, seed: int | None) -> int:
    data = (text if seed is None else f"{seed}\n{text}").encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


@dataclass(frozen=True, slots=True)
class KeptCaption:
    """A caption that curation kept: its id and its normalised text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class CuratedSample:
    """What curation made of a sample.

    Attributes:
        kept_captions: The captions kept, in the order of their hashes.
        counts: Of ``stages.curate.totals``: captions, kept, and rejections by reason.
    """

    kept_captions: Sequence[KeptCaption]
    counts: Mapping[str, int]

    def check_not_empty(self) -> None:
        """Check that curation keeps a caption.

        Raises:
            RecipeError: It keeps none.
        """
        if self.kept_captions:
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


def curate_sample(
    recipe: Recipe, captions: Sequence[Caption], home: RunFolder, progress: Progress
) -> CuratedSample:
    """Curate captions by the recipe's rules, in ``CURATION`` inside a folder.

    Near-duplicates, the alignment round and concepts are left out: they look at the whole data set.

    Args:
        recipe: With the rules.
        captions: Of ``CaptionPool.sample``.
        home: The folder of the trial.
        progress: Shows the stages.
    """
    curation = recipe.curation.model_copy(update=dict.fromkeys(WHOLE_SET))
    rules = recipe.model_copy(update={"curation": curation})
    source = _write_source(home, "sample.parquet", _columns(rules, captions))
    run = recipe.run.model_copy(update={"shard_size": _SHARD_SIZE})
    trial = {**TERMS_CHECKED, "sources": [source], "limit": None, "run": run}
    changed = rules.model_copy(update=trial)
    pipeline = Pipeline(changed, home.path(CURATION), progress=progress)
    pipeline.run("curate")
    markers = pipeline.folder.markers("curate")
    files = [markers[shard].file("captions") for shard in sorted(markers)]
    tables = [pipeline.folder.read_table(file, ["id", "text", "kept"]) for file in files if file]
    rows = (row for table in tables for row in table.to_pylist())
    kept_captions = [KeptCaption(row["id"], row["text"]) for row in rows if row["kept"]]
    return CuratedSample(kept_captions, totals(markers))


def sample_sources(
    recipe: Recipe, captions: Sequence[Caption], home: RunFolder
) -> list[SourceSettings]:
    """Captions as the sources that a run folder holds itself, with the names of the recipe's.

    Args:
        recipe: With the rules that judge them.
        captions: Of ``CaptionPool.sample``.
        home: The run folder; it may be moved.
    """
    sources = []
    for source in recipe.sources:
        name = source_name(source)
        its_captions = [caption for caption in captions if caption.source == name]
        if its_captions:
            columns = _columns(recipe, its_captions)
            key = fingerprint(name, columns["id"], columns["caption"])[:16]
            sources.append(_write_source(home, f"{PIPED}/{key}.parquet", columns, name))
    return sources


def _columns(rules: Recipe, captions: Sequence[Caption]) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {
        "id": [caption.id for caption in captions],
        "caption": [caption.text_raw for caption in captions],
    }
    if any(map(looks_at_images, model_rules_on(rules))):
        columns["image"] = list(_original_images(rules, captions))
    return columns


def recipe_for(
    recipe: Recipe,
    kept_captions: Sequence[KeptCaption],
    home: RunFolder,
    *,
    shard_size: int | None = None,
) -> Recipe:
    """The recipe with kept captions as its only source, and nothing left to curate.

    Ids stay, and with them the seeds. Failing images do not stop it: how many fail is a result.

    Args:
        recipe: The recipe.
        kept_captions: Of ``curate_sample``.
        home: The folder of the trial; the captions are written into it.
        shard_size: Captions of a shard; None for the recipe's.
    """
    columns: dict[str, list[object]] = {
        "id": [caption.id for caption in kept_captions],
        "caption": [caption.text for caption in kept_captions],
    }
    no_curation = CurationSettings(
        fix_unicode=False,
        normalize_punctuation=False,
        rules=dict.fromkeys(METHOD_RULES),
        deduplicate=False,
    )
    size = recipe.run.shard_size if shard_size is None else shard_size
    return recipe.model_copy(
        update={
            **TERMS_CHECKED,
            "sources": [_write_source(home, "kept.parquet", columns)],
            "limit": None,
            "curation": no_curation,
            "run": recipe.run.model_copy(update={"shard_size": size, "max_failed_share": 1.0}),
        }
    )


def _original_images(recipe: Recipe, captions: Sequence[Caption]) -> Iterator[bytes | None]:
    """The original image of each caption; empty bytes, again a problem, where it has one."""
    places = sorted({(caption.source, caption.row) for caption in captions})
    images = dict(zip(places, OriginalImages(recipe).of(places), strict=True))
    for caption in captions:
        image = images[caption.source, caption.row]
        yield b"" if image.problem is not None else image.data


def _write_source(
    home: RunFolder, file: str, columns: Mapping[str, list[object]], name: str = "sample"
) -> SourceSettings:
    import pyarrow as pa

    kinds = {"id": pa.string(), "caption": pa.string(), "image": pa.binary()}
    table = pa.table({key: pa.array(cells, kinds[key]) for key, cells in columns.items()})
    home.write(file, table_bytes(table))
    field = "image" if "image" in columns else None
    return SourceSettings(path=home.path(file), name=name, format="parquet", image_field=field)
