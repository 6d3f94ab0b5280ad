"""Select over the whole data set, on score rows; see ``selectors.selection``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from synthvlm.components.component import LoadContext
from synthvlm.run_folder.folder import table_bytes
from synthvlm.selectors import SELECTORS
from synthvlm.selectors.selection import select_pairs
from synthvlm.stages.fingerprints import selection_fingerprint
from synthvlm.stages.selected_pairs import SELECTION_FILE
from synthvlm.stages.summary import StageSummary

if TYPE_CHECKING:
    import pyarrow as pa

    from synthvlm.progress.display import Progress
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import Marker, RunFolder

__all__ = ["select"]

STAGE = "select"


def select(
    run: RunFolder, recipe: Recipe, generated: dict[int, Marker], progress: Progress
) -> StageSummary:
    """Bring ``selection.parquet`` up to date with the candidates and the selection's settings."""
    began = time.monotonic()
    expected = selection_fingerprint(recipe, generated)
    old = run.marker(STAGE, 0)
    if old is not None and old.fingerprint == expected:
        counts = {name: int(old.facts[name]) for name in ("pairs", "selected")}
        return StageSummary(STAGE, 1, 1, counts, time.monotonic() - began)
    progress.start(STAGE, len(generated), "shards")
    settings = recipe.selection
    pairs, unscored, selection = select_pairs(
        _candidates(run, recipe, generated, progress),
        selector=SELECTORS.load(settings.method, settings.selector, LoadContext()),
        scorers=list(recipe.scorers),
        top_n=settings.top_n,
        top_fraction=settings.top_fraction,
        min_scores=settings.min_scores,
    )
    if unscored:
        progress.note(
            f"warning: {unscored} captions are left out: the score of their best candidate is no "
            f"finite number, as early versions stored it"
        )
    counts = {"pairs": pairs, "selected": selection.num_rows}
    file = run.write(SELECTION_FILE, table_bytes(selection))
    run.commit(STAGE, 0, expected, [file], counts)
    seconds = time.monotonic() - began
    run.event("stage", stage=STAGE, seconds=round(seconds, 3), rows=pairs)
    return StageSummary(STAGE, 1, 0, counts, seconds)


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
