"""The whole story of a pair: its caption, all its candidates, and why it is selected or not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synthvlm.data import WITH_IMAGE, Candidate, score_column
from synthvlm.scorers import SCORERS
from synthvlm.selectors.quotas import QuotaSettings
from synthvlm.stages.curation.curated import CuratedCaptions, Query
from synthvlm.stages.image_overlap import OVERLAP_FILE
from synthvlm.stages.near_duplicate_images import TWINS_FILE

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run.shards import PairShard
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["StoryReader"]

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
        return {
            **self._caption(shard, id),
            "candidates": [self._candidate(row, winner, row.index in thumbnails) for row in rows],
            "why_chosen": self._why_chosen(winner, rows),
            "failed": [] if winner is None else self._failed(winner),
            "selection": self._selection(shard, id),
            "regenerate": f"synthvlm regenerate {shlex.quote(self._run.url)} "
            f"--id {shlex.quote(id)}",
            "run": {
                "folder": self._run.url,
                "model": self._recipe.generation.model,
                "steps": self._recipe.generation.steps,
                "seed": self._recipe.seed,
            },
        }

    def _caption(self, shard: PairShard, id: str) -> dict[str, Any]:
        captions = CuratedCaptions(self._run, self._recipe, Query())
        caption = captions.caption(shard.number, id)
        measures = [
            {
                "name": name,
                "value": measure.value,
                "minimum": measure.bounds[0],
                "maximum": measure.bounds[1],
            }
            for name, measure in caption.measures.items()
        ]
        return {"source": caption.source, "source_row": caption.row, "measures": measures}

    def _candidate(
        self, row: Candidate, winner: Candidate | None, has_thumbnail: bool
    ) -> dict[str, Any]:
        scores = {score_column(name): value for name, value in row.scores.items()}
        rejected = None if row.status == "ok" else row.problem or _STATUSES.get(row.status)
        image = "full" if row.chosen else "thumbnail" if has_thumbnail else None
        return {
            "index": row.index,
            "seed": row.seed,
            "status": row.status,
            "scores": {**scores, "score": row.score},
            "chosen": row.chosen,
            "why": _why_not(row, winner),
            "rejected_because": rejected,
            "failed": self._failed(row),
            "image": image,
            "reproducible": row.reproducible,
            "truncated": row.truncated or row.prompt_truncated,
        }

    def _failed(self, row: Candidate) -> list[dict[str, Any]]:
        """The remarks of scorers, such as questions that were not answered by yes."""
        return [
            {"scorer": SCORERS.label(name), "lines": remarks.splitlines()}
            for name, remarks in row.remarks.items()
        ]

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

    def _selection(self, shard: PairShard, id: str) -> dict[str, Any]:
        marker = self._run.marker("select", 0)
        if marker is None:
            return {"selected": None, "why": "Nothing is selected yet."}
        rows = list(self._run.iter_rows(marker.files[0].path, "caption_id", {id}))
        count = int(marker.facts["selected"])
        method = self._recipe.selection.method
        if rows:
            rank = rows[0]["rank"]
            why = f"Rank {rank:,} of {count:,} selected pairs (method: {method})."
            return {"selected": True, "rank": rank, "of": count, "method": method, "why": why}
        return {
            "selected": False,
            "method": method,
            "of": count,
            **self._left_out(id),
        }

    def _left_out(self, id: str) -> dict[str, Any]:
        twin = self._twins.get(id)
        if twin is not None:
            return {
                "near_duplicate_of": twin,
                "why": f"Its image is nearly that of {twin}, which scores better.",
            }
        if id in self._copies:
            return {"why": "Its image is a near copy of a reference image."}
        lowest = self._recipe.selection.min_scores
        settings = self._recipe.selection.selector
        if isinstance(settings, QuotaSettings):
            group = settings.field or "its cluster of embeddings"
            why = f"Others of the same quota ({group}) score better."
        elif self._recipe.selection.method == "top":
            why = "Its score is below the cut."
        else:
            why = f"The method {self._recipe.selection.method} chose others."
        if lowest:
            bounds = ", ".join(f"{name} {bound:g}" for name, bound in lowest.items())
            why = f"{why} Minimum scores: {bounds}."
        return {"why": why}

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


def _why_not(row: Candidate, winner: Candidate | None) -> str:
    if row.chosen:
        return "chosen"
    if row.status != "ok":
        return _STATUSES.get(row.status, row.status)
    if winner is None or winner.score is None or row.score is None:
        return "not chosen"
    if row.score == winner.score:
        return "the same score, and a higher number"
    return f"its score is {winner.score - row.score:.4f} lower"
