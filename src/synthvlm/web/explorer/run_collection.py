"""The pairs of a run: columns from its tables, images and embeddings as they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from synthvlm.data import remark_column, scorer_of
from synthvlm.errors import RunFolderError
from synthvlm.run.shards import FINGERPRINT, IMAGE, pair_shards
from synthvlm.run_folder.marks import REASONS, Mark, Marks, add_marks, read_marks
from synthvlm.scorers import SCORERS, scorer_label
from synthvlm.selectors.quotas import NAMED, QuotaSelector, QuotaSettings
from synthvlm.stages.selection_columns import PairColumns
from synthvlm.web.explorer.columns import Column, category, flag, lines, number
from synthvlm.web.explorer.opened_run import as_opened
from synthvlm.web.explorer.run_embeddings import RunEmbeddings, embedding_scorer
from synthvlm.web.explorer.story import StoryReader, rule_label

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.web.explorer.collection import Embeddings

__all__ = ["RunCollection", "StoredImages"]

#: Bytes of encoded images that are kept: row groups, of which neighbours are asked for next.
_IMAGE_BYTES = 256 * 2**20
#: Seconds after which marks of other processes are looked for again.
_MARKS_S = 1.0


class RunCollection:
    """The pairs of a run; see ``Collection``. Rows are in the order of the input.

    Numbers and texts are in memory; images, embeddings and losers are not.
    """

    kind: Literal["run", "data set"] = "run"
    notes: Sequence[str] = ()
    not_markable = ""
    reasons: Sequence[str] = REASONS

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Read the columns of all pairs.

        Raises:
            RunFolderError: There are no pairs yet, or a file is damaged.
        """
        self._run, self._recipe = run, recipe
        self.name = run.url
        self._shards = list(pair_shards(run, recipe))
        table = self._table()
        self.ids = table["id"].combine_chunks()
        self.captions = table["caption"].combine_chunks()
        self._fingerprints = table[FINGERPRINT].combine_chunks()
        self._indexes = table["index"].to_numpy()
        self._ranks = table["rank"].combine_chunks()
        self._sizes = [table[name].to_numpy() for name in ("width", "height")]
        sizes = [shard.count() for shard in self._shards]
        self._starts = np.cumsum([0, *sizes])
        self.columns: Mapping[str, Column] = {
            column.name: column
            for column in (
                *_columns(table, recipe, self._shards[0].measures()),
                *self._quotas(table, sizes),
            )
        }
        self._images = StoredImages(run, [shard.image_file for shard in self._shards])
        scorer = embedding_scorer(recipe)
        self.no_embeddings = ""
        if scorer is None:
            self.no_embeddings = (
                "the run has no embeddings: they come from a scorer such as clip or siglip"
            )
        self.embeddings: Embeddings | None = None
        if scorer is not None:
            image_files = [shard.image_file for shard in self._shards]
            self.embeddings = RunEmbeddings(run, recipe, scorer, image_files)
        self._story = StoryReader(run, recipe)
        self._marks_lock = threading.Lock()
        self._marks: tuple[float, Mapping[int, Mark]] | None = None

    def _table(self) -> pa.Table:
        import pyarrow as pa

        if not any(shard.count() for shard in self._shards):
            raise RunFolderError(
                f"{self._run.url} has no pairs yet: synthvlm run --out {quote(self._run.url)}"
            )
        large = {IMAGE, "image_embedding", "text_embedding"}
        parts: list[pa.Table] = []
        for shard in self._shards:
            names = [name for name in shard.columns() if name not in large]
            parts += shard.parts([*names, FINGERPRINT])
        return pa.concat_tables(parts, promote_options="default")

    def _quotas(self, table: pa.Table, sizes: Sequence[int]) -> Iterator[Column]:
        """The quota of each pair, where the recipe names or bounds them.

        Quantiles and clusters are of the pairs that were to be selected from: those are not known
        any more, so there is no column.
        """
        import pyarrow as pa

        settings = self._recipe.selection.selector
        if not isinstance(settings, QuotaSettings) or settings.field is None:
            return
        if settings.field not in NAMED and not isinstance(settings.bins, list):
            return
        shards = np.repeat([shard.number for shard in self._shards], sizes)
        pairs = table.select([name for name in table.column_names if name != "caption"])
        pairs = pairs.append_column("caption_id", table["id"])
        pairs = pairs.append_column("shard", pa.array(shards, pa.int32()))
        captions = {shard.number: shard.captions for shard in self._shards}
        generated = {shard.number: shard.generated for shard in self._shards}
        reader = PairColumns(self._run, self._recipe, captions, generated)
        selector = QuotaSelector(**settings.model_dump())
        names, group = selector.groups(reader.joined(pairs, [settings.field]))
        yield Column(
            "quota", f"Quota ({settings.field})", "category", group.astype(np.int32), names
        )

    def image(self, row: int) -> bytes:
        """See ``Collection``."""
        shard, place = self._place(row)
        with self._as_opened(shard):
            return self._images.read(shard, place)

    def expect(self, rows: Sequence[int]) -> None:
        """See ``Collection``: those of a run are read fast enough one by one."""

    def candidate_image(self, row: int, index: int) -> bytes | None:
        """See ``Collection``: of the winner its image, of others a thumbnail of some captions."""
        if index == self._indexes[row]:
            return self.image(row)
        shard, _ = self._place(row)
        with self._as_opened(shard):
            return self._story.thumbnail(self._shards[shard], self._id(row), index)

    def story(self, row: int) -> dict[str, Any]:
        """See ``Collection``."""
        shard, _ = self._place(row)
        width, height = (int(sizes[row]) for sizes in self._sizes)
        rank = self._ranks[row].as_py()
        with self._as_opened(shard):
            story = self._story.read(
                self._shards[shard], self._id(row), rank, is_marked=row in self.marks()
            )
        return {"width": width, "height": height, **story}

    def _as_opened(self, shard: int) -> AbstractContextManager[None]:
        return as_opened(self._run, [self._shards[shard].image_file])

    def _id(self, row: int) -> str:
        id: str = self.ids[row].as_py()
        return id

    def _place(self, row: int) -> tuple[int, int]:
        """Number of the shard among those that have pairs, and the place of the row in it."""
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return shard, int(row - self._starts[shard])

    def marks(self) -> Mapping[int, Mark]:
        """See ``Collection``; those of other processes come with a delay of a second."""
        with self._marks_lock:
            if self._marks is None or time.monotonic() - self._marks[0] > _MARKS_S:
                self._marks = time.monotonic(), self._by_row(read_marks(self._run))
            return self._marks[1]

    def _by_row(self, marks: Marks) -> Mapping[int, Mark]:
        by_row = {}
        for image, mark in marks.items():
            row = self._rows.get(image.caption_id)
            if row is not None and self._fingerprints[row].as_py() == image.fingerprint:
                by_row[row] = mark
        return by_row

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {id: row for row, id in enumerate(self.ids.to_pylist())}

    def mark(self, rows: Sequence[int], reason: str, note: str) -> int:
        """See ``Collection``; the mark of a caption's earlier image is left alone."""
        present = self.marks()
        if not reason:
            rows = [row for row in rows if row in present]
        marks = [
            Mark(
                self._id(row),
                int(self._indexes[row]),
                self._fingerprints[row].as_py(),
                reason,
                note,
            )
            for row in dict.fromkeys(rows)
        ]
        add_marks(self._run, marks)
        with self._marks_lock:
            self._marks = None
        return len(marks)


