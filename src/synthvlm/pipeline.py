"""From a recipe to a run folder: the stages, in order. Read this first.

captions -> measure -> curate -> generate, score, choose -> select -> export -> report
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from synthvlm.engines.base import LocalEngine
from synthvlm.errors import RecipeError, RunFolderError, TargetNotReachedError
from synthvlm.models.file_hashes import file_hash
from synthvlm.progress.display import Tracker
from synthvlm.progress.notebook import default_progress
from synthvlm.recipe import Recipe
from synthvlm.run import Run
from synthvlm.run.kept_recipe import LostRecipeError, earlier_recipe, fixed_settings
from synthvlm.run_folder.folder import PIPED, RECIPE_FILE, RunFolder

if TYPE_CHECKING:
    from synthvlm.engines.base import Engine
    from synthvlm.progress.display import Progress
    from synthvlm.run_folder.folder import Marker
    from synthvlm.stages.generation.models import Models
    from synthvlm.stages.generation.prompts import TakenCaptions
    from synthvlm.stages.summary import StageSummary

__all__ = ["STAGES", "Pipeline"]

#: The stages that can be asked for; each does the ones before it if they are missing.
STAGES = ("curate", "generate", "select", "export", "report")


class Pipeline:
    """Runs a recipe in a run folder.

    Example:
        >>> from synthvlm import Pipeline, Recipe
        >>> pipeline = Pipeline(Recipe.load("tiny"), "runs/first")
        >>> run = pipeline.run()  # doctest: +SKIP
        >>> run.pairs.pandas()  # doctest: +SKIP
    """

    #: Loads the models of generation workers; replaced in tests only.
    _load_models: Callable[[Recipe], Models] | None = None

    def __init__(
        self,
        recipe: Recipe,
        out: str | Path,
        *,
        engine: Engine | None = None,
        progress: Progress | None = None,
        piped: Path | None = None,
    ) -> None:
        """Create a pipeline; nothing is read or written yet.

        Args:
            recipe: The recipe.
            out: The run folder, a local path or fsspec URL. The run of an existing one is resumed.
            engine: Runs the shards of generation; by default in this process.
            progress: Shows progress; by default a bar in a notebook, and elsewhere nothing.
            piped: A local file among the sources that will be gone: the run keeps a copy of it.
        """
        self.recipe = recipe
        self._piped = piped
        self.folder = RunFolder(out)
        self._engine = engine or LocalEngine()
        self._progress = progress or default_progress()

    def run(self, until: str = "report", *, replace_images: bool = False) -> Run:
        """Run the stages up to and including one. Results that are up to date are reused.

        Args:
            until: The last stage, one of ``STAGES``.
            replace_images: Whether images of an earlier run may be lost, because captions, seed,
                models or scorers changed; otherwise the run stops before anything changes.

        Returns:
            The run: its tables, its report, and a summary of what each stage did.

        Raises:
            SynthVLMError: Something went wrong. Finished work is kept, and the same call resumes
                the run.
        """
        from synthvlm.rights import check_terms
        from synthvlm.stages.curation.resources import content_digest
        from synthvlm.stages.current import check_signing
        from synthvlm.stages.generation.stored_images import refuse_lost_images
        from synthvlm.stages.image_overlap import check_overlap

        if until not in STAGES:
            raise RecipeError(f"unknown stage {until!r} (valid: {', '.join(STAGES)})")
        for note in check_terms(self.recipe):
            self._progress.note(note)
        self.folder.prepare()
        state = self._progress.snapshot if isinstance(self._progress, Tracker) else None
        with self.folder.held(state, self._progress.note):
            self._keep_piped()
            self._fix_settings()
            self._tell_dropped_sources()
            if until in ("export", "report"):
                check_signing(self.folder, self.recipe)
            if until in ("select", "export", "report"):
                check_overlap(self.recipe.selection.image_overlap)
            digests = [content_digest(source) for source in self.recipe.sources]
            if until != "curate" and not replace_images:
                refuse_lost_images(self.folder, self.recipe, digests)
            self._write_recipe()
            self.folder.event("run", until=until, version=version("synthvlm"))
            try:
                summaries = self._stages(until, digests, replace_images=replace_images)
            except BaseException:
                with suppress(RunFolderError):  # a full disk must not hide the first error
                    self.folder.flush_events()
                raise
            self.folder.flush_events()
            if until == "report":
                from synthvlm.report import write_report

                write_report(self.folder, self.recipe, self._progress)
        self._check_target(summaries)
        return Run(self.folder, self.recipe, summaries)

    def _check_target(self, summaries: Sequence[StageSummary]) -> None:
        from synthvlm.stages.generation.target import STAGE, shortfall

        if self.recipe.target is None or len(summaries) < 3:
            return
        selected = [s.counts["selected"] for s in summaries if s.stage == "select"]
        problem = shortfall(self.recipe, self.folder.marker(STAGE, 0), *selected)
        if problem is not None:
            raise TargetNotReachedError(problem)

    def _stages(
        self, until: str, digests: Sequence[str], *, replace_images: bool
    ) -> list[StageSummary]:
        from synthvlm.report import CURATION_FILE, write_curation_report
        from synthvlm.stages.curation.advice import bound_lines, language_notes
        from synthvlm.stages.curation.curate import curate, funnel_lines
        from synthvlm.stages.curation.measure import measure

        run = self.folder
        summaries = [self._finished(measure(run, self.recipe, self._progress, digests))]
        measures = run.markers("measure")
        curated = curate(run, self.recipe, measures, self._progress)
        captions = run.markers("curate")
        details = funnel_lines(run, self.recipe, curated.counts)
        if not curated.reused:
            details += bound_lines(run, self.recipe, captions)
            for note in language_notes(run, self.recipe, captions):
                self._progress.note(note)
        # One that an earlier command wrote must not show verdicts that no longer hold.
        if until == "curate" or run.exists(CURATION_FILE):
            page = write_curation_report(run, self.recipe, captions)
            if until == "curate":
                details.append(f"report: {page}")
        summaries.append(self._finished(curated, details))
        if until != "curate":
            self._after_curation(until, captions, summaries, replace_images=replace_images)
        return summaries

    def _after_curation(
        self,
        until: str,
        captions: dict[int, Marker],
        summaries: list[StageSummary],
        *,
        replace_images: bool,
    ) -> None:
        from synthvlm.stages.current import check_none_gone, present_shards
        from synthvlm.stages.export import export
        from synthvlm.stages.generation.generate import generate
        from synthvlm.stages.generation.models import Models
        from synthvlm.stages.generation.target import generate_to_target
        from synthvlm.stages.questions import write_questions
        from synthvlm.stages.select import select

        run, progress = self.folder, self._progress
        self._fix_dtype()
        self._write_recipe()

        def generate_taken(taken: TakenCaptions | None = None) -> StageSummary:
            # For scorers that ask questions about captions, where there are any.
            write_questions(run, self.recipe, captions, progress, taken)
            return generate(
                run,
                self.recipe,
                self._engine,
                captions,
                progress,
                self._load_models or Models.load,
                replace_images=replace_images,
                taken=taken,
            )

        if self.recipe.target is None:
            summary = generate_taken()
        else:
            summary = generate_to_target(run, self.recipe, captions, generate_taken, progress)
        summaries.append(self._finished(summary))
        if until == "generate":
            return
        lost = summary.set_aside
        generated = present_shards(captions, run.markers("generate"), lost)
        check_none_gone(captions, generated, lost)
        summaries.append(self._finished(select(run, self.recipe, captions, generated, progress)))
        if until == "select":
            return
        summaries.append(self._finished(export(run, self.recipe, captions, generated, progress)))

    def _finished(self, summary: StageSummary, details: Sequence[str] = ()) -> StageSummary:
        from synthvlm.stages.summary import describe

        self._progress.finish(summary.stage, describe(summary), details)
        return summary

    def _keep_piped(self) -> None:
        """Copy captions that were piped in, under a name by their content, and read the copy."""
        if self._piped is None:
            return
        sources = []
        for source in self.recipe.sources:
            if source.path == str(self._piped):
                name = f"{PIPED}/{file_hash(self._piped)[:16]}.{source.format}"
                if not self.folder.exists(name):
                    self.folder.write(name, self._piped.read_bytes())
                self._progress.note(f"note: standard input is kept as {name}, read as it ends")
                source = source.model_copy(update={"path": self.folder.path(name)})
            sources.append(source)
        self.recipe = self.recipe.model_copy(update={"sources": sources})

    def _fix_settings(self) -> None:
        """Fix the settings that must not change within a run.

        Shards are ranges of rows, so their size cannot change. The number of threads changes the
        rounding of results. The dtype does too, unless the model is another one anyway.
        """
        old = self._old_settings()
        threads = self.recipe.run.threads
        dtype = self.recipe.generation.dtype
        if old is not None:
            if threads == "auto":
                threads = old.run.threads
            if dtype == "auto" and old.generation.model == self.recipe.generation.model:
                dtype = old.generation.dtype
            for name, new, fixed in (
                ("shard_size", self.recipe.run.shard_size, old.run.shard_size),
                ("threads", threads, old.run.threads),
            ):
                if new != fixed:
                    raise RunFolderError(
                        f"run.{name} cannot change from {fixed} to {new} in {self.folder.url}: set "
                        f"it back, or use a new run folder"
                    )
        if threads == "auto":
            threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self._update_recipe({"run": {"threads": threads}, "generation": {"dtype": dtype}})
        if old is None and self.folder.holds_work():
            self._fix_dtype()  # as the run did whose recipe is lost

    def _tell_dropped_sources(self) -> None:
        """Say which captions this run does not read that the folder's earlier one read."""
        old = None
        with suppress(LostRecipeError, RecipeError):  # of a plug-in that is not loaded now
            old = earlier_recipe(self.folder)
        if old is None:
            return
        now = {source.path for source in self.recipe.sources}
        dropped = [source.path for source in old.sources if source.path not in now]
        if dropped:
            more = f" and {len(dropped) - 3} more" if len(dropped) > 3 else ""
            self._progress.note(
                f"note: {self.folder.url} read {', '.join(dropped[:3])}{more} before, and does not "
                f"any more: to go on with these captions, name them by --captions"
            )

    def _old_settings(self) -> Recipe | None:
        """The settings that an earlier run fixed; None if there is none, or if they are lost."""
        if self.folder.exists(RECIPE_FILE):
            with suppress(LostRecipeError):
                return fixed_settings(self.folder)
        # The number of threads is lost; the size of shards can be told from two of them.
        sizes = [marker.facts.get("captions") for marker in self.folder.markers("measure").values()]
        if sizes:
            self._progress.note(
                f"note: {RECIPE_FILE} was lost or damaged: the recipe given now takes its place"
            )
        if len(sizes) > 1 and sizes[0] != self.recipe.run.shard_size:
            raise RunFolderError(
                f"the shards of {self.folder.url} hold {sizes[0]} captions, not "
                f"{self.recipe.run.shard_size}: add --set run.shard_size={sizes[0]}"
            )
        return None

    def _fix_dtype(self) -> None:
        if self.recipe.generation.dtype == "auto":
            from synthvlm.stages.generation.models import generation_dtype

            device = self.recipe.run.device
            if device == "auto" and self._engine.gpus():
                device = "cuda"  # of the workers; the driver may have none
            dtype = generation_dtype(self.recipe, device)
            self._update_recipe({"generation": {"dtype": dtype}})

    def _update_recipe(self, changes: dict[str, dict[str, object]]) -> None:
        sections = {
            name: getattr(self.recipe, name).model_copy(update=values)
            for name, values in changes.items()
        }
        self.recipe = self.recipe.model_copy(update=sections)

    def _write_recipe(self) -> None:
        text = self.recipe.to_yaml().encode("utf-8")
        if not self.folder.exists(RECIPE_FILE) or self.folder.read(RECIPE_FILE) != text:
            self.folder.write(RECIPE_FILE, text)
