"""Why a candidate won, and why its pair is selected or not, in words: for preview and explorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate, score_column
from synthvlm.selectors.quotas import QuotaSettings
from synthvlm.stages.generation.candidate_plan import rank as rank_of
from synthvlm.stages.image_overlap import OVERLAP_FILE
from synthvlm.stages.near_duplicate_images import TWINS_FILE
from synthvlm.stages.select import MARKED, STAGE

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["SelectionReasons", "why_chosen"]


def why_chosen(candidates: Sequence[Candidate], recipe: Recipe) -> str:
    """Why the winner of a caption won, or why it has none, in a sentence.

    Args:
        candidates: All of the caption.
        recipe: Whose scorers made the scores.
    """
    usable = sorted((row for row in candidates if row.status == "ok"), key=rank_of)
    if not usable:
        return f"no winner: none of {len(candidates):,} candidates is usable"
    best = usable[0]
    # The recipe of a folder may name a scorer that has not scored yet.
    scorers = {name: one for name, one in recipe.scorers.items() if name in best.scores}
    terms = [
        f"{'' if scorer.weight == 1 else f'{scorer.weight:g} x '}{name} {best.scores[name]:.3f}"
        for name, scorer in scorers.items()
    ]
    line = f"candidate {best.index} of {len(candidates):,} won: {best.score:.3f}"
    line += f" = {' + '.join(terms)}"
    if len(usable) == 1:
        return f"{line}; no other one is usable" if len(candidates) > 1 else line
    second = usable[1]
    if best.score == second.score:
        return f"{line}; candidate {second.index} has the same score, and the lower number wins"
    gains = {
        name: scorer.weight * (best.scores[name] - second.scores.get(name, best.scores[name]))
        for name, scorer in scorers.items()
    }
    most = max(gains, key=lambda name: gains[name])
    assert best.score is not None
    assert second.score is not None
    lower = best.score - second.score
    return f"{line}; next is candidate {second.index}, {lower:.2g} lower, mostly by its {most}"


class SelectionReasons:
    """Says why pairs are selected or not; what a selection left out is read once."""

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        """Nothing is read yet."""
        self._run, self._recipe = run, recipe

    def sentence(
        self, id: str, candidates: Sequence[Candidate], rank: int | None, *, is_marked: bool = False
    ) -> str:
        """Whether the pair of a caption is selected, or why it is not.

        Args:
            id: Of the caption.
            candidates: All of the caption.
            rank: In the selection, from 1; None where it is not selected.
            is_marked: Whether somebody marked it as bad.
        """
        if self._facts is None:
            return "nothing is selected yet"
        count = int(self._facts["selected"])
        if rank is not None:
            return f"selected: rank {rank:,} of {count:,}"
        if is_marked:
            return "not selected: it is marked as bad"
        return f"not selected: {self._reason(id, candidates, count)}"

    def _reason(self, id: str, candidates: Sequence[Candidate], count: int) -> str:
        winner = next((row for row in candidates if row.chosen), None)
        if winner is None:
            return "it has no winner"
        if id in self._copies:
            return "its image is a near copy of a reference image"
        twin = self._twins.get(id)
        if twin is not None:
            return f"its image is nearly that of {twin}, which scores better"
        scores = {score_column(name): value for name, value in winner.scores.items()}
        scores["score"] = winner.score or 0.0
        for name, lowest in self._recipe.selection.min_scores.items():
            if scores.get(name, lowest) < lowest:
                return f"{name} {scores[name]:.3f} is below selection.min_scores.{name} {lowest:g}"
        assert self._facts is not None
        # Whose mark was taken back after that selection is not known.
        marked = ", or it was marked as bad then" if self._facts.get(MARKED) else ""
        return f"{self._of_method(count)}{marked}"

    def _of_method(self, count: int) -> str:
        selection = self._recipe.selection
        if selection.method == "top":
            return f"its score is not among the best {count:,}"
        if isinstance(selection.selector, QuotaSettings):
            group = selection.selector.field or "its cluster of embeddings"
            return f"others of its quota ({group}) score better"
        return f"the method {selection.method} chose others"

    @cached_property
    def _facts(self) -> Mapping[str, Any] | None:
        marker = self._run.marker(STAGE, 0)
        return None if marker is None else marker.facts

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
