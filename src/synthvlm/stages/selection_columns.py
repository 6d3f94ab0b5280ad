"""What selectors ask for of a pair besides its scores, joined from the tables of earlier stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from synthvlm.data import take_rows
from synthvlm.errors import RecipeError
from synthvlm.selectors.base import EMBEDDINGS, TEXT_EMBEDDING

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.captions.duplicates.concepts import ConceptMatcher
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["PairColumns", "concepts_of", "input_folders", "shard_rows"]

CONCEPT = "concept"


def input_folders(recipe: Recipe) -> set[str]:
    """The folders besides ``candidates/`` whose files the selection depends on."""
    columns = set(recipe.selection.selector_columns)
    of_captions = columns.difference(EMBEDDINGS, recipe.score_columns)
    selection = recipe.selection
    are_compared = selection.near_duplicate_images or selection.image_overlap
    is_read = {
        "pairs": bool(are_compared) or columns.intersection(EMBEDDINGS),
        "captions": of_captions,
    }
    return {folder for folder, names in is_read.items() if names}


def shard_rows(rows: pa.Table) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Each shard of some pairs, in ascending order, and the rows of it."""
    shards = rows["shard"].to_numpy()
    order = np.argsort(shards, kind="stable")
    present, starts = np.unique(shards[order], return_index=True)
    yield from zip(present.tolist(), np.split(order, starts[1:]), strict=True)


class PairColumns:
    """Reads columns of given pairs, one shard at a time."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        captions: Mapping[int, Marker],
        generated: Mapping[int, Marker],
    ) -> None:
        """Nothing is read yet.

        Args:
            run: The run folder.
            recipe: Its recipe.
            captions: Markers of the stage curate.
            generated: Markers of the stage generate.
        """
        self._run, self._recipe = run, recipe
        self._captions, self._generated = captions, generated

    def joined(self, pairs: pa.Table, columns: Sequence[str]) -> pa.Table:
        """Pairs with further columns.

        Args:
            pairs: With ``caption_id`` and ``shard``.
            columns: See ``Selector.columns``; those that the pairs have already are left alone.

        Raises:
            RecipeError: Pairs have no embeddings.
        """
        import pyarrow as pa

        missing = [name for name in columns if name not in pairs.column_names]
        of_captions = [name for name in missing if name not in EMBEDDINGS]
        rows: Any = self._of_captions(pairs, of_captions) if of_captions and len(pairs) else None
        for name in missing:
            if not len(pairs):
                column = pa.nulls(0, pa.list_(pa.float16()) if name in EMBEDDINGS else pa.string())
            elif name in EMBEDDINGS:
                column = self._embeddings(pairs, name)
            else:
                column = rows[name]
            pairs = pairs.append_column(name, column)
        return pairs

    def embeddings(
        self, shard: int, ids: pa.ChunkedArray, name: str
    ) -> npt.NDArray[np.float16] | None:
        """Embeddings of pairs of a shard, shape (len(ids), d); None if any has none."""
        rows = self._rows(self._generated[shard], "pairs", ids, "caption_id", [name])
        column = rows[name].combine_chunks()
        if column.null_count:
            return None
        values: npt.NDArray[np.float16] = column.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(ids), -1)

    def captions(self, shard: int, ids: pa.ChunkedArray, columns: Sequence[str]) -> pa.Table:
        """Columns of ``captions/`` for pairs of a shard, in their order."""
        return self._rows(self._captions[shard], "captions", ids, "id", columns)

    def _rows(
        self,
        marker: Marker,
        folder: str,
        ids: pa.ChunkedArray,
        key: str,
        columns: Sequence[str],
    ) -> pa.Table:
        import pyarrow.compute as pc

        name = marker.file(folder)
        assert name is not None
        table = self._run.read_table(name, [key, *columns])
        places = pc.index_in(ids, table[key].combine_chunks())
        return table.select(list(columns)).take(places.combine_chunks())

    def _embeddings(self, pairs: pa.Table, name: str) -> pa.Array:
        """All embeddings in one array of float16: for a million pairs the bulk of the memory."""
        import pyarrow as pa

        joined = np.empty((0, 0), np.float16)
        for shard, rows in shard_rows(pairs):
            values = self.embeddings(shard, pairs["caption_id"].take(pa.array(rows)), name)
            if values is None:
                raise RecipeError(_without_embeddings(name))
            if not len(joined):
                joined = np.empty((len(pairs), values.shape[1]), np.float16)
            joined[rows] = values
        return pa.FixedSizeListArray.from_arrays(pa.array(joined.reshape(-1)), joined.shape[1])

    def _of_captions(self, pairs: pa.Table, columns: Sequence[str]) -> pa.Table:
        import pyarrow as pa

        read = ["id", *("text" if name == CONCEPT else name for name in columns)]
        parts, places = [], []
        for shard, rows in shard_rows(pairs):
            table = self.captions(shard, pairs["caption_id"].take(pa.array(rows)), read)
            if CONCEPT in columns:
                assert self._recipe.curation.concepts is not None
                concepts = concepts_of(table["text"], self._recipe.curation.concepts.concepts)
                table = table.append_column(CONCEPT, concepts).drop_columns("text")
            parts.append(table)
            places.append(rows)
        return take_rows(pa.concat_tables(parts), np.argsort(np.concatenate(places)))


def concepts_of(texts: pa.ChunkedArray, concepts: Sequence[str]) -> pa.Array:
    """Of each text the first of some concepts that it mentions, null where it mentions none."""
    import pyarrow as pa

    from synthvlm.captions.rules.batch import TextBatch

    matcher = _matcher(tuple(concepts))
    mentions = matcher.match(TextBatch(texts.to_pylist()))
    mentioned = (mentions.of(row) for row in range(len(mentions)))
    return pa.array([matcher.concepts[own[0]] if own else None for own in mentioned], pa.string())


@lru_cache(maxsize=1)  # of many concepts it takes longer to build than the captions of a shard
def _matcher(concepts: tuple[str, ...]) -> ConceptMatcher:
    from synthvlm.captions.duplicates.concepts import ConceptMatcher

    return ConceptMatcher(concepts)


def _without_embeddings(name: str) -> str:
    kind = "captions" if name == TEXT_EMBEDDING else "images"
    return (
        f"selection needs embeddings of {kind}, and pairs of this run have none: they come from "
        f"the first scorer that gives them, such as clip or siglip: --set scoring.clip.weight=1.0"
    )