class StoredImages:
    """Encoded images by file and place: row groups are kept, those used last, up to a limit."""

    def __init__(self, run: RunFolder, files: Sequence[str]) -> None:
        """Take the names of files of ``pairs/``; nothing is read yet."""
        self._run, self._files = run, files
        self._groups: dict[int, npt.NDArray[np.int64]] = {}
        self._kept: dict[tuple[int, int], pa.Array] = {}
        self._lock = threading.Lock()
        self._reading: dict[tuple[int, int], threading.Lock] = {}

    def read(self, file: int, place: int) -> bytes:
        """The encoded image of a row of a file.

        Raises:
            RunFolderError: The file is damaged.
        """
        with self._lock:
            if file not in self._groups:
                sizes = self._run.row_group_sizes(self._files[file])
                self._groups[file] = np.cumsum([0, *sizes])
            starts = self._groups[file]
            group = int(np.searchsorted(starts, place, side="right")) - 1
            reading = self._reading.setdefault((file, group), threading.Lock())
        with reading:  # of several that want the same row group, one reads it
            images = self._row_group(file, group)
        data: bytes = images[place - int(starts[group])].as_py()
        return data

    def _row_group(self, file: int, group: int) -> pa.Array:
        with self._lock:
            images = self._kept.pop((file, group), None)
            if images is not None:
                self._kept[file, group] = images
                return images
        table = self._run.row_group(self._files[file], group, [IMAGE])
        images = table[IMAGE].combine_chunks()
        with self._lock:
            self._kept[file, group] = images
            total = sum(group.nbytes for group in self._kept.values())
            for key in list(self._kept)[:-1]:
                if total <= _IMAGE_BYTES:
                    break
                total -= self._kept.pop(key).nbytes
        return images


def _columns(table: pa.Table, recipe: Recipe, measures: Sequence[str]) -> Iterator[Column]:
    """In the order of pages; those without any value are left out."""
    ranks = number("rank", "Rank", table["rank"], "Place in the selection, 1 is best.")
    yield flag("selected", "Selected", ~ranks.missing)
    yield category("source", "Source", table["source"])
    numbers = [
        *(
            number(name, _score_label(name, recipe), table[name], _about(name))
            for name in recipe.score_columns
        ),
        ranks,
    ]
    yield from _with_values(numbers)
    for name in recipe.scorers_with_remarks:
        yield from _remarks(name, table[remark_column(name)])
    numbers = [
        number(name, rule_label(name), table[name], "Measure of the caption by this rule.")
        for name in measures
    ]
    numbers.append(number("index", "Candidate", table["index"], "Number of the winner."))
    yield from _with_values(numbers)


def _with_values(columns: Sequence[Column]) -> Iterator[Column]:
    return (column for column in columns if not column.missing.all())


def _score_label(column: str, recipe: Recipe) -> str:
    scorer = scorer_of(column)
    return "Score" if scorer is None else scorer_label(scorer, recipe.scorers[scorer])


def _about(column: str) -> str:
    scorer = scorer_of(column)
    return "The weighted sum of the scores." if scorer is None else SCORERS[scorer].about


def _remarks(scorer: str, remarks: pa.ChunkedArray) -> Iterator[Column]:
    """The remarks of a scorer, a value for each line, and how many there are."""
    label = SCORERS.label(scorer)
    column = lines(
        remark_column(scorer),
        f"{label}: failed",
        remarks,
        "Questions that were not answered by yes, or what else the scorer says.",
    )
    counts = (column.values >= 0).astype(np.float64)
    assert column.further is not None
    np.add.at(counts, column.further[0], 1)
    yield column
    yield Column(f"{scorer}_failed", f"{label}: how many failed", "number", counts)
