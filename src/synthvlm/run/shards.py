"""What the tables of a run are read from: the finished shards of its stages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from synthvlm.data import caption_schema, remark_column, selection_schema
from synthvlm.report.pairs import join_selection
from synthvlm.selectors.selection import by_shard
from synthvlm.stages.current import present_shards

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = [
    "FINGERPRINT",
    "IMAGE",
    "LARGE",
    "PairShard",
    "Shard",
    "candidate_shards",
    "caption_shards",
    "pair_shards",
]

IMAGE = "image"
#: Columns that are read only where they are named: those of a large run do not fit into memory.
LARGE = (IMAGE, "image_embedding", "text_embedding")
#: What the image of a pair depends on: read where it is named, and not among the columns.
FINGERPRINT = "fingerprint"
#: What ``pairs/`` says of an image.
_OF_IMAGES = ("format", "width", "height")


class Shard(Protocol):
    """A finished shard of a table."""

    @property
    def number(self) -> int:
        """Its number in the run."""

    def columns(self) -> list[str]:
        """Names of its columns."""

    def count(self) -> int:
        """The number of its rows."""

    def parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Some of its columns, in pieces that fit into memory.

        Raises:
            RunFolderError: A file is damaged.
        """

    def rows(self, places: Iterable[int]) -> list[dict[str, Any]]:
        """Some of its rows, with encoded images and without embeddings; places are ascending.

        Raises:
            RunFolderError: A file is damaged.
        """


def caption_shards(run: RunFolder) -> Sequence[Shard]:
    """The captions that are read, with their measures and verdicts: a row for each."""
    return _stored(run, run.markers("curate"), "captions")


def candidate_shards(run: RunFolder) -> Sequence[Shard]:
    """The candidates with their scores: a row for each, the losers too."""
    return _stored(run, _generated(run, run.markers("curate")), "candidates")


def pair_shards(run: RunFolder, recipe: Recipe) -> Sequence[PairShard]:
    """The pairs: the winner of each caption with its text, scores, rank and image."""
    captions = run.markers("curate")
    selection = _Selection(run)
    return [
        PairShard(run, recipe, selection, shard, captions[shard], marker)
        for shard, marker in _generated(run, captions).items()
        if marker.file("pairs") is not None
    ]


def _generated(run: RunFolder, captions: Mapping[int, Marker]) -> Mapping[int, Marker]:
    return present_shards(captions, run.markers("generate"), ())


def _stored(run: RunFolder, markers: Mapping[int, Marker], folder: str) -> Sequence[Shard]:
    names = {number: marker.file(folder) for number, marker in sorted(markers.items())}
    return [_StoredShard(run, n, name) for n, name in names.items() if name is not None]


@dataclass(frozen=True, slots=True)
class _StoredShard:
    """A file of a run folder as it is."""

    run: RunFolder
    number: int
    name: str

    def columns(self) -> list[str]:
        return self.run.columns(self.name)

    def count(self) -> int:
        return len(self.run.read_table(self.name, self.columns()[:1]))

    def parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        yield self.run.read_table(self.name, columns)

    def rows(self, places: Iterable[int]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.run.read_table(self.name).take(list(places)).to_pylist()
        return rows


class _Selection:
    """The selection, cut into shards when it is first asked for."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def of(self, shard: int) -> pa.Table:
        """The selected pairs of a shard."""
        return self._by_shard.get(shard, selection_schema([]).empty_table())

    @cached_property
    def _by_shard(self) -> dict[int, pa.Table]:
        marker = self._run.marker("select", 0)
        if marker is None:
            return {}
        columns = ["rank", "caption_id", "index", "score", "shard"]
        return dict(by_shard(self._run.read_table(marker.files[0].path, columns)))


@dataclass(frozen=True, slots=True)
class PairShard:
    """The winners of a shard, put together from three of its tables and the selection."""

    run: RunFolder
    recipe: Recipe
    selection: _Selection
    number: int
    captions: Marker
    generated: Marker

    def columns(self) -> list[str]:
        """See ``Shard``."""
        texts = ["id", "caption", "source", *self.measures()]
        return [*texts, "rank", *self._scored(), *_OF_IMAGES, *LARGE]

    def measures(self) -> list[str]:
        """The rules that measured its captions; each has a column."""
        known = caption_schema().names
        return [name for name in self.run.columns(self._file("captions")) if name not in known]

    @property
    def image_file(self) -> str:
        """Name of the file with its images and embeddings, in the order of its rows."""
        return self._file("pairs")

    def count(self) -> int:
        """See ``Shard``."""
        return len(self._table("pairs", ["caption_id"]))

    def parts(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """See ``Shard``."""
        rows = self._rows(set(columns))
        large = [name for name in LARGE if name in columns]
        if not large:
            yield rows.select(list(columns))
            return
        start = 0
        for group in self.run.row_groups(self.image_file, large):
            part = rows.slice(start, len(group))
            for column in large:
                part = part.append_column(column, group[column])
            yield part.select(list(columns))
            start += len(group)

    def rows(self, places: Iterable[int]) -> list[dict[str, Any]]:
        """See ``Shard``."""
        columns = [name for name in self.columns() if name not in LARGE]
        rows: list[dict[str, Any]]
        rows = self._rows(set(columns)).select(columns).take(list(places)).to_pylist()
        stored = self.run.iter_rows(self.image_file, "caption_id", {row["id"] for row in rows})
        return [{**row, IMAGE: pair[IMAGE]} for row, pair in zip(rows, stored, strict=True)]

    def _rows(self, columns: set[str]) -> pa.Table:
        """All but the large columns, in the order of ``pairs/``; only some have to be there."""
        rows = self._table("pairs", ["caption_id", *_OF_IMAGES])
        ids = rows["caption_id"]
        rows = rows.rename_columns(["id", *_OF_IMAGES])
        measures = [name for name in self.measures() if name in columns]
        if columns & {"caption", "source", *measures}:
            texts = self._table("captions", ["id", "text", "source", *measures])
            texts = _joined(texts, "id", ids)
            rows = rows.append_column("caption", texts["text"])
            for name in ("source", *measures):
                rows = rows.append_column(name, texts[name])
        of_winners = [*self._scored(), *({FINGERPRINT} & columns)]
        if columns & {"rank", *of_winners}:
            candidates = self._table("candidates", ["caption_id", *of_winners, "chosen"])
            winners = _joined(candidates.filter(candidates["chosen"]), "caption_id", ids)
            winners, _ = join_selection(winners, self.selection.of(self.number))
            for name in ("rank", *of_winners):
                rows = rows.append_column(name, winners[name])
        return rows

    def _scored(self) -> list[str]:
        """The columns of ``candidates/`` that tell of a pair."""
        remarks = map(remark_column, self.recipe.scorers_with_remarks)
        return [*self.recipe.score_columns, *remarks, "seed", "index"]

    def _table(self, folder: str, columns: list[str]) -> pa.Table:
        return self.run.read_table(self._file(folder), columns)

    def _file(self, folder: str) -> str:
        marker = self.captions if folder == "captions" else self.generated
        name = marker.file(folder)
        assert name is not None
        return name


def _joined(table: pa.Table, key: str, ids: pa.ChunkedArray) -> pa.Table:
    """The rows of a table with these ids, in their order."""
    import pyarrow.compute as pc

    return table.take(pc.index_in(ids, table[key].combine_chunks()).combine_chunks())
