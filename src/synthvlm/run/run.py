"""A run: its tables, its report and its data set, for Python and notebooks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthvlm.data import fingerprint
from synthvlm.errors import MissingExtraError, RunFolderError, SynthVLMError
from synthvlm.report.curation_page import CURATION_FILE
from synthvlm.run.kept_recipe import open_folder
from synthvlm.run.shards import candidate_shards, caption_shards, pair_shards
from synthvlm.run.tables import Table

if TYPE_CHECKING:
    from datasets import Dataset

    from synthvlm.exporters import Split
    from synthvlm.recipe import Recipe
    from synthvlm.run_folder.folder import RunFolder
    from synthvlm.stages.selected_pairs import SelectedPairs
    from synthvlm.stages.summary import StageSummary

__all__ = ["Run", "open_run"]

_REPORT = "report/index.html"


class Run:
    """A run, finished or not. Notebooks show its counts and some of its pairs.

    Example:
        >>> from synthvlm import Pipeline, Recipe
        >>> run = Pipeline(Recipe.load("tiny"), "runs/first").run()  # doctest: +SKIP
        >>> run.pairs.pandas().sort_values("score").tail()  # doctest: +SKIP

    Attributes:
        folder: Its folder.
        recipe: Its recipe.
        summaries: What each stage did in the call of ``Pipeline.run`` that returned it, but not
            the report; none of a run that was opened.
        captions: All captions, with their measures and verdicts.
        candidates: All candidates, with their scores; no images.
        pairs: The best candidate of each caption, with its image. ``rank`` is null where a pair is
            not selected.
    """

    def __init__(
        self, folder: RunFolder, recipe: Recipe, summaries: Sequence[StageSummary] = ()
    ) -> None:
        """Look at a run folder; nothing is read yet. See ``open_run``."""
        self.folder, self.recipe, self.summaries = folder, recipe, tuple(summaries)
        self.captions = Table(folder, "curate", partial(caption_shards, folder))
        self.candidates = Table(folder, "generate", partial(candidate_shards, folder))
        self.pairs = Table(folder, "generate", partial(pair_shards, folder, recipe))

    @property
    def report(self) -> str | None:
        """Path or URL of its report; None where none is written yet."""
        return self.folder.path(_REPORT) if self.folder.exists(_REPORT) else None

    @property
    def curation_report(self) -> str | None:
        """Path or URL of the report of its curation; None where none is written yet."""
        return self.folder.path(CURATION_FILE) if self.folder.exists(CURATION_FILE) else None

    def dataset(self, split: Split = "train") -> Dataset:
        """The selected pairs, with the columns and images of the exported data set.

        It is read from files in the cache of ``datasets``, which are written once and take as much
        space as the images.

        Args:
            split: ``train``, or ``validation`` where the recipe has ``export.validation_share``.

        Raises:
            MissingExtraError: ``datasets`` is not installed.
            RunFolderError: The split has no pairs, or the selection is out of date.
        """
        from synthvlm.exporters.huggingface import data_set_schema
        from synthvlm.stages.current import CurrentWork
        from synthvlm.stages.selected_pairs import SelectedPairs

        try:
            import datasets
        except ImportError:
            raise MissingExtraError(
                "datasets is not installed: pip install 'synthvlm[huggingface]'"
            ) from None
        work, url = CurrentWork(self.folder, self.recipe), self.folder.url
        outdated = work.outdated
        if outdated is not None and outdated.stage != "export":
            raise RunFolderError(
                f"the selection of {url} is out of date (stage {outdated.stage}): "
                f"{outdated.reason}; bring it up to date: synthvlm select --out {shlex.quote(url)}"
            )
        selected = SelectedPairs(self.folder, self.recipe, work.captions, work.generated)
        if not selected.splits.get(split):
            raise RunFolderError(f"{url}: no pairs are selected for the split {split!r}")
        schema = data_set_schema(list(self.recipe.scorers))
        try:
            return datasets.Dataset.from_generator(
                partial(_records, selected, split),
                features=datasets.Features.from_arrow_schema(schema),
                fingerprint=_identity(selected, split, self.recipe),
            )
        except datasets.exceptions.DatasetGenerationError as error:
            if isinstance(error.__cause__, SynthVLMError):
                raise error.__cause__ from None
            raise

    def __repr__(self) -> str:
        """The folder."""
        return f"Run({self.folder.url!r})"

    def _repr_html_(self) -> str:
        from synthvlm.run.contact_sheet import contact_sheet

        return contact_sheet(self.folder, self.recipe, self.report)


def _records(selected: SelectedPairs, split: Split) -> Iterator[dict[str, Any]]:
    from synthvlm.exporters.huggingface import record

    for part in selected.parts(split):
        yield from map(record, selected.pairs(part))


def _identity(selected: SelectedPairs, split: Split, recipe: Recipe) -> str:
    """A hash of all that the pairs depend on: by it ``datasets`` knows what it has written."""
    parts = list(selected.parts(split))
    ids = [part["caption_id"].to_pylist() for part in parts]
    return fingerprint(
        [selected.inputs(part) for part in parts], ids, recipe.export.model_dump_json()
    )


def open_run(folder: str | Path) -> Run:
    """An existing run.

    Args:
        folder: A local path or any fsspec URL.

    Raises:
        RunFolderError: It is not a run folder, or its recipe is damaged.
        RecipeError: Its recipe is not one of this version with the plug-ins that are loaded.
    """
    return Run(*open_folder(str(folder)))
