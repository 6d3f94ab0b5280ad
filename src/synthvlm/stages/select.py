"""Select over the whole data set, on score rows; see ``selectors.selection``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.components.component import LoadContext
from synthvlm.data import take_rows
from synthvlm.run_folder.folder import table_bytes
from synthvlm.run_folder.marks import Marks, read_marks
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.base import best_first
from synthvlm.selectors.quotas import QuotaSettings
from synthvlm.selectors.selection import asked_count, select_pairs
from synthvlm.stages.data_set_fingerprints import selection_fingerprint
from synthvlm.stages.generation.target import STAGE as TARGET
from synthvlm.stages.generation.target import quota_shares
from synthvlm.stages.image_overlap import OVERLAP_FILE, ImageOverlap
from synthvlm.stages.near_duplicate_images import TWINS_FILE, without_near_duplicates
from synthvlm.stages.selected_pairs import SELECTION_FILE
from synthvlm.stages.selection_columns import PairColumns
from synthvlm.stages.selection_figures import selection_figures, shift_note
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder
    from synthvlm.selectors import Selector

__all__ = [
    "FIGURES",
    "MARKED",
    "NEAR_COPIES",
    "NEAR_DUPLICATES",
    "NOTES",
    "REFERENCES",
    "STAGE",
    "select",
]

STAGE = "select"
#: The fact of its marker that holds lines for people; not there where there are none.
NOTES = "notes"
#: The fact that holds ``selection_figures``; not there where an earlier version selected.
FIGURES = "figures"
#: The fact that counts the pairs that are marked as bad, by reason; not there where there are none.
MARKED = "marked"
#: The fact that counts near-duplicate images; not there where they are not looked for.
NEAR_DUPLICATES = "near_duplicates"
#: The facts that count near copies of reference images, and hold ``ImageOverlap.facts``.
NEAR_COPIES, REFERENCES = "near_copies", "references"


def select(
    run: RunFolder,
    recipe: Recipe,
    captions: Mapping[int, Marker],
    generated: dict[int, Marker],
    progress: Progress,
) -> StageSummary:
    """Bring ``selection.parquet`` up to date with the candidates and the selection's settings.

    Raises:
        RecipeError: The method needs embeddings, and there are none.
    """
    began = time.monotonic()
    marks = read_marks(run)
    expected = selection_fingerprint(recipe, captions, generated, marks)
    old = run.marker(STAGE, 0)
    if old is not None and old.fingerprint == expected:
        counts = {name: int(old.facts[name]) for name in ("pairs", "selected")}
        counts |= _left_out(old.facts.get(MARKED, {}))
        _show(old.facts.get(NOTES, ()), progress)
        return StageSummary(STAGE, 1, 1, counts, time.monotonic() - began)
    progress.start(STAGE, len(generated), "shards")
    selector = _selector(run, recipe)
    prepare = _Preparation(run, recipe, captions, generated, progress)
    marked: Counter[str] = Counter()
    total, unscored, selection = select_pairs(
        _candidates(run, recipe, generated, marks, marked, progress),
        selector=selector,
        scorers=list(recipe.scorers),
        top_n=recipe.most_selected,
        top_fraction=recipe.selection.top_fraction,
        min_scores=recipe.selection.min_scores,
        prepare=prepare,
    )
    usable, twins, copies = prepare.usable, prepare.near_duplicates, prepare.near_copies
    top = take_rows(usable, best_first(usable)[: len(selection)])
    figures = selection_figures(run, recipe, captions, generated, total, selection, top)
    notes = [
        *_missing(recipe, total, prepare, len(selection), marked.total()),
        *([marks.problem] if marks.problem else []),
        *_unreadable(prepare.references),
        *selector.notes,
        *_unscored(unscored),
        *([shift] if (shift := shift_note(figures)) else []),
    ]
    _show(notes, progress)
    counts = {"pairs": total + marked.total(), "selected": selection.num_rows}
    facts: dict[str, Any] = {**counts, FIGURES: figures, **({NOTES: notes} if notes else {})}
    files = [run.write(SELECTION_FILE, table_bytes(selection))]
    if marked:
        facts[MARKED] = dict(sorted(marked.items()))
    if copies is not None:
        facts |= {NEAR_COPIES: len(copies), REFERENCES: prepare.references}
    if twins is not None:
        facts[NEAR_DUPLICATES] = len(twins)
    for name, left_out in ((OVERLAP_FILE, copies), (TWINS_FILE, twins)):
        if left_out is not None:
            files.append(run.write(name, table_bytes(left_out)))
        elif run.exists(name):
            run.remove(name)  # of an earlier selection, whose marker counts for nothing now
    run.commit(STAGE, 0, expected, files, facts)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=total)
    return StageSummary(STAGE, 1, 0, counts | _left_out(marked), seconds)


def _left_out(marked: Mapping[str, int]) -> dict[str, int]:
    """What a summary says of marked pairs, where there are any."""
    return {MARKED: sum(marked.values())} if marked else {}


def _selector(run: RunFolder, recipe: Recipe) -> Selector:
    """The selector of the recipe; under a target, with the shares that its quotas had there."""
    settings = recipe.selection.selector
    if recipe.target is not None and isinstance(settings, QuotaSettings):
        settings = settings.model_copy(update={"shares": quota_shares(run.marker(TARGET, 0))})
    return SELECTORS.load(recipe.selection.method, settings, LoadContext())


class _Preparation:
    """Makes the pairs ready for the selector: near copies and twins out, its columns in.

    Attributes:
        usable: The pairs that have the minimum scores.
        near_copies: Those of them that are left out as copies of reference images, with the
            reason; None where they are not looked for.
        near_duplicates: Those that are left out for a better twin; None likewise.
        references: See ``ImageOverlap.facts``.
    """

    usable: pa.Table
    near_copies: pa.Table | None = None
    near_duplicates: pa.Table | None = None
    references: Mapping[str, Any] = {}

    def __init__(
        self,
        run: RunFolder,
        recipe: Recipe,
        captions: Mapping[int, Marker],
        generated: Mapping[int, Marker],
        progress: Progress,
    ) -> None:
        self._run, self._settings, self._generated = run, recipe.selection, generated
        self._columns = PairColumns(run, recipe, captions, generated)
        self._progress = progress

    def __call__(self, pairs: pa.Table) -> pa.Table:
        self.usable = pairs
        if self._settings.image_overlap is not None:
            overlap = ImageOverlap(self._run, self._settings.image_overlap, self._progress)
            pairs, self.near_copies = overlap.without(self._generated, pairs)
            self.references = overlap.facts
        twins = self._settings.near_duplicate_images
        if twins is not None:
            pairs, self.near_duplicates = without_near_duplicates(
                self._run, self._generated, pairs, twins, self._columns, self._progress
            )
        return self._columns.joined(pairs, self._settings.selector_columns)


def _show(notes: Sequence[str], progress: Progress) -> None:
    for note in notes:
        progress.note(f"warning: selection: {note}")


def _unreadable(references: Mapping[str, Any]) -> list[str]:
    """That images were not compared with all references."""
    count = references.get("unreadable")
    if not count:
        return []
    together = count + references["references"]
    return [
        f"{count:,} of {together:,} reference images cannot be read, so nothing was compared with "
        f"them; the first: {references['problem']}"
    ]


def _missing(
    recipe: Recipe, total: int, prepare: _Preparation, selected: int, marked: int
) -> list[str]:
    """That fewer pairs are selected than the recipe asks for, and why."""
    settings = recipe.selection
    if recipe.target is not None:
        return []  # told at the end of the run
    asked = asked_count(total, settings.top_n, settings.top_fraction)
    if asked is None or selected >= asked:
        return []
    by = "top_n" if settings.top_n is not None else "top_fraction"
    reasons = [f"there are {total:,} pairs"]
    if marked:
        reasons.append(f"{marked:,} more are marked as bad")
    if len(prepare.usable) < total:
        reasons.append(f"{len(prepare.usable):,} of them have the scores of selection.min_scores")
    if prepare.near_copies:
        reasons.append(f"{len(prepare.near_copies):,} are left out as copies of reference images")
    if prepare.near_duplicates:
        reasons.append(f"{len(prepare.near_duplicates):,} are left out as near-duplicate images")
    return [
        f"selection.{by} asks for {asked:,} pairs and {selected:,} are selected: "
        f"{', '.join(reasons)}"
    ]


def _unscored(count: int) -> list[str]:
    """That chosen candidates are no pairs for want of a score."""
    if not count:
        return []
    return [
        f"{count} captions are left out: the score of their best candidate is no finite number, "
        f"as early versions stored it"
    ]


def _candidates(
    run: RunFolder,
    recipe: Recipe,
    generated: dict[int, Marker],
    marks: Marks,
    marked: Counter[str],
    progress: Progress,
) -> Iterator[tuple[int, pa.Table]]:
    """The candidates of each shard, losers too: ten times as many rows as pairs.

    Those that are marked as bad are left out, and the chosen ones of them counted in ``marked``.
    """
    columns = ["caption_id", "index", *recipe.score_columns, "chosen"]
    columns += [name for name in marks.columns if name not in columns]
    for shard in sorted(generated):
        name = generated[shard].file("candidates")
        if name is not None:
            unmarked, counts = marks.split(run.read_table(name, columns))
            marked.update(counts)
            yield shard, unmarked
        progress.advance(1)
