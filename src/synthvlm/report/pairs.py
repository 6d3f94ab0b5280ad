"""Candidates, pairs and the selection as numbers, without images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from synthvlm.data import WITH_IMAGE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

    Floats = npt.NDArray[np.float64]

__all__ = ["Candidates", "join_selection", "read_candidates", "scores_of"]

_KEY = ["caption_id", "index"]
_PROBLEMS_SHOWN = 5
_COUNTED_COLUMNS = ["prompt_truncated", "status", "problem", "chosen"]


@dataclass(slots=True)
class Candidates:
    """The candidates of the generate stage, summed over its shards.

    Attributes:
        per_caption: Candidates per caption in the recipe.
        scores: The columns of scores.
        captions: Number of captions with candidates.
        statuses: Number of candidates by status, as in ``Candidate.status``.
        truncated: Number of captions that the scorer's text tower cut off.
        prompt_truncated: Number of captions that the generator's text encoders cut off.
        captions_rejected: Number of captions without a pair, for all that is usable of them is
            below the minimum of a scorer.
        problems: Why candidates failed, with counts.
        sums: Sum of each score over the ok candidates.
    """

    per_caption: int
    scores: Sequence[str]
    captions: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    prompt_truncated: int = 0
    captions_rejected: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    sums: dict[str, float] = field(default_factory=dict)
    _best_sums: list[float] = field(default_factory=list)
    _complete: int = 0

    @property
    def total(self) -> int:
        """Number of candidates, whatever their status."""
        return self.statuses.total()

    @property
    def images(self) -> int:
        """Number of candidates that have a usable image, also if a score rejects it."""
        return sum(self.statuses[status] for status in WITH_IMAGE)

    @property
    def top_problems(self) -> list[tuple[str, int]]:
        """The most frequent reasons for failures, with counts."""
        return sorted(self.problems.items(), key=lambda item: (-item[1], item[0]))[:_PROBLEMS_SHOWN]

    def mean(self, score: str) -> float | None:
        """Mean of a score over all ok candidates: the expected score of a random candidate.

        None if some were not generated, rejected or outranked: the others are no random sample.
        """
        ok = self.statuses["ok"]
        return self.sums[score] / ok if ok and self.all_generated else None

    @property
    def all_generated(self) -> bool:
        """Whether no candidate was skipped, rejected or outranked."""
        return sum(self.statuses[status] for status in ("ok", "failed", "unsafe")) == self.total

    @property
    def best_of(self) -> list[float]:
        """Mean of the best score among a caption's first 1, 2, ... candidates.

        Only captions whose candidates are all ok count, so that all numbers are comparable.
        """
        if not self._complete or not self.all_generated:
            return []
        return [value / self._complete for value in self._best_sums]

    def add(self, table: pa.Table) -> None:
        """Add the candidates of a shard."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        ids = table["caption_id"].combine_chunks().dictionary_encode()
        self.captions += len(ids.dictionary)
        for entry in pc.value_counts(table["status"]):
            self.statuses[entry["values"].as_py()] += entry["counts"].as_py()
        for name in ("truncated", "prompt_truncated"):
            cut = pc.unique(table.filter(table[name])["caption_id"])
            setattr(self, name, getattr(self, name) + len(cut))
        without = table.filter(pc.equal(table["status"], "rejected"))["caption_id"]
        others = pc.is_in(table["status"], pa.array(["ok", "failed", "pending"]))
        rest = table.filter(others)["caption_id"].combine_chunks()
        self.captions_rejected += len(pc.unique(without.filter(pc.invert(pc.is_in(without, rest)))))
        failed = table.filter(pc.equal(table["status"], "failed"))
        self.problems.update(problem or "unknown" for problem in failed["problem"].to_pylist())
        usable = table.filter(pc.equal(table["status"], "ok"))
        for score in self.scores:
            total = float(np.sum(usable[score].to_numpy()))
            self.sums[score] = self.sums.get(score, 0.0) + total
        # One row per caption, one column per candidate; NaN where a candidate has no score.
        grid = np.full((len(ids.dictionary), self.per_caption), np.nan)
        places = table["index"].to_numpy()
        # A shard made when the recipe asked for more candidates does not count for best-of-k.
        if len(places) and places.max() < self.per_caption:
            grid[ids.indices.to_numpy(), places] = table["score"].to_numpy()
            best = np.maximum.accumulate(grid[~np.isnan(grid).any(axis=1)], axis=1)
            before = self._best_sums or [0.0] * self.per_caption
            self._best_sums = [a + float(b) for a, b in zip(before, best.sum(axis=0), strict=True)]
            self._complete += len(best)


def read_candidates(
    run: RunFolder, recipe: Recipe, generated: Mapping[int, Marker]
) -> tuple[Candidates, pa.Table]:
    """Read all candidates: their sums, and the pairs, best score first, ties by caption id.

    The pairs have columns of ``candidates/``, and ``shard``.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    from synthvlm.data import candidate_schema, take_rows

    counts = Candidates(recipe.generation.candidates, recipe.score_columns)
    schema = candidate_schema(list(recipe.scorers))
    columns = [*_KEY, "seed", *recipe.score_columns, "truncated"]
    winners = pa.schema([schema.field(name) for name in columns] + [("shard", pa.int32())])
    parts = [winners.empty_table()]
    for shard, marker in sorted(generated.items()):
        name = marker.file("candidates")
        if name is None:
            continue
        table = run.read_table(name, [*columns, *_COUNTED_COLUMNS])
        counts.add(table)
        chosen = table.filter(table["chosen"]).select(columns)
        parts.append(chosen.append_column("shard", pa.array([shard] * len(chosen), pa.int32())))
    pairs = pa.concat_tables(parts)
    order = pc.sort_indices(pairs, sort_keys=[("score", "descending"), ("caption_id", "ascending")])
    return counts, take_rows(pairs, order.to_numpy())


def join_selection(pairs: pa.Table, selection: pa.Table) -> tuple[pa.Table, int]:
    """Add the column ``rank`` to the pairs, null for those that are not selected.

    Returns:
        The pairs, and how many rows of the selection are not, or no longer, pairs.
    """
    import pyarrow.compute as pc

    place = pc.index_in(pairs["caption_id"], selection["caption_id"])
    selected = selection.select(["rank", "index", "score"]).take(place)
    same = pc.and_(
        pc.equal(selected["index"], pairs["index"]), pc.equal(selected["score"], pairs["score"])
    )
    rank = pc.if_else(pc.fill_null(same, False), selected["rank"], None)
    missing = len(selection) - (len(rank) - rank.null_count)
    return pairs.append_column("rank", rank), missing


def scores_of(pairs: pa.Table, recipe: Recipe) -> dict[str, Floats]:
    """Each score as an array, in the order of the rows."""
    return {name: pairs[name].to_numpy() for name in recipe.score_columns}
