"""The whole story of a pair: its caption, all its candidates, and why it is selected or not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synthvlm.captions.rules import RULES
from synthvlm.data import WITH_IMAGE, Candidate, score_column
from synthvlm.errors import RunFolderError
from synthvlm.scorers import SCORERS
from synthvlm.selectors.quotas import QuotaSettings
from synthvlm.stages.curation.curated import CuratedCaptions, Query
from synthvlm.stages.generation.requests import Prompt
from synthvlm.stages.image_overlap import OVERLAP_FILE
from synthvlm.stages.near_duplicate_images import TWINS_FILE
from synthvlm.stages.questions import with_questions

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

    def thumbnail(self, shard: PairShard, id: str, index: int) -> bytes | None:
        """The thumbnail of a losing candidate; None where none is kept."""
        return self._thumbnails(shard, id).get(index)

    def read(self, shard: PairShard, id: str) -> dict[str, Any]:
        """The story of a pair, as plain values."""
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
            "why_chosen": self._why_chosen(winner, rows),
            "scores": [] if winner is None else self._scores(winner),
            "questions": [] if winner is None else self._questions(shard, caption, winner),
            "selection": self._selection(id),
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

    def _why_chosen(self, winner: Candidate | None, rows: Sequence[Candidate]) -> str:
        if winner is None:
            return "No candidate is chosen: none of them is usable."
        usable = [row for row in rows if row.status == "ok"]
        others = sorted(row.score or 0.0 for row in usable if row is not winner)
        if not others:
            made = sum(row.status in WITH_IMAGE for row in rows)
            many = "It is the only candidate" if made == 1 else "It is the only usable candidate"
            return f"{many}, with a score of {winner.score:.4f}."
        assert winner.score is not None
        lead = f"Its score of {winner.score:.4f} is the highest of {len(usable)} usable candidates"
        if winner.score == others[-1]:
            return f"{lead}; another one has the same, and the lower number decides."
        best = self._strongest(winner, usable)
        return f"{lead}, {winner.score - others[-1]:.4f} above the next{best}."

    def _strongest(self, winner: Candidate, usable: Sequence[Candidate]) -> str:
        """The score to which the winner owes most against the next one."""
        rest = [row for row in usable if row is not winner]
        second = max(rest, key=lambda row: (row.score or 0.0, -row.index))
        leads = {
            name: self._recipe.scorers[name].weight * (value - second.scores.get(name, value))
            for name, value in winner.scores.items()
            if name in self._recipe.scorers
        }
        if len(leads) < 2:
            return ""
        name = max(leads, key=leads.__getitem__)
        return f", mostly by its {SCORERS.label(name)}" if leads[name] > 0 else ""

    def _selection(self, id: str) -> str:
        """Why the pair is selected, or not, in a sentence."""
        marker = self._run.marker("select", 0)
        if marker is None:
            return "Nothing is selected yet."
        count = int(marker.facts["selected"])
        method = self._recipe.selection.method
        for row in self._run.iter_rows(marker.files[0].path, "caption_id", {id}):
            return f"Selected: rank {row['rank']:,} of {count:,}, by the method {method}."
        return f"Not selected: {self._left_out(id, method)}"

    def _left_out(self, id: str, method: str) -> str:
        twin = self._twins.get(id)
        if twin is not None:
            return f"its image is nearly that of {twin}, which scores better."
        if id in self._copies:
            return "its image is a near copy of a reference image."
        settings = self._recipe.selection.selector
        if isinstance(settings, QuotaSettings):
            return (
                f"others of its quota ({settings.field or 'its cluster of embeddings'}) score "
                f"better, or it was marked."
            )
        if method == "top":
            return "its score is below the cut, or it was marked."
        return f"the method {method} chose others, or it was marked."

    @cached_property
    def _twins(self) -> Mapping[str, str]:
        """Of near-duplicate images, the ids of those in whose favour they were left out."""
        if not self._run.exists(TWINS_FILE):
            return {}
        table = self._run.read_table(TWINS_FILE, ["caption_id", "kept_caption_id"])
        return dict(zip(*table.to_pydict().values(), strict=True))

    @cached_property
    def _copies(self) -> frozenset[str]:
        if not self._run.exists(OVERLAP_FILE):
            return frozenset()
        table = self._run.read_table(OVERLAP_FILE, ["caption_id"])
        return frozenset(table["caption_id"].to_pylist())

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
