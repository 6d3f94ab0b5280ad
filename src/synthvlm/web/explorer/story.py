"""The whole story of a pair: its caption, all its candidates, and why it is selected or not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from synthvlm.captions.rules import RULES
from synthvlm.data import WITH_IMAGE, Candidate, score_column
from synthvlm.errors import RunFolderError
from synthvlm.scorers import SCORERS
from synthvlm.stages.curation.curated import CuratedCaptions, Query
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.questions import with_questions
from synthvlm.stages.reasons import SelectionReasons, why_chosen

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run.shards import PairShard
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.stages.curation.curated import CuratedCaption, Measure

__all__ = ["StoryReader", "rule_label"]

#: Why a candidate cannot win, by its status.
_STATUSES = {
    "failed": "it failed",
    "pending": "it is not generated yet: the run was stopped",
    "unsafe": "an image check rejected it",
    "rejected": "a score is below its minimum",
    "outranked": "it is not among the best by the scorers that see all candidates",
    "skipped": "it was never generated: the caption was done before",
    "surplus": "it does not count",
}


class StoryReader:
    """Reads what a run holds of a pair."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._run, self._recipe = run, recipe
        self._reasons = SelectionReasons(run, recipe)

    def thumbnail(self, shard: PairShard, id: str, index: int) -> bytes | None:
        """The thumbnail of a losing candidate; None where none is kept."""
        return self._thumbnails(shard, id).get(index)

    def read(
        self, shard: PairShard, id: str, rank: int | None, *, is_marked: bool
    ) -> dict[str, Any]:
        """The story of a pair, as plain values.

        Args:
            shard: Where the pair is.
            id: Of its caption.
            rank: In the selection, from 1; None where it is not selected.
            is_marked: Whether somebody marked it as bad.
        """
        name = shard.generated.file("candidates")
        assert name is not None
        rows = [Candidate.of_row(row) for row in self._run.iter_rows(name, "caption_id", {id})]
        rows.sort(key=lambda row: row.index)
        thumbnails = self._thumbnails(shard, id)
        winner = next((row for row in rows if row.chosen), None)
        caption = CuratedCaptions(self._run, self._recipe, Query()).caption(shard.number, id)
        command = f"synthvlm regenerate {shlex.quote(self._run.url)} --id {shlex.quote(id)}"
        generation = self._recipe.generation
        return {
            "source": caption.source,
            "measures": [_measure(name, measure) for name, measure in caption.measures.items()],
            "candidates": [self._candidate(row, winner, row.index in thumbnails) for row in rows],
            "why_chosen": why_chosen(rows, self._recipe),
            "scores": [] if winner is None else self._scores(winner),
            "questions": [] if winner is None else self._questions(shard, caption, winner),
            "selection": self._reasons.sentence(id, rows, rank, is_marked=is_marked),
            "regenerate": command,
            "more": [
                {"label": "Row of the source", "value": caption.row},
                {"label": "Generator", "value": f"{generation.model}, {generation.steps} steps"},
            ],
        }

    def _candidate(
        self, row: Candidate, winner: Candidate | None, has_thumbnail: bool
    ) -> dict[str, Any]:
        scores = {score_column(name): value for name, value in row.scores.items()}
        notes = [_why_not(row, winner), row.problem]
        if not row.chosen and row.status in WITH_IMAGE:
            notes.append("a thumbnail" if has_thumbnail else "its image was not kept")
        return {
            "index": row.index,
            "seed": str(row.seed),  # more digits than a number of JavaScript holds
            "status": row.status,
            "scores": scores if row.score is None else {**scores, "score": row.score},
            "chosen": row.chosen,
            "remarks": [line for remark in row.remarks.values() for line in remark.splitlines()],
            "image": row.chosen or has_thumbnail,
            "note": "; ".join(filter(None, notes)) or None,
        }

    def _scores(self, winner: Candidate) -> list[dict[str, Any]]:
        scores = [
            {"name": score_column(name), "label": SCORERS.label(name), "value": value}
            for name, value in winner.scores.items()
        ]
        return [*scores, {"name": "score", "label": "Score", "value": winner.score}]

    def _questions(
        self, shard: PairShard, caption: CuratedCaption, winner: Candidate
    ) -> list[dict[str, Any]]:
        """The questions about the caption, and which the image fails."""
        prompt = Prompt(caption.id, caption.text, "")
        try:
            prompt = with_questions(self._run, self._recipe, shard.number, [prompt])[0]
        except RunFolderError:
            prompt = replace(prompt, questions={})
        asked = []
        for scorer, remarks in winner.remarks.items():
            failed = remarks.splitlines()
            questions = prompt.questions.get(scorer, failed)
            asked += [
                {
                    "question": question,
                    "expected": "yes",
                    "answer": "not yes" if question in failed else "yes",
                    "passed": question not in failed,
                }
                for question in questions
            ]
        return asked

    def _thumbnails(self, shard: PairShard, id: str) -> dict[int, bytes]:
        name = shard.generated.file("previews")
        rows: Iterator[dict[str, Any]] = iter(())
        if name is not None:
            rows = self._run.iter_rows(name, "caption_id", {id})
        return {row["index"]: row["thumbnail"] for row in rows}


def rule_label(name: str) -> str:
    """What people call a rule, also one that is no longer known."""
    return RULES.label(name) if name in RULES else name


def _measure(name: str, measure: Measure) -> dict[str, Any]:
    low, high = measure.bounds
    return {
        "name": name,
        "label": rule_label(name),
        "value": measure.value,
        "minimum": low,
        "maximum": high,
        "kept": (low is None or measure.value >= low) and (high is None or measure.value <= high),
    }


def _why_not(row: Candidate, winner: Candidate | None) -> str | None:
    if row.chosen:
        return None
    if row.status != "ok":
        return _STATUSES.get(row.status, row.status)
    if winner is None or winner.score is None or row.score is None:
        return "not chosen"
    if row.score == winner.score:
        return "the same score, and a higher number"
    return f"its score is {winner.score - row.score:.4f} lower"
