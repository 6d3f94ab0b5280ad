"""What the files of a run weigh, from those of a trial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from synthvlm.estimates import Estimate, combine, mean_interval
from synthvlm.run_folder.folder import table_bytes
from synthvlm.stages.data_set_folder import CARD_FILE, FOLDER
from synthvlm.stages.export import PARTS_FOLDER
from synthvlm.stages.selected_pairs import SELECTION_FILE

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["FileSizes", "rows_of"]

_REPORT = "report"
#: What a pair has beside its image, in files that grow with the pairs, depends on the length of its
#: caption and on how well a larger file is compressed: shares of what it has in the trial.
_BESIDE = Estimate(0.9, 0.6, 1.2)
#: Likewise of the copy of an image in the data set: Parquet compresses small images together.
_COPIED = Estimate(0.95, 0.8, 1.05)
#: The report of a run shows what a trial may have none of, such as rejected captions and losers.
_MORE_REPORT = 2.0


@dataclass(frozen=True, slots=True)
class FileSizes:
    """Bytes in a run folder.

    Attributes:
        shard: Of the files, markers and events of a shard, whatever they hold.
        caption: Of an input caption, in ``measures/`` and ``captions/``.
        candidate: Of a candidate, in ``candidates/``.
        pair: Of a pair beside its image, in ``pairs/``.
        image: Of an encoded image.
        previews: Of ``previews/`` in the trial.
        selected: Of a selected pair in ``selection.parquet`` and ``export-parts/``.
        copies: Of each image of a selected pair in ``dataset/``.
        exported: Of a selected pair in ``dataset/`` beside its images, in all formats.
        part: Of a Parquet file of the data set, whatever it holds.
        card: Of the data-set card.
        report: Of the report on ``pairs`` pairs.
        pairs: Of the trial.
    """

    shard: float
    caption: float
    candidate: float
    pair: float
    image: Estimate
    previews: int
    selected: float
    copies: float
    exported: float
    part: float
    card: int
    report: int
    pairs: int

    @classmethod
    def of(cls, generated: RunFolder, curated: RunFolder, formats: int) -> FileSizes:
        """Weigh the files of a trial; at least one pair must be selected.

        Args:
            generated: A whole run.
            curated: A run up to curation.
            formats: Of the data set.
        """
        pairs = rows_of(generated, "generate", "pairs")
        measured = _table_size(rows_of(curated, "measure", "measures"))
        judged = _table_size(rows_of(curated, "curate", "captions"))
        candidates = _table_size(rows_of(generated, "generate", "candidates"))
        paired = _table_size(pairs.drop_columns(["image"]))
        images = dict(zip(*(pairs[n].to_pylist() for n in ("caption_id", "image")), strict=True))
        sizes = [len(image) for image in images.values()]
        selection = generated.read_table(SELECTION_FILE)
        selected = [len(images[id]) for id in selection["caption_id"].to_pylist()]
        tables = sum(table.file for table in (measured, judged, candidates, paired))
        records = _weight(generated, "done") + _weight(generated, "events")
        card = generated.listing(FOLDER)[f"{FOLDER}/{CARD_FILE}"]
        files = [name for name in generated.listing(FOLDER) if name.endswith(".parquet")]
        part = sum(_table_size(_without_image(generated.read_table(name))).file for name in files)
        exported = _weight(generated, FOLDER) - card - part
        copies = min(float(formats), exported / sum(selected))
        return cls(
            shard=tables + records / len(generated.markers("generate")),
            caption=measured.row + judged.row,
            candidate=candidates.row,
            pair=paired.row,
            image=mean_interval(sizes),
            previews=_weight(generated, "previews"),
            selected=_table_size(selection).row + _weight(generated, PARTS_FOLDER) / len(selected),
            copies=copies,
            exported=(exported - copies * sum(selected)) / len(selected),
            part=part / max(1, len(files)),
            card=card,
            report=_weight(generated, _REPORT),
            pairs=len(images),
        )

    def of_run(self, recipe: Recipe, captions: int, pairs: Estimate) -> Estimate:
        """Bytes of the run folder without the data set.

        Args:
            recipe: The recipe of the run.
            captions: That are read.
            pairs: How many there will be.
        """
        shards = math.ceil(captions / recipe.run.shard_size)
        fixed = captions * self.caption + shards * self.shard + self.card
        each = self.pair + recipe.generation.candidates * self.candidate
        tables = combine(lambda n, image: fixed + n * (each + image), pairs, self.image)
        selected = combine(
            lambda n, share: _selected(recipe, n) * self.selected * share, pairs, _BESIDE
        )
        others = self._of_previews(recipe, shards, pairs), self._of_report(recipe, pairs)
        return combine(lambda *parts: sum(parts), tables, selected, *others)

    def of_data_set(self, recipe: Recipe, pairs: Estimate) -> Estimate:
        """Bytes of ``dataset/``; arguments as of ``of_run``."""

        def size(n: float, image: float, share: float, copied: float) -> float:
            count = _selected(recipe, n)
            parts = math.ceil(count / recipe.export.images_per_folder) * self.part
            each = copied * self.copies * image + share * self.exported
            return self.card + parts + count * each

        return combine(size, pairs, self.image, _BESIDE, _COPIED)

    def _of_previews(self, recipe: Recipe, shards: int, pairs: Estimate) -> Estimate:
        """Bytes of the thumbnails of losers: of a share of captions, each at most an image."""
        share, losers = recipe.report.preview_share, recipe.generation.candidates - 1
        if not share or not losers:
            return Estimate.exact(0.0)
        captions = share * (pairs.high or pairs.value)
        most = captions + 2 * math.sqrt(captions) + 1
        image = self.image.high or self.image.value
        high = shards * self.previews + most * losers * image
        return Estimate(high / 2, 0.0, high)

    def _of_report(self, recipe: Recipe, pairs: Estimate) -> Estimate:
        """Bytes of the report, whose gallery ends at a number of pairs."""
        most = max(1, recipe.report.gallery)
        growth = min(most, pairs.high or pairs.value) / min(most, self.pairs)
        value = self.report * max(1.0, growth)
        return Estimate(value, self.report * min(1.0, growth), value * _MORE_REPORT)


def _selected(recipe: Recipe, pairs: float) -> float:
    selection = recipe.selection
    if recipe.most_selected is not None:
        return min(pairs, recipe.most_selected)
    return pairs * (selection.top_fraction or 1.0)


def rows_of(run: RunFolder, stage: str, folder: str) -> pa.Table:
    """The rows of all shards of a stage; at least one must have a file there."""
    import pyarrow as pa

    names = [marker.file(folder) for _, marker in sorted(run.markers(stage).items())]
    return pa.concat_tables(run.read_table(name) for name in names if name is not None)


def _without_image(table: pa.Table) -> pa.Table:
    images = [name for name in ("image", "images") if name in table.column_names]
    return table.drop_columns(images)


def _weight(run: RunFolder, folder: str) -> int:
    return sum(run.listing(folder).values())


class _TableSize(NamedTuple):
    """Bytes of a file without rows, and of a row."""

    file: float
    row: float


def _table_size(table: pa.Table) -> _TableSize:
    """The line through the sizes of a file with one row and of one with all."""
    first, whole = len(table_bytes(table.slice(0, 1))), len(table_bytes(table))
    row = (whole - first) / (len(table) - 1) if len(table) > 1 else float(first)
    return _TableSize(first - row, row)
