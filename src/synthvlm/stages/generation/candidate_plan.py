"""The candidates of a shard: their rows, which are generated next, which count, and which wins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from synthvlm.data import Candidate, candidate_table, score_column

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.recipe import Recipe
    from synthvlm.scorers.base import ScorerSettings
    from synthvlm.stages.generation.requests import ScoredImage

__all__ = [
    "CandidatePlan",
    "Key",
    "captions_rejected",
    "judged",
    "rank",
    "reusable_row",
    "row_of",
    "table_of_rows",
    "weighted_score",
]

#: A caption's id, and the number of one of its candidates.
Key = tuple[str, int]


class CandidatePlan:
    """The candidates of a shard.

    Without thresholds every caption gets all its candidates. With a threshold for each number, a
    caption is done with the first candidate, in the order of their numbers, with which the best
    score so far reaches its threshold: later ones are not generated. At most one candidate of such
    a caption is in work at a time, so which ones are generated depends on neither the batch size
    nor the shards. Later ones that there are nevertheless, of the calibration or of an earlier
    run with other thresholds, are paid for: the best candidate of all that there are wins.

    Where scorers have ``only_best``, each caption has as many finalists: its best candidates by
    the other scorers. Only a finalist that has all scores can win.
    """

    def __init__(
        self,
        ids: Sequence[str],
        recipe: Recipe,
        thresholds: Sequence[float] | None,
        known: Mapping[Key, Candidate],
    ) -> None:
        """Plan the candidates that the recipe asks for of each caption; some may be known."""
        self._count, self._thresholds = recipe.generation.candidates, thresholds
        self._first_scorers, self._finalists = recipe.first_scorers, recipe.finalists
        self.rows: dict[str, dict[int, Candidate]] = {
            id: {index: known[id, index] for index in range(self._count) if (id, index) in known}
            for id in ids
        }
        self._in_progress: set[Key] = set()
        self._incomplete = {id: None for id in ids if not self.is_caption_complete(id)}

    def next_batch(self, size: int) -> list[Key]:
        """Up to ``size`` candidates to generate now, in the order of captions and of numbers."""
        batch: list[Key] = []
        for id in self._incomplete:
            for key in self._missing_keys(id):
                if len(batch) == size:
                    break
                batch.append(key)
            if len(batch) == size:
                break
        self._in_progress.update(batch)
        return batch

    def record(self, row: Candidate) -> bool:
        """Record a generated candidate; whether its caption is complete with it."""
        self.rows[row.caption_id][row.index] = row
        self._in_progress.discard((row.caption_id, row.index))
        if not self.is_caption_complete(row.caption_id):
            self._incomplete[row.caption_id] = None  # one that was done may be so no more
            return False
        self._incomplete.pop(row.caption_id, None)
        return True

    def is_caption_complete(self, id: str) -> bool:
        """Whether nothing of a caption is left to generate."""
        return self.consecutive_count(id) == self._count or self._stopping_index(id) is not None

    def all_complete(self) -> bool:
        """Whether all captions are complete."""
        return not self._incomplete

    def waits_for_scores(self) -> bool:
        """Whether what is generated next depends on scores that are not there yet."""
        return self._thresholds is not None

    def consecutive_count(self, id: str) -> int:
        """How many of a caption's candidates are there, up to the first that is missing."""
        rows = self.rows[id]
        return next((index for index in range(self._count) if index not in rows), self._count)

    def contenders(self, id: str) -> list[Candidate]:
        """The candidates of a caption that may win by the scorers that see all, best first.

        One that failed when the other scorers saw it is among them: no other one takes its place.
        """
        rows = [row for row in self.rows[id].values() if self.may_win(row)]
        return sorted(rows, key=self.first_rank)

    def may_win(self, row: Candidate) -> bool:
        """Whether a candidate is usable by the scorers that see all."""
        return (
            row.status != "unsafe"
            and row.scores.keys() >= self._first_scorers.keys()
            and _below_minimum(row.scores, self._first_scorers) is None
        )

    def first_rank(self, row: Candidate) -> tuple[float, int]:
        """Sort key of contenders: best by the scorers that see all, ties to the lower index."""
        return (-weighted_score(row.scores, self._first_scorers), row.index)

    def finalists(self, id: str) -> list[Candidate]:
        """The contenders of a caption among which the winner is."""
        return self.contenders(id)[: self._finalists]

    def unscored(self, id: str) -> list[int]:
        """Numbers of the finalists of a complete caption that lack scores."""
        if self._finalists is None or not self.is_caption_complete(id):
            return []
        return [row.index for row in self.finalists(id) if row.status == "outranked"]

    def winner(self, id: str) -> int | None:
        """Number of the best candidate of a caption; None where none is usable."""
        usable = (row for row in self.finalists(id) if row.status == "ok")
        best = min(usable, key=rank, default=None)
        return None if best is None else best.index

    def unneeded(self, id: str) -> range:
        """Numbers of the candidates behind the one with which a caption was done."""
        last = self._stopping_index(id)
        return range(0) if last is None else range(last + 1, self._count)

    def _missing_keys(self, id: str) -> Iterator[Key]:
        first = self.consecutive_count(id)
        if self._thresholds is None:
            missing = [n for n in range(first, self._count) if n not in self.rows[id]]
        else:
            missing = [first]
        # With a threshold, what comes next waits for the score of what is in work.
        for index in missing:
            if (id, index) not in self._in_progress:
                yield id, index

    def _stopping_index(self, id: str) -> int | None:
        """Number of the candidate with which a caption is done; None where there is none."""
        if self._thresholds is None:
            return None
        best = -math.inf
        for index in range(self.consecutive_count(id)):
            score = self.rows[id][index].score
            best = best if score is None else max(best, score)
            if best >= self._thresholds[index]:
                return index
        return None


