"""Commits that a run must have made and that are gone: its files are there, its markers are not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from synthvlm.checks.findings import Finding
from synthvlm.errors import RunFolderError
from synthvlm.run_folder.marker import marker_name
from synthvlm.stages.curation.resources import is_written
from synthvlm.stages.data_set_folder import CARD_FILE, FOLDER
from synthvlm.stages.export import PARTS_FOLDER
from synthvlm.stages.selected_pairs import SELECTION_FILE

if TYPE_CHECKING:
    from synthvlm.checks.snapshot import Snapshot
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["lost_commits"]

#: Shard or part of a file with a name of its own for each attempt.
_SHARD = re.compile(r".*-(\d{5,})-[0-9a-f]{8}(\.parquet)?")


def lost_commits(run: RunFolder, recipe: Recipe, snapshot: Snapshot) -> Iterator[Finding]:
    """What has files and no marker, though a later stage, which needs it, has begun.

    The files of a shard are written before its marker, so what an interrupted run leaves of its
    last stage is no loss: it is a stray. What models measured or wrote of captions is not needed
    once these are curated.
    """
    stages = {
        "measure": "measures",
        "curate": "captions",
        "calibrate": "calibrate",
        "generate": "candidates",
        "select": SELECTION_FILE,
        "export": PARTS_FOLDER,
        "dataset": f"{FOLDER}/{CARD_FILE}",
    }
    committed = snapshot.shards()
    there = {stage: set(_shards(run, place)) for stage, place in stages.items()}
    curated = there["curate"].union(committed.get("curate", ()))
    there["generate"] |= _selected(run) & curated
    if recipe.generation.adaptive is None:
        there["calibrate"].clear()
    names = list(stages)
    for place, stage in enumerate(names):
        later = names[place + 1 :]
        # The card is the last file of a data set: a reader takes it for a whole one.
        has_begun = stage == "dataset" or any(there[one] or one in committed for one in later)
        if has_begun:
            for shard in sorted(there[stage] - set(committed.get(stage, ()))):
                yield _lost(stage, shard)
    if curated and "sources" not in committed and not any(map(is_written, recipe.sources)):
        yield _lost("sources", 0)


def _lost(stage: str, shard: int) -> Finding:
    problem = "its results are there or were used, and nothing commits them"
    return Finding(stage, shard, marker_name(stage, shard), "missing", problem)


def _shards(run: RunFolder, place: str) -> Iterator[int]:
    """The shards of which a folder holds files; of a single file, 0."""
    if run.exists(place):
        yield 0
        return
    for name in run.listing(place):
        match = _SHARD.fullmatch(name)
        if match is not None:
            yield int(match[1])


def _selected(run: RunFolder) -> set[int]:
    """The shards of which pairs are selected."""
    try:
        return set(run.read_table(SELECTION_FILE, ["shard"])["shard"].to_pylist())
    except RunFolderError:
        return set()  # there is none, or a finding says that it is damaged
