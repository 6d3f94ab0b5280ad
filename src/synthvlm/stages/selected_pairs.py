"""The selected pairs in the order of the input: what an export is made of."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from synthvlm.captions.duplicates.near_duplicates import near_duplicates
from synthvlm.captions.rules.control_tokens import control_tokens
from synthvlm.data import score_column, scorer_of
from synthvlm.errors import RecipeError, RunFolderError
from synthvlm.exporters import ExportedPair, Split
from synthvlm.exporters.splits import split_of
from synthvlm.selectors.selection import by_shard
from synthvlm.stages.image_marks import ImageMarks

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["SELECTION_FILE", "SelectedPairs", "splits_of"]

SELECTION_FILE = "selection.parquet"

#: The columns of an exported pair that only ``pairs/`` has.
_IMAGE_COLUMNS = ["image", "format", "width", "height"]

#: From here on captions are near: a word of nine was changed. See ``near_duplicates``.
_NEAR = 0.7


def splits_of(texts: Iterable[Sequence[str]], validation_share: float) -> list[Split]:
    """The split of each pair: that of the first caption that its own is near to, or its own one.

    Args:
        texts: The captions, in batches of any size; read once.
        validation_share: The share that is held out, see ``split_of``.
    """
    splits: list[Split] = []

    def noted() -> Iterator[Sequence[str]]:
        for batch in texts:
            splits.extend(split_of(text, validation_share) for text in batch)
            yield batch

    for caption, twin in near_duplicates(noted(), threshold=_NEAR).twins.items():
        splits[caption] = splits[twin]
    return splits


class SelectedPairs:
    """The selection, cut into parts; texts, seeds and images are read as they are asked for."""

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        captions: Mapping[int, Marker],
        generated: Mapping[int, Marker],
    ) -> None:
        """Order the selection as the input, and what is held out after all else."""
        self._run, self._captions, self._generated = run, captions, generated
        self._size, self._share = recipe.export.images_per_folder, recipe.export.validation_share
        self._marks = ImageMarks(recipe)
        rows = self._in_input_order(run.read_table(SELECTION_FILE))
        self._splits = self._split(rows) if self._share else [rows]

    def __len__(self) -> int:
        """How many pairs are selected."""
        return sum(rows.num_rows for rows in self._splits)

    @property
    def splits(self) -> dict[Split, int]:
        """How many pairs each split has."""
        train, *others = (rows.num_rows for rows in self._splits)
        return {"train": train} | ({"validation": others[0]} if others else {})

    def parts(self, split: Split | None = None) -> Iterator[pa.Table]:
        """The rows of the selection of each part, all of one split; or only those of one split."""
        for name, rows in zip(self.splits, self._splits, strict=True):
            if split not in (None, name):
                continue
            for start in range(0, rows.num_rows, self._size):
                yield rows.slice(start, self._size)

    def inputs(self, part: pa.Table) -> list[str]:
        """Checksums of the files that a part is made of."""
        return [
            file.checksum
            for shard in sorted(set(part["shard"].to_pylist()))
            for marker in (self._captions[shard], self._generated[shard])
            for file in marker.files
            if file.folder in ("captions", "candidates", "pairs")
        ]

    def refuse_control_tokens(self) -> None:
        """Check that no caption holds a control token such as ``<image>``.

        A trainer reads one as such: LLaVA's would give every later image of the batch to another
        sample. Recipes reject these captions; a selection of an earlier one may hold some.

        Raises:
            RecipeError: Some do; the message names the first, and the setting that rejects them.
        """
        problems = []
        for split in self._splits:
            for shard, rows in by_shard(split):
                for id, text in self._texts(shard, rows).items():
                    if tokens := control_tokens(text):
                        problems.append((id, tokens[0]))
        if problems:
            (id, token), count = problems[0], len(problems)
            raise RecipeError(
                f"{count} selected caption{'s hold' if count > 1 else ' holds'} control tokens of "
                f"tokenizers, the first {id!r}: {token!r}; trainers would read them as such: "
                f"--set curation.rules.control_tokens.max=0 rejects them"
            )

    def refuse_empty_split(self) -> None:
        """Check that pairs are held out where some should be, and that not all are.

        Raises:
            RecipeError: Too few, or too similar, captions for that share.
        """
        if len(self) and not all(self.splits.values()):
            (empty,) = (split for split, count in self.splits.items() if not count)
            raise RecipeError(
                f"export.validation_share={self._share} leaves no pair of {len(self):,} for "
                f"{empty}: similar captions stay together: set another share, "
                f"or none: --set export.validation_share=0"
            )

    def pairs(self, part: pa.Table) -> Iterator[ExportedPair]:
        """The pairs of a part, whole; an image is read, and marked, as its pair is asked for.

        Raises:
            RunFolderError: An image is damaged; the message names its caption.
        """
        scorers = [scorer for name in part.column_names if (scorer := scorer_of(name)) is not None]
        for shard, rows in by_shard(part):
            texts = self._table(self._captions[shard], "captions", ["id", "text", "source"])
            seeds = self._table(
                self._generated[shard], "candidates", ["caption_id", "seed", "chosen"]
            )
            seeds = seeds.filter(seeds["chosen"])
            ids = rows["caption_id"]
            texts = texts.take(_places(ids, texts["id"]))
            seeds = seeds.take(_places(ids, seeds["caption_id"]))
            records = zip(
                rows.to_pylist(),
                texts["text"].to_pylist(),
                texts["source"].to_pylist(),
                seeds["seed"].to_pylist(),
                self._images(shard, ids),
                strict=True,
            )
            for row, text, source, seed, image in records:
                image["image"] = self._marked(image, row["caption_id"], seed, shard)
                yield ExportedPair(
                    id=row["caption_id"],
                    caption=text,
                    source=source,
                    rank=row["rank"],
                    scores={name: row[score_column(name)] for name in scorers},
                    score=row["score"],
                    seed=seed,
                    index=row["index"],
                    split=row.get("split", "train"),
                    **image,
                )

    def _marked(self, image: Mapping[str, Any], id: str, seed: int, shard: int) -> bytes:
        try:
            generated = self._generated[shard]
            return self._marks.marked(image["image"], image["format"], seed, generated)
        except ValueError as error:
            raise RunFolderError(
                f"{self._run.path('pairs')}, shard {shard}: the image of caption {id!r} cannot be "
                f"exported: {error}; have it made again: synthvlm verify "
                f"{shlex.quote(self._run.url)} --discard"
            ) from None

    def _in_input_order(self, selection: pa.Table) -> pa.Table:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        parts = []
        for shard, rows in by_shard(selection):
            ids = self._table(self._generated[shard], "pairs", ["caption_id"])["caption_id"]
            places = pc.index_in(rows["caption_id"], ids.combine_chunks()).to_numpy()
            parts.append(rows.take(np.argsort(places, kind="stable")))
        return pa.concat_tables(parts or [selection]).combine_chunks()

    def _split(self, rows: pa.Table) -> list[pa.Table]:
        """The rows for training and those held out; a column says so."""
        import pyarrow as pa
        import pyarrow.compute as pc

        texts = (list(self._texts(shard, those).values()) for shard, those in by_shard(rows))
        splits = splits_of(texts, self._share)
        rows = rows.append_column("split", pa.array(splits, pa.string()))
        return [rows.filter(pc.equal(rows["split"], name)) for name in get_args(Split)]

    def _texts(self, shard: int, rows: pa.Table) -> dict[str, str]:
        """The captions of some rows of a shard by their ids, in their order."""
        texts = self._table(self._captions[shard], "captions", ["id", "text"])
        texts = texts.take(_places(rows["caption_id"], texts["id"]))
        return dict(zip(texts["id"].to_pylist(), texts["text"].to_pylist(), strict=True))

    def _table(self, marker: Marker, folder: str, columns: list[str]) -> pa.Table:
        name = marker.file(folder)
        assert name is not None
        return self._run.read_table(name, columns)

    def _images(self, shard: int, ids: pa.ChunkedArray) -> Iterator[dict[str, Any]]:
        """Images of some of a shard's pairs, in its order; a row group is in memory at a time."""
        import pyarrow.compute as pc

        name = self._generated[shard].file("pairs")
        assert name is not None
        selected_ids = ids.combine_chunks()
        # Not the embeddings: as Python lists they take longer than all the rest.
        for rows in self._run.row_groups(name, ["caption_id", *_IMAGE_COLUMNS]):
            pairs = rows.filter(pc.is_in(rows["caption_id"], selected_ids))
            yield from pairs.select(_IMAGE_COLUMNS).to_pylist()


def _places(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.Array:
    """Where each of some ids stands among all those of a shard."""
    import pyarrow.compute as pc

    return pc.index_in(ids, among.combine_chunks()).combine_chunks()
