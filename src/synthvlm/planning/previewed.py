"""What a preview shows: of each caption its candidates, why the winner won, and its selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthvlm.data import Candidate
from synthvlm.errors import RunFolderError
from synthvlm.scorers import SCORERS
from synthvlm.stages.curation.curated import CuratedCaptions, Query
from synthvlm.stages.reasons import SelectionReasons, why_chosen

if TYPE_CHECKING:
    from synthvlm.run import Run
    from synthvlm.stages.curation.curated import CuratedCaption

__all__ = ["PreviewedCaption", "read_previewed"]


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
    reasons = SelectionReasons(folder, recipe)
    previewed = []
    for caption in captions:
        if caption.rejected_by is None:
            candidates = sorted(rows.get(caption.id, ()), key=lambda row: row.index)
            place = ranks.get(caption.id)
            previewed.append(
                PreviewedCaption(
                    caption.id,
                    caption.text,
                    tuple(candidates),
                    pictures.get(caption.id, {}),
                    why_chosen(candidates, recipe),
                    place,
                    reasons.sentence(caption.id, candidates, place),
                )
            )
    return previewed, [caption for caption in captions if caption.rejected_by is not None]


def _rows(run: Run, name: str | None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [] if name is None else run.folder.read_table(name).to_pylist()
    return rows
