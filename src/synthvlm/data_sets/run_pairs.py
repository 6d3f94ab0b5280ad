"""The selected pairs of a run, read from its folder, as a data set among others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from synthvlm.checks.current import refuse_outdated, runs_of
from synthvlm.data_sets.inputs import KnownDataSet, open_data_set, parse_input
from synthvlm.data_sets.pairs import BadPair, Entry, LoadedPair, PairFacts
from synthvlm.run.kept_recipe import open_folder
from synthvlm.stages.current import CurrentWork
from synthvlm.stages.selected_pairs import SelectedPairs

if TYPE_CHECKING:
    from synthvlm.exporters import ExportedPair
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder

__all__ = ["RunPairs", "open_pairs"]


class RunPairs:
    """The pairs that a run has exported, whatever the format.

    Attributes:
        label: What it is called.
        path: The run folder.
        run: The same.
        recipe: Its recipe.
        work: Its shards.
    """

    def __init__(self, url: str) -> None:
        """Open a run.

        Raises:
            RunFolderError: It is no run folder, or its data set is not finished or out of date.
            RecipeError: Its recipe cannot be read.
        """
        self.run: RunFolder
        self.recipe: Recipe
        self.run, self.recipe = open_folder(url)
        refuse_outdated(self.run, self.recipe)
        self.label = self.path = self.run.url
        self.work = CurrentWork(self.run, self.recipe)

    def selected(self, recipe: Recipe) -> SelectedPairs:
        """The pairs as a recipe exports them.

        Args:
            recipe: That of the run, but for settings of ``export``.
        """
        return SelectedPairs(self.run, recipe, self.work.captions, self.work.generated)

    def captions(self) -> Iterator[Entry | BadPair]:
        """See ``DataSet``."""
        for pair in self._exported():
            yield _entry(self.path, pair)

    def pairs(self) -> Iterator[LoadedPair | BadPair]:
        """See ``DataSet``."""
        for pair in self._exported():
            yield LoadedPair(_entry(self.path, pair), pair.image)

    def _exported(self) -> Iterator[ExportedPair]:
        selected = self.selected(self.recipe)
        for part in selected.parts():
            yield from selected.pairs(part)


def _entry(path: str, pair: ExportedPair) -> Entry:
    facts = PairFacts(
        source=pair.source,
        rank=pair.rank,
        scores=pair.scores,
        score=pair.score,
        seed=pair.seed,
        index=pair.index,
    )
    where = f"{path}, {pair.id[:100]}"
    return Entry(where, pair.id, pair.caption, pair.split, facts)


def open_pairs(text: str) -> RunPairs | KnownDataSet:
    """A run folder, at a URL too, or a data set, as a user names it; with what runs recorded.

    Args:
        text: A run folder or what is in its ``dataset/``, which stands for the run; or as for
            ``parse_input``.

    Raises:
        RunFolderError: As ``RunPairs``.
        RecipeError: As ``RunPairs`` and ``parse_input``.
        CaptionSourceError: As ``open_data_set``.
    """
    if "://" in text and not os.path.exists(text):
        return RunPairs(text)
    named = parse_input(text)
    for folder in () if named.images else runs_of(named.path):
        return RunPairs(str(folder))
    return open_data_set(named, with_facts=True)
