"""Select over the whole data set, on score rows; see ``selectors.selection``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from synthvlm.components.component import LoadContext
from synthvlm.data import take_rows
from synthvlm.run_folder.folder import table_bytes
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.base import best_first
from synthvlm.selectors.quotas import QuotaSettings
from synthvlm.selectors.selection import asked_count, select_pairs
from synthvlm.stages.data_set_fingerprints import selection_fingerprint
from synthvlm.stages.generation.target import STAGE as TARGET
from synthvlm.stages.generation.target import quota_shares
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

__all__ = ["select"]

STAGE = "select"
#: The fact of its marker that holds lines for people; not there where there are none.
NOTES = "notes"
#: The fact that holds ``selection_figures``; not there where an earlier version selected.
FIGURES = "figures"
#: The fact that counts near-duplicate images; not there where they are not looked for.
NEAR_DUPLICATES = "near_duplicates"


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
    expected = selection_fingerprint(recipe, captions, generated)
    old = run.marker(STAGE, 0)
    if old is not None and old.fingerprint == expected:
        counts = {name: int(old.facts[name]) for name in ("pairs", "selected")}
        _show(old.facts.get(NOTES, ()), progress)
        return StageSummary(STAGE, 1, 1, counts, time.monotonic() - began)
    progress.start(STAGE, len(generated), "shards")
    settings = recipe.selection
    of_selector = settings.selector
    if recipe.target is not None and isinstance(of_selector, QuotaSettings):
        shares = quota_shares(run.marker(TARGET, 0))
        of_selector = of_selector.model_copy(update={"shares": shares})
    selector = SELECTORS.load(settings.method, of_selector, LoadContext())
    columns = PairColumns(run, recipe, captions, generated)
    usable: Any = None
    twins = None

    def prepare(pairs: pa.Table) -> pa.Table:
        nonlocal usable, twins
        usable = pairs
        if settings.near_duplicate_images is not None:
            pairs, twins = without_near_duplicates(
                run, generated, pairs, settings.near_duplicate_images, columns, progress
            )
        return columns.joined(pairs, settings.selector_columns)

    total, unscored, selection = select_pairs(
        _candidates(run, recipe, generated, progress),
        selector=selector,
        scorers=list(recipe.scorers),
        top_n=recipe.most_selected,
        top_fraction=settings.top_fraction,
        min_scores=settings.min_scores,
        prepare=prepare,
    )
    dropped = 0 if twins is None else len(twins)
    notes = [*_missing(recipe, total, len(usable), dropped, len(selection)), *selector.notes]
    if unscored:
        notes.append(
            f"{unscored} captions are left out: the score of their best candidate is no finite "
            f"number, as early versions stored it"
        )
    top = take_rows(usable, best_first(usable)[: len(selection)])
    figures = selection_figures(run, recipe, captions, generated, total, selection, top)
    if shift := shift_note(figures):
        notes.append(shift)
    _show(notes, progress)
    counts = {"pairs": total, "selected": selection.num_rows}
    facts: dict[str, Any] = {**counts, FIGURES: figures, **({NOTES: notes} if notes else {})}
    files = [run.write(SELECTION_FILE, table_bytes(selection))]
    if twins is not None:
        facts[NEAR_DUPLICATES] = dropped
        files.append(run.write(TWINS_FILE, table_bytes(twins)))
    elif run.exists(TWINS_FILE):
        run.remove(TWINS_FILE)  # of an earlier selection, whose marker counts for nothing now
    run.commit(STAGE, 0, expected, files, facts)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=total)
    return StageSummary(STAGE, 1, 0, counts, seconds)


def _show(notes: Sequence[str], progress: Progress) -> None:
    for note in notes:
        progress.note(f"warning: selection: {note}")


def _missing(recipe: Recipe, total: int, usable: int, dropped: int, selected: int) -> list[str]:
    """That fewer pairs are selected than the recipe asks for, and why."""
    settings = recipe.selection
    if recipe.target is not None:
        return []  # told at the end of the run
    asked = asked_count(total, settings.top_n, settings.top_fraction)
    if asked is None or selected >= asked:
        return []
    by = "top_n" if settings.top_n is not None else "top_fraction"
    reasons = [f"there are {total:,} pairs"]
    if usable < total:
        reasons.append(f"{usable:,} of them have the scores of selection.min_scores")
    if dropped:
        reasons.append(f"{dropped:,} are left out as near-duplicate images")
    return [
        f"selection.{by} asks for {asked:,} pairs and {selected:,} are selected: "
        f"{', '.join(reasons)}"
    ]


def _candidates(
    run: RunFolder, recipe: Recipe, generated: dict[int, Marker], progress: Progress
) -> Iterator[tuple[int, pa.Table]]:
    """The candidates of each shard, losers too: ten times as many rows as pairs."""
    columns = ["caption_id", "index", *recipe.score_columns, "chosen"]
    for shard in sorted(generated):
        name = generated[shard].file("candidates")
        if name is not None:
            yield shard, run.read_table(name, columns)
        progress.advance(1)
