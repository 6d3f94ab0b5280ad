"""What a preview shows: of each caption its candidates, why the winner won, and its selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate, score_column
from synthvlm.errors import RunFolderError
from synthvlm.scorers import SCORERS
from synthvlm.stages.curation.curated import CuratedCaptions, Query
from synthvlm.stages.generation.candidate_plan import rank
from synthvlm.stages.image_overlap import OVERLAP_FILE
from synthvlm.stages.near_duplicate_images import TWINS_FILE

if TYPE_CHECKING:
    from synthvlm.recipe import Recipe
    from synthvlm.run import Run
    from synthvlm.stages.curation.curated import CuratedCaption

__all__ = ["PreviewedCaption", "read_previewed", "why_chosen"]


@dataclass(frozen=True, slots=True)
class PreviewedCaption:
    """A caption of which images were generated.

    Attributes:
        id: Its id.
        text: The normalised text.
        candidates: In the order of their numbers.
        pictures: The encoded image of the winner, and thumbnails of the others, by their numbers.
        why: Why the winner won, or why there is none, in a sentence.
        rank: In the selection, from 1; None where it is not selected.
        selection: Whether it is selected, or why it is not, in words.
    """

    id: str
    text: str
    candidates: tuple[Candidate, ...]
    pictures: Mapping[int, bytes]
    why: str
    rank: int | None
    selection: str

    def text_lines(self) -> list[str]:
        """The lines that follow the caption's own."""
        lines = [self.why]
        lines += [
            f"candidate {row.index}: {row.status}, {row.problem or 'no reason is recorded'}"
            for row in self.candidates
            if row.status not in ("ok", "outranked", "skipped")
        ]
        lines += [
            f"candidate {row.index}, {SCORERS.label(name)}: {'; '.join(remark.splitlines())}"
            for row in self.candidates
            if row.chosen
            for name, remark in row.remarks.items()
        ]
        return [*lines, self.selection]


def read_previewed(run: Run) -> tuple[list[PreviewedCaption], list[CuratedCaption]]:
    """The kept captions of a small run, and those that a rule rejected.

    Args:
        run: Run up to its selection.

    Raises:
        RunFolderError: The folder cannot be read.
    """
    folder, recipe = run.folder, run.recipe
    captions = list(CuratedCaptions(folder, recipe, Query()))
    rows: dict[str, list[Candidate]] = {}
    pictures: dict[str, dict[int, bytes]] = {}
    for marker in folder.markers("generate").values():
        for row in _rows(run, marker.file("candidates")):
            rows.setdefault(row["caption_id"], []).append(Candidate.of_row(row))
        for name, column in (("previews", "thumbnail"), ("pairs", "image")):
            for row in _rows(run, marker.file(name)):
                pictures.setdefault(row["caption_id"], {})[row["index"]] = row[column]
    selection = folder.marker("select", 0)
    if selection is None:
        raise RunFolderError(f"{folder.url}: nothing is selected")
    ranks = {row["caption_id"]: row["rank"] for row in _rows(run, selection.files[0].path)}
    left_out = {
        row["caption_id"]: what
        for name, what in (
            (OVERLAP_FILE, "a near copy of a reference image"),
            (TWINS_FILE, "nearly the image of a better pair"),
        )
        if folder.exists(name)
        for row in _rows(run, name)
    }
    previewed = []
    for caption in captions:
        if caption.rejected_by is None:
            candidates = sorted(rows.get(caption.id, ()), key=lambda row: row.index)
            place = ranks.get(caption.id)
            reason = left_out.get(caption.id) or _not_selected(candidates, recipe, len(ranks))
            previewed.append(
                PreviewedCaption(
                    caption.id,
                    caption.text,
                    tuple(candidates),
                    pictures.get(caption.id, {}),
                    why_chosen(candidates, recipe),
                    place,
                    f"not selected: {reason}"
                    if place is None
                    else f"selected: rank {place:,} of {len(ranks):,}",
                )
            )
    return previewed, [caption for caption in captions if caption.rejected_by is not None]


def why_chosen(candidates: Sequence[Candidate], recipe: Recipe) -> str:
    """Why the winner of a caption won, or why it has none, in a sentence.

    Args:
        candidates: All of the caption.
        recipe: Whose scorers made the scores.
    """
    usable = sorted((row for row in candidates if row.status == "ok"), key=rank)
    if not usable:
        return f"no winner: none of {len(candidates):,} candidates is usable"
    best = usable[0]
    terms = [
        f"{'' if scorer.weight == 1 else f'{scorer.weight:g} x '}{name} {best.scores[name]:.3f}"
        for name, scorer in recipe.scorers.items()
    ]
    line = f"candidate {best.index} of {len(candidates):,} won: {best.score:.3f}"
    line += f" = {' + '.join(terms)}"
    if len(usable) == 1:
        return f"{line}; no other one is usable" if len(candidates) > 1 else line
    second = usable[1]
    if best.score == second.score:
        return f"{line}; candidate {second.index} has the same score, and the lower number wins"
    gains = {
        name: scorer.weight * (best.scores[name] - second.scores[name])
        for name, scorer in recipe.scorers.items()
    }
    most = max(gains, key=lambda name: gains[name])
    assert best.score is not None
    assert second.score is not None
    lower = best.score - second.score
    return f"{line}; next is candidate {second.index}, {lower:.2g} lower, mostly by its {most}"


def _not_selected(candidates: Sequence[Candidate], recipe: Recipe, selected: int) -> str:
    winner = next((row for row in candidates if row.chosen), None)
    if winner is None:
        return "it has no winner"
    scores = {score_column(name): value for name, value in winner.scores.items()}
    scores["score"] = winner.score or 0.0
    for name, lowest in recipe.selection.min_scores.items():
        if scores.get(name, lowest) < lowest:
            return f"{name} {scores[name]:.3f} is below selection.min_scores.{name} {lowest:g}"
    return f"its score is not among the best {selected:,}"


def _rows(run: Run, name: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [] if name is None else run.folder.read_table(name).to_pylist()
    return rows