def rank(row: Candidate) -> tuple[float, int]:
    """Sort key of usable candidates: best score first, ties to the lower index."""
    assert row.score is not None
    return (-row.score, row.index)


def captions_rejected(candidates: Iterable[tuple[str, str]]) -> int:
    """How many captions have no pair because all that is usable of them is below a minimum.

    Args:
        candidates: Caption id and status of each.
    """
    statuses: dict[str, set[str]] = {}
    for id, status in candidates:
        statuses.setdefault(id, set()).add(status)
    return sum("rejected" in s and not s & {"ok", "failed", "pending"} for s in statuses.values())


def table_of_rows(rows: Sequence[Candidate], recipe: Recipe) -> pa.Table:
    """Rows as a table with the columns of the recipe's scorers."""
    return candidate_table(rows, list(recipe.scorers), recipe.scorers_with_remarks)


def row_of(image: ScoredImage, fingerprint: str, recipe: Recipe) -> Candidate:
    """The row of an image that was generated, or failed."""
    request = image.request
    row = Candidate(
        caption_id=request.id,
        index=request.index,
        seed=request.seed,
        status="failed" if image.unsafe is None else "unsafe",
        fingerprint=fingerprint,
        scores=image.scores,
        remarks=image.remarks,
        truncated=image.truncated,
        prompt_truncated=image.prompt_truncated,
        reproducible=image.reproducible,
        problem=image.problem or image.unsafe,
    )
    return row if row.problem is not None else judged(row, recipe)


def judged(row: Candidate, recipe: Recipe) -> Candidate:
    """A candidate that has an image, with the status that follows from its scores.

    One that lacks scores is ``outranked`` until it is a finalist and the scorers with
    ``only_best`` have seen it.
    """
    problem = _below_minimum(row.scores, {**recipe.first_scorers, **recipe.scorers})
    if problem is not None:
        return replace(row, status="rejected", score=None, problem=problem)
    if not row.scores.keys() >= recipe.scorers.keys():
        return replace(row, status="outranked", score=None, problem=None)
    score = weighted_score(row.scores, recipe.scorers)
    return replace(row, status="ok", score=score, problem=None)


def reusable_row(row: Candidate, recipe: Recipe) -> Candidate | None:
    """The row of an earlier attempt, as it counts now; None where it must be generated again."""
    if row.status == "unsafe":  # done with, and cannot win
        return row
    if row.status == "failed" or not row.scores.keys() >= recipe.first_scorers.keys():
        return None
    if not all(map(math.isfinite, row.scores.values())):
        return None  # an early version stored NaN
    return replace(judged(row, recipe), chosen=False)


def _below_minimum(
    scores: Mapping[str, float], scorers: Mapping[str, ScorerSettings]
) -> str | None:
    """Which score is below its minimum, of those that there are; None where none is."""
    for name, scorer in scorers.items():
        value = scores.get(name)
        if value is not None and scorer.minimum is not None and value < scorer.minimum:
            return (
                f"{score_column(name)} {value:.6g} is below scoring.{name}.minimum "
                f"{scorer.minimum:.6g}"
            )
    return None


def weighted_score(scores: Mapping[str, float], scorers: Mapping[str, ScorerSettings]) -> float:
    """The weighted sum of the scores of some scorers.

    Of all together it is the score (arXiv 2407.20756: CLIPScore + 0.5 * SSIMScore).
    """
    return sum(scorer.weight * scores[name] for name, scorer in scorers.items())
